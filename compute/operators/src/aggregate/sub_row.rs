//! Rows of (group, value): how they are told apart in the store.
//!
//! ```text
//! hash      of the group's key
//! identity  hash of the value (8 bytes, big endian: what a read can ask for)
//!           · number of the value table (1 byte) · key length (u32) · key · value
//! ```

use engine::state::KeyIndex;

/// The parts of such an identity.
pub(crate) struct SubRow<'a> {
    /// Hash of the value and the table's number.
    pub(crate) sub: u64,
    /// Number of the value table.
    pub(crate) table: usize,
    /// The group's key.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: &'a [u8],
}

/// Appends an identity; `value` appends the value's bytes.
pub(crate) fn write_identity(
    keys: &KeyIndex,
    group: u32,
    sub: u64,
    table: usize,
    value: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&sub.to_be_bytes());
    out.push(table as u8);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    keys.write_identity(group, out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    value(out);
}

/// The parts of an identity.
pub(crate) fn read_identity(identity: &[u8]) -> Result<SubRow<'_>, String> {
    let parse = || {
        let (sub, rest) = identity.split_first_chunk::<8>()?;
        let (table, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, value) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        Some(SubRow {
            sub: u64::from_be_bytes(*sub),
            table: usize::from(*table),
            key,
            value,
        })
    };
    parse().ok_or_else(|| "a value's row has too few bytes".to_owned())
}
