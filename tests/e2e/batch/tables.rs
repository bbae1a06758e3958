//! Random input: two tables that only grow and one that changes, as files for Millstream and as
//! final rows for the batch engine.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use proptest::prelude::*;

/// Out-of-orderness that the watermark of the tables allows, in ms.
const DELAY_MS: i64 = 5_000;
/// Event time of the first row: an odd moment, before 1970 for some inputs.
const BASES_MS: [i64; 2] = [1_700_000_000_123, -40_000];
/// Rows of a table: enough for several epochs, few enough for joins of joins.
const ROWS: usize = 260;
const TEXTS: [&str; 5] = ["", "a", "Ab c", "bé", "日本"];

/// A row of a table that only grows.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) key: Option<i64>,
    pub(super) value: Option<i64>,
    pub(super) text: Option<&'static str>,
    pub(super) time_ms: i64,
}

/// A row of the table that changes: its primary key, and a key and a value as above.
pub(super) type Item = (i64, Option<i64>, Option<i64>);

/// Values of a row's two other columns; `None` deletes it.
type Change = Option<(Option<i64>, Option<i64>)>;

/// The input of a case.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) a: Vec<Event>,
    pub(super) b: Vec<Event>,
    /// Changes of table `u` in order, by key.
    changes: Vec<(i64, Change)>,
    /// Files that each of the growing tables is spread over.
    files: usize,
}

pub(super) fn tables() -> impl Strategy<Value = Tables> {
    (
        (prop::sample::select(&BASES_MS[..]), 2..30_i64, 1..4_usize),
        prop::collection::vec(seed(), 0..ROWS),
        prop::collection::vec(seed(), 0..ROWS),
        prop::collection::vec((0..25_i64, change()), 0..ROWS),
    )
        .prop_map(|((base_ms, keys, files), a, b, changes)| Tables {
            a: events(base_ms, keys, &a),
            b: events(base_ms, keys, &b),
            changes,
            files,
        })
}

/// Key, value and text (or NULL each), time since the row before, and how late the row comes.
type Seed = (Option<i64>, Option<i64>, Option<&'static str>, i64, i64);

fn seed() -> impl Strategy<Value = Seed> {
    (
        prop::option::weighted(0.9, 0..1000_i64),
        prop::option::weighted(0.9, -50..50_i64),
        prop::option::weighted(0.9, prop::sample::select(&TEXTS[..])),
        0..2_500_i64,
        0..DELAY_MS,
    )
}

fn change() -> impl Strategy<Value = Option<(Option<i64>, Option<i64>)>> {
    let row = (
        prop::option::weighted(0.9, 0..12_i64),
        prop::option::weighted(0.9, -50..50_i64),
    );
    prop::option::weighted(0.8, row)
}

fn events(base_ms: i64, keys: i64, seeds: &[Seed]) -> Vec<Event> {
    let mut now_ms = base_ms;
    let event = |(key, value, text, since_ms, late_ms): &Seed| {
        now_ms += since_ms;
        Event {
            key: key.map(|key| key % keys),
            value: *value,
            text: *text,
            time_ms: now_ms - late_ms,
        }
    };
    seeds.iter().map(event).collect()
}

impl Tables {
    /// Rows of the changing table at the end.
    pub(super) fn items(&self) -> Vec<Item> {
        let mut rows = BTreeMap::new();
        for (id, change) in &self.changes {
            match change {
                Some(row) => rows.insert(*id, *row),
                None => rows.remove(id),
            };
        }
        let item = |(id, (key, value))| (id, key, value);
        rows.into_iter().map(item).collect()
    }

    /// Writes the files and gives the statements that make tables of them.
    pub(super) fn write(&self, folder: &Path) -> String {
        let mut ddl = String::new();
        for (name, events) in [("a", &self.a), ("b", &self.b)] {
            let path = folder.join(name);
            fs::create_dir(&path).expect("a folder");
            for file in 0..self.files {
                let lines = events.iter().skip(file).step_by(self.files).map(line);
                let text: String = lines.collect();
                fs::write(path.join(format!("{file}.jsonl")), text).expect("written");
            }
            let _ = writeln!(
                ddl,
                "CREATE TABLE {name} (c0 BIGINT, c1 BIGINT, c2 STRING, c3 TIMESTAMP(3), \
                 WATERMARK FOR c3 AS c3 - INTERVAL '{}' SECOND) WITH ('connector' = \
                 'filesystem', 'path' = '{}', 'format' = 'json');",
                DELAY_MS / 1000,
                path.display()
            );
        }
        let path = folder.join("u.jsonl");
        fs::write(&path, self.changelog()).expect("written");
        ddl + &item_table(&path)
    }

    fn changelog(&self) -> String {
        let mut rows = BTreeMap::new();
        let mut text = String::new();
        for (id, change) in &self.changes {
            let row = |(key, value): &(Option<i64>, Option<i64>)| {
                format!(
                    "{{\"c0\": {id}, \"c1\": {}, \"c2\": {}}}",
                    json(*key),
                    json(*value)
                )
            };
            let after = change.as_ref().map(row);
            let before = match &after {
                Some(after) => rows.insert(*id, after.clone()),
                None => rows.remove(id),
            };
            let op = match (&before, &after) {
                (None, None) => continue,
                (None, Some(_)) => "c",
                (Some(_), Some(_)) => "u",
                (Some(_), None) => "d",
            };
            let null = || "null".to_owned();
            let _ = writeln!(
                text,
                "{{\"before\": {}, \"after\": {}, \"op\": \"{op}\"}}",
                before.unwrap_or_else(null),
                after.unwrap_or_else(null)
            );
        }
        text
    }
}

fn item_table(path: &Path) -> String {
    format!(
        "CREATE TABLE u (c0 BIGINT, c1 BIGINT, c2 BIGINT, PRIMARY KEY (c0) NOT ENFORCED) WITH \
         ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json');\n",
        path.display()
    )
}

fn json(value: Option<i64>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn line(event: &Event) -> String {
    let text = event
        .text
        .map_or_else(|| "null".to_owned(), |t| format!("\"{t}\""));
    format!(
        "{{\"c0\": {}, \"c1\": {}, \"c2\": {text}, \"c3\": \"{}\"}}\n",
        json(event.key),
        json(event.value),
        timestamp(event.time_ms)
    )
}

/// `yyyy-MM-dd HH:mm:ss.SSS`
pub(super) fn timestamp(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, so that leap days end the year (Hinnant, chrono-compatible low-level
    // date algorithms).
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000
    )
}
