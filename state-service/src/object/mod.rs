//! Object stores as Millstream uses them: named by a URL, opened with limits, tried out before
//! anything is written, and marked as one cluster's. What goes wrong is told in one line.
//!
//! ```text
//! StoreUrl ─open─▶ OpenStore ─enter─▶ look for the identity ─▶ probe ─▶ make the identity
//! ```

mod directory;
mod enter;
mod error;
mod full;
mod identity;
#[cfg(test)]
mod object_test;
mod open;
mod probe;
mod read_now;
mod s3;
mod url;

pub use enter::{ENTER_MAX, enter};
pub use error::{Fault, StoreError};
pub use identity::{ClusterId, FORMAT, IDENTITY, Identity, Keeper, identity};
pub use open::{OpenStore, StoreKind, open};
pub use probe::probe;
pub use s3::{AccessKey, S3Bucket, S3Options, Secret};
pub use url::{StoreUrl, UrlError};
