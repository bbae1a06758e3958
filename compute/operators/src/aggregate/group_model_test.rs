//! Grouping operators against a model that keeps all rows, over random scripts with crashes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::types::Field;

use super::group_test::{group, maker};
use crate::testing::{Event, Fold, crash_at_each_barrier, fields, insert};

/// A row of the random scripts: key, value, flag.
type Row = (i64, Option<i64>, Option<bool>);

const RANDOM_CALLS: [&str; 12] = [
    "COUNT(): BIGINT",
    "COUNT(1): BIGINT",
    "SUM(1): BIGINT",
    "AVG(1): BIGINT",
    "MIN(1): BIGINT",
    "MAX(1) FILTER 2: BIGINT",
    "COUNT(1) DISTINCT: BIGINT",
    "COUNT(1) DISTINCT FILTER 2: BIGINT",
    "SUM(1) DISTINCT FILTER 2: BIGINT",
    "VAR_POP(1): BIGINT",
    "MAX(3): STRING",
    "COUNT(3) DISTINCT: BIGINT",
];

fn model(rows: &[Row]) -> BTreeMap<String, i64> {
    use std::collections::{BTreeMap, BTreeSet};
    let mut groups: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    rows.iter()
        .for_each(|row| groups.entry(row.0).or_default().push(row));
    let text = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
    groups
        .into_iter()
        .map(|(key, rows)| {
            let values: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
            let passing = || {
                rows.iter()
                    .filter(|row| row.2 == Some(true))
                    .filter_map(|row| row.1)
            };
            let distinct: BTreeSet<i64> = values.iter().copied().collect();
            let passing_distinct: BTreeSet<i64> = passing().collect();
            let some = |count: usize, value: i64| (count > 0).then_some(value);
            let n = values.len() as i64;
            let sum: i64 = values.iter().sum();
            let squares: i64 = values.iter().map(|value| value * value).sum();
            let strings: BTreeSet<String> =
                values.iter().map(|value| format!("s{value}")).collect();
            let results = [
                key.to_string(),
                rows.len().to_string(),
                n.to_string(),
                text(some(values.len(), sum)),
                text(some(values.len(), sum.checked_div(n).unwrap_or(0))),
                text(values.iter().copied().min()),
                text(passing().max()),
                distinct.len().to_string(),
                passing_distinct.len().to_string(),
                text(some(passing_distinct.len(), passing_distinct.iter().sum())),
                text(some(
                    values.len(),
                    (n * squares - sum * sum).checked_div(n * n).unwrap_or(0),
                )),
                strings.last().cloned().unwrap_or("NULL".to_owned()),
                strings.len().to_string(),
            ];
            (results.join(", "), 1)
        })
        .collect()
}

fn line(kind: &str, row: &Row) -> String {
    let value = row.1.map_or("NULL".to_owned(), |value| value.to_string());
    let flag = row.2.map_or("NULL".to_owned(), |flag| flag.to_string());
    let string = row.1.map_or("NULL".to_owned(), |value| format!("s{value}"));
    format!("{kind} {}, {value}, {flag}, {string}\n", row.0)
}

/// Cuts lines into batches with barriers between them, by turns of random lengths.
fn script(input: &[Field], lines: &[String], cuts: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut at = 0;
    let mut turn = 0;
    while at < lines.len() {
        let end = lines.len().min(at + 1 + cuts[turn % cuts.len()]);
        events.push(insert(0, input, &lines[at..end].concat()));
        if turn % 3 == 2 {
            events.push(Event::Barrier);
        }
        (at, turn) = (end, turn + 1);
    }
    events.push(Event::End);
    events
}

fn random_rows() -> impl Strategy<Value = Vec<(Row, prop::sample::Index)>> {
    let row = (
        0..5_i64,
        prop::option::of(-4..4_i64),
        prop::option::of(any::<bool>()),
    );
    prop::collection::vec((row, any::<prop::sample::Index>()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn appended_rows_fold_to_the_model(rows in random_rows(), cuts in prop::collection::vec(0..9_usize, 1..5), update_before: bool) {
        let input = fields(&[("k", "BIGINT"), ("v", "BIGINT"), ("f", "BOOLEAN"), ("s", "STRING")]);
        let spec = group(&[0], &RANDOM_CALLS, update_before);
        let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
        let lines: Vec<String> = rows.iter().map(|row| line("+I", row)).collect();
        let events = script(&input, &lines, &cuts);
        let fold = if update_before { Fold::Retract } else { Fold::Upsert(vec![0]) };
        let folded = crash_at_each_barrier(&maker(&spec, &input, true), &events, &fold);
        prop_assert_eq!(folded, model(&rows));
    }

    #[test]
    fn changed_rows_fold_to_the_model(steps in random_rows(), cuts in prop::collection::vec(0..9_usize, 1..5), update_before: bool) {
        let input = fields(&[("k", "BIGINT"), ("v", "BIGINT"), ("f", "BOOLEAN"), ("s", "STRING")]);
        let spec = group(&[0], &RANDOM_CALLS, update_before);
        let mut live: Vec<Row> = Vec::new();
        let mut lines = Vec::new();
        for (row, index) in steps {
            // About every other step takes a row back.
            if row.1.is_some_and(|value| value < 0) && !live.is_empty() {
                let gone = live.swap_remove(index.index(live.len()));
                lines.push(line(if row.0 == 0 { "-U" } else { "-D" }, &gone));
            } else {
                let row = (row.0, row.1.map(i64::abs), row.2);
                lines.push(line("+I", &row));
                live.push(row);
            }
        }
        let events = script(&input, &lines, &cuts);
        let fold = if update_before { Fold::Retract } else { Fold::Upsert(vec![0]) };
        let folded = crash_at_each_barrier(&maker(&spec, &input, false), &events, &fold);
        prop_assert_eq!(folded, model(&live));
    }
}
