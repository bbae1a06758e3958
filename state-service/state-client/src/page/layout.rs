//! The bytes of a run: header, flags and where each column lies. Both ways of the code, the
//! builder and the reader, take the layout from here.
//!
//! ```text
//! magic u16 · version u8 · flags u8 · rows u32
//! hashes      rows × u64
//! epochs      u64                       ONE_EPOCH: of every row
//!             u64, rows × u16           NEAR_EPOCHS: the smallest, what each row adds
//!             rows × u64                else
//! kinds       rows × u8                 0 value, 1 delete mark; left out with ALL_VALUES
//! identities  u32                       IDENTITY_WIDTH: width of every one
//!             rows × u32                else their ends
//! values      u32 | rows × u32          likewise with VALUE_WIDTH
//! identities  bytes
//! values      bytes
//! ```
//! All integers little endian. A delete mark has an empty value.

pub(super) const MAGIC: u16 = 0x4d53;
pub(super) const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 8;
pub(super) const VALUE: u8 = 0;
pub(super) const DELETE: u8 = 1;

/// Nothing lies below this run; it has no delete marks.
pub(super) const BASE: u8 = 1;
pub(super) const IDENTITY_WIDTH: u8 = 2;
pub(super) const VALUE_WIDTH: u8 = 4;
pub(super) const ONE_EPOCH: u8 = 8;
pub(super) const NEAR_EPOCHS: u8 = 16;
pub(super) const ALL_VALUES: u8 = 32;
pub(super) const KNOWN_FLAGS: u8 =
    BASE | IDENTITY_WIDTH | VALUE_WIDTH | ONE_EPOCH | NEAR_EPOCHS | ALL_VALUES;

/// Where the columns of a run begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) epochs: usize,
    pub(super) kinds: usize,
    pub(super) identity_ends: usize,
    pub(super) value_ends: usize,
    /// Where the identities' bytes begin.
    pub(super) identities: usize,
}

impl Columns {
    pub(super) fn new(flags: u8, rows: usize) -> Self {
        let has = |flag| flags & flag != 0;
        let epochs = HEADER_BYTES + rows * 8;
        let kinds = epochs
            + match (has(ONE_EPOCH), has(NEAR_EPOCHS)) {
                (true, _) => 8,
                (false, true) => 8 + rows * 2,
                (false, false) => rows * 8,
            };
        let identity_ends = kinds + if has(ALL_VALUES) { 0 } else { rows };
        let ends = |fixed: bool| if fixed { 4 } else { rows * 4 };
        let value_ends = identity_ends + ends(has(IDENTITY_WIDTH));
        let identities = value_ends + ends(has(VALUE_WIDTH));
        Columns {
            epochs,
            kinds,
            identity_ends,
            value_ends,
            identities,
        }
    }
}
