//! The contract of the state service, its bytes, and the in-memory store.
