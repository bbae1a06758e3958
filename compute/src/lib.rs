//! The worker: builds tasks from plans and runs them.
