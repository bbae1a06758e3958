//! Headers of persisted state, as generated from `schema/state.proto`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/millstream.state.v1.rs"));
