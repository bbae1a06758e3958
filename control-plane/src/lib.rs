//! REST, catalog, jobs; drives the cores.
