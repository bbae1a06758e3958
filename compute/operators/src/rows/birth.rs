//! What tells rows apart that are only ever added: where and when each began.

/// Epoch, task and ordinal of an appended row.
pub(super) type Birth = (u64, u32, u64);

/// Appends the bytes of a birth.
pub(super) fn write_birth((epoch, task, ordinal): Birth, out: &mut Vec<u8>) {
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&task.to_be_bytes());
    out.extend_from_slice(&ordinal.to_be_bytes());
}

/// Reads what [`write_birth`] wrote.
pub(super) fn read_birth(identity: &[u8]) -> Option<Birth> {
    let (epoch, rest) = identity.split_first_chunk::<8>()?;
    let (task, rest) = rest.split_first_chunk::<4>()?;
    let ordinal = rest.first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*epoch),
        u32::from_be_bytes(*task),
        u64::from_be_bytes(*ordinal),
    ))
}
