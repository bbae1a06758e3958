//! The order of rows by their hashes. Hashes are spread evenly, so where a row belongs is nearly known from
//! its hash alone: rows are put there, and those of one place into order (as in "flashsort"; Neubert, 1998).

/// Fewer rows are sorted as anything is.
const ROWS_MIN: usize = 128;

/// The numbers of rows with these hashes, by (hash, number). There are fewer than 2^32.
pub(super) fn by_hash(hashes: impl Iterator<Item = u64> + Clone) -> Vec<(u64, u32)> {
    let pairs = hashes.clone().zip(0_u32..);
    let (mut rows, mut least, mut greatest) = (0, u64::MAX, 0);
    for hash in hashes {
        rows += 1;
        least = least.min(hash);
        greatest = greatest.max(hash);
    }
    if rows < ROWS_MIN || least == greatest {
        let mut all: Vec<(u64, u32)> = pairs.collect();
        all.sort_unstable();
        return all;
    }
    // About one place for each row.
    let bits = (greatest - least).ilog2() + 1;
    let shift = bits.saturating_sub(rows.ilog2());
    let place = |hash: u64| ((hash - least) >> shift) as usize;
    let mut ends = vec![0_u32; place(greatest) + 1];
    pairs.clone().for_each(|(hash, _)| ends[place(hash)] += 1);
    let mut sum = 0;
    for end in &mut ends {
        (sum, *end) = (sum + *end, sum);
    }
    let mut all = vec![(0, 0); rows];
    for pair in pairs {
        // Where the next row of the place goes, and so in the end where the place ends.
        let next = &mut ends[place(pair.0)];
        all[*next as usize] = pair;
        *next += 1;
    }
    let mut start = 0;
    for end in ends {
        let together = &mut all[start..end as usize];
        if together.len() > 1 && !together.is_sorted() {
            together.sort_unstable();
        }
        start = end as usize;
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::mix;

    proptest! {
        #[test]
        fn is_the_order_of_pairs(
            rows in 0..2_000_usize,
            shift in 0..64_u32,
            repeated in 1..50_u64,
            least in prop_oneof![Just(0), any::<u64>()],
        ) {
            // Few hashes near each other, or all over, each several times.
            let hash = |n: u64| least.saturating_add(mix(n / repeated, 1) >> shift);
            let hashes: Vec<u64> = (0..rows as u64).rev().map(hash).collect();
            let mut expected: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            prop_assert_eq!(by_hash(hashes.iter().copied()), expected);
        }
    }
}
