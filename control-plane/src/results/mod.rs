//! Rows of a SELECT on their way to whoever asked: as text, in commit order, bounded.

mod feed;
mod fold;
mod json;
mod row;
mod text;

pub use feed::{Chunk, Feed, FeedEnd, FeedReader};
pub use fold::{Fold, FoldError};
pub use json::{column_names, row_json};
pub use row::{ResultRow, escape, unescape};
pub use text::{push_separated, row_cells};
