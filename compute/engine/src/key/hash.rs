//! The key hash. It decides which key group, and so which task and which shard, has a key: it is
//! part of a job's plan and never changes within a version.

use xxhash_rust::xxh3::xxh3_64;

/// Version of these functions, kept in every plan.
pub const HASH_VERSION: u32 = 1;

/// Hash of a one-word key: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), in which
/// every input bit reaches every output bit.
#[inline]
#[must_use]
pub fn hash_u64(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Combines two hashes.
#[inline]
#[must_use]
pub fn mix(first: u64, second: u64) -> u64 {
    hash_u64(first ^ second.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// Hash of a two-word key.
#[inline]
#[must_use]
pub fn hash_u128(key: u128) -> u64 {
    mix(key as u64, (key >> 64) as u64)
}

/// Hash of a three-word key.
#[inline]
#[must_use]
pub fn hash_u192(key: [u64; 3]) -> u64 {
    mix(mix(key[0], key[1]), key[2])
}

/// Hash of a key of bytes: XXH3 (its 64-bit form, seed 0).
#[inline]
#[must_use]
pub fn hash_bytes(key: &[u8]) -> u64 {
    xxh3_64(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_this_version_never_change() {
        assert_eq!(hash_u64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(hash_bytes(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash_u128(1), mix(1, 0));
        assert_eq!(hash_u192([1, 2, 3]), mix(mix(1, 2), 3));
    }

    #[test]
    fn small_keys_spread_over_key_groups() {
        let mut counts = [0_u32; 256];
        for key in 0..25_600_u64 {
            counts[(hash_u128(u128::from(key)) >> 56) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (50..200).contains(count)),
            "{counts:?}"
        );
    }
}
