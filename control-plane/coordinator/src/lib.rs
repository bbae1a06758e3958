//! Decides checkpoints, recovery and placement; does nothing.
