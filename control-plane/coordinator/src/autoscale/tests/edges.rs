//! What goes in: plans, figures, totals that begin anew.
