//! House rules that a compiler does not hold: who may depend on whom, how large a file may grow,
//! that every file says what it owns.

mod dependencies;
mod files;
mod invariants;
