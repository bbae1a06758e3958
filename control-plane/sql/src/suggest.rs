//! "Did you mean": the nearest of some names.

/// The candidate with the smallest edit distance to `name`, if it is near enough to be meant.
/// Case does not count.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    // Of a very short name two other letters make another word.
    let limit = match name.chars().count() {
        0..=3 => 1,
        4..=8 => 2,
        length => length / 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let replace = diagonal + usize::from(x != *y);
            diagonal = *slot;
            left = replace.min(diagonal + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(
                nearest(name, ["path", "format", "csv.field-delimiter"]),
                expected,
                "{name}"
            );
        };
        check("pth", Some("path"));
        check("Format", Some("format"));
        check("fromat", Some("format"));
        check("csv.field_delimeter", Some("csv.field-delimiter"));
        check("topic", None);
        check("pat", Some("path"));
        check("pth", Some("path"));
        check("ptt", None);
        check("", None);
    }

    #[test]
    fn edit_distance() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("ab", "ab"), 0);
    }
}
