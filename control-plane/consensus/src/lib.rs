//! A replicated log with a durable disk, behind a small trait.
