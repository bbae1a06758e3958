//! Joins whose rows expire one by one, against a naive join.

use std::collections::BTreeSet;

use engine::{Element, operator::TaskScope};
use proptest::prelude::*;
use proto::{
    plan::{self, Changelog, ColumnSet, JoinType},
    types::{Epoch, Field},
};

use super::{Made, Random, TABLES, TTL_MS, net, nothing_stays, ttl};
use crate::{
    JoinOperator,
    testing::{Event, Folded, changelog, drive, drive_with_seed, fields, insert, left_behind},
};

/// How a side of a join changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Append,
    Retract,
    Upsert,
}

#[derive(Clone, Debug)]
struct JoinCase {
    kind: JoinType,
    sides: [Side; 2],
    ttl_ms: [u64; 2],
}

/// A live row: values, copies, last change.
#[derive(Clone, Debug)]
struct Row {
    key: u64,
    id: u64,
    copies: u64,
    stamp: u64,
}

/// A join of rows that are forgotten one by one.
struct Naive<'a> {
    case: &'a JoinCase,
    rows: [Vec<Row>; 2],
    out: Folded,
}

impl Naive<'_> {
    fn expire(&mut self, now: u64) {
        for (side, rows) in self.rows.iter_mut().enumerate() {
            let ttl = self.case.ttl_ms[side];
            rows.retain(|row| ttl == 0 || now < row.stamp + ttl);
        }
    }

    fn put(&mut self, left: Option<(u64, u64)>, right: Option<(u64, u64)>, step: i64) {
        let text = |row: Option<(u64, u64)>| match row {
            Some((key, id)) => format!("{key}, {id}"),
            None => "NULL, NULL".to_owned(),
        };
        let row = match self.case.kind {
            JoinType::Semi | JoinType::Anti => text(left),
            _ => format!("{}, {}", text(left), text(right)),
        };
        *self.out.entry(row).or_default() += step;
    }

    /// The row of a side by itself, put out or taken back as it has matches or not.
    fn bare(&mut self, side: usize, row: (u64, u64), matched: bool, step: i64) {
        use JoinType as J;
        let shown = match (self.case.kind, side) {
            (J::Left | J::Full, 0) | (J::Right | J::Full, 1) | (J::Anti, 0) => !matched,
            (J::Semi, 0) => matched,
            _ => false,
        };
        if shown && side == 0 {
            self.put(Some(row), None, step);
        } else if shown {
            self.put(None, Some(row), step);
        }
    }

    /// A copy of a row comes or goes, and with the first or last one the row.
    fn change(&mut self, side: usize, row: (u64, u64), adds: bool, distinct: bool) {
        let step = if adds { 1 } else { -1 };
        let others: Vec<Row> = self.rows[1 - side]
            .iter()
            .filter(|other| other.key == row.0)
            .cloned()
            .collect();
        let own = self.rows[side]
            .iter()
            .filter(|own| own.key == row.0)
            .count();
        for other in &others {
            let there = (other.key, other.id);
            if !matches!(self.case.kind, JoinType::Semi | JoinType::Anti) {
                for _ in 0..other.copies {
                    match side {
                        0 => self.put(Some(row), Some(there), step),
                        _ => self.put(Some(there), Some(row), step),
                    }
                }
            }
            // `own` counts the row itself while it is there.
            if distinct && own == 1 {
                // However many copies there are of it: a row by itself is told once.
                self.bare(1 - side, there, !adds, -1);
                self.bare(1 - side, there, adds, 1);
            }
        }
        self.bare(side, row, !others.is_empty(), step);
    }
}

fn join_columns() -> Vec<Field> {
    fields(&[("k", "INT"), ("id", "INT")])
}

fn make_join(case: &JoinCase) -> impl Fn(&TaskScope) -> Made {
    let key = |side: Side| (side == Side::Upsert).then(|| ColumnSet { columns: vec![1] });
    let spec = plan::Join {
        r#type: case.kind.into(),
        left_keys: vec![0],
        right_keys: vec![0],
        null_safe: vec![false],
        condition: None,
        left_unique_key: key(case.sides[0]),
        right_unique_key: key(case.sides[1]),
        ..plan::Join::default()
    };
    let changelogs = case.sides.map(|side| match side {
        Side::Append => Changelog::APPEND,
        Side::Retract => Changelog::RETRACT,
        Side::Upsert => Changelog::UPSERT,
    });
    let ttl = ttl(&case.ttl_ms);
    move |scope| {
        let columns = join_columns();
        let inputs = [&columns[..], &columns[..]];
        JoinOperator::build(&spec, &inputs, &TABLES[..2], &changelogs, &ttl, scope)
    }
}

fn join_script(case: &JoinCase, seed: u64) -> (Vec<Event>, Folded) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut naive = Naive {
        case,
        rows: [Vec::new(), Vec::new()],
        out: Folded::new(),
    };
    let mut ever: [BTreeSet<(u64, u64)>; 2] = Default::default();
    let (mut script, mut now, mut next) = (Vec::new(), 0, 0);
    for _ in 0..40 {
        let side = random.below(2) as usize;
        let mut lines = Vec::new();
        naive.expire(now);
        for _ in 0..=random.below(4) {
            next += 1;
            let key = random.below(5);
            let taken_back = case.sides[side] != Side::Append && random.below(3) == 0;
            if taken_back && !ever[side].is_empty() {
                // Perhaps of a row that has expired.
                let at = random.below(ever[side].len() as u64) as usize;
                let row = *ever[side].iter().nth(at).expect("one of them");
                lines.push(format!("-D {}, {}", row.0, row.1));
                let place = naive.rows[side].iter().position(|r| (r.key, r.id) == row);
                let Some(place) = place else { continue };
                let is_last = naive.rows[side][place].copies == 1;
                naive.change(side, row, false, is_last);
                if is_last {
                    naive.rows[side].remove(place);
                } else {
                    naive.rows[side][place].copies -= 1;
                    naive.rows[side][place].stamp = now;
                }
                continue;
            }
            // Equal rows are told apart nowhere: outer rows would be told as often as there are copies.
            let again = case.sides[side] == Side::Retract && case.kind == JoinType::Inner;
            let row = match ever[side].iter().next() {
                Some(row) if again && random.below(3) == 0 => *row,
                _ => (key, next),
            };
            ever[side].insert(row);
            lines.push(format!("+I {}, {}", row.0, row.1));
            let place = naive.rows[side].iter().position(|r| (r.key, r.id) == row);
            match place.filter(|_| case.sides[side] == Side::Retract) {
                Some(place) => {
                    naive.change(side, row, true, false);
                    naive.rows[side][place].copies += 1;
                    naive.rows[side][place].stamp = now;
                }
                None => {
                    naive.rows[side].push(Row {
                        key: row.0,
                        id: row.1,
                        copies: 1,
                        stamp: now,
                    });
                    naive.change(side, row, true, true);
                }
            }
        }
        script.push(insert(side, &join_columns(), &lines.join("\n")));
        if random.below(3) == 0 {
            script.push(Event::Barrier);
        }
        if random.below(2) == 0 {
            let ms = [1, 900, TTL_MS / 3, TTL_MS - 1, TTL_MS][random.below(5) as usize];
            now += ms;
            script.push(Event::Passes(ms));
        }
    }
    naive.out.retain(|_, count| *count != 0);
    (script, naive.out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn expired_rows_of_a_join_match_nothing(
        seed in any::<u64>(),
        kind in prop::sample::select(vec![
            JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Semi, JoinType::Anti,
        ]),
        left in prop::sample::select(vec![Side::Append, Side::Retract, Side::Upsert]),
        right in prop::sample::select(vec![Side::Append, Side::Retract, Side::Upsert]),
        shorter in 0_usize..3,
    ) {
        let mut ttl_ms = [TTL_MS; 2];
        if shorter < 2 {
            ttl_ms[shorter] = TTL_MS / 4;
        }
        let case = JoinCase { kind, sides: [left, right], ttl_ms };
        let (script, expected) = join_script(&case, seed);
        let make = make_join(&case);
        let check = |output: Vec<Element>, how: &str| {
            assert_eq!(net(&output, &[]), expected, "{case:?}, seed {seed}, {how}");
        };
        check(drive(&make, &script), "no crash");
        for seed in 0..4 {
            let some = |epoch: Epoch| (epoch.0 ^ seed).is_multiple_of(3);
            check(drive_with_seed(&make, &script, seed, some).0, "some crashes");
        }
        nothing_stays(&make, &script, seed);
    }
}

#[test]
fn one_side_of_a_join_may_be_kept_for_ever() {
    let case = JoinCase {
        kind: JoinType::Inner,
        sides: [Side::Append, Side::Append],
        ttl_ms: [0, TTL_MS],
    };
    let columns = join_columns();
    let script = [
        insert(0, &columns, "1, 10"),
        insert(1, &columns, "1, 20"),
        Event::Barrier,
        Event::Passes(TTL_MS * 3),
        insert(0, &columns, "1, 11"),
        insert(1, &columns, "1, 21"),
        Event::Barrier,
    ];
    let make = make_join(&case);
    let text = changelog(&drive(&make, &script));
    let expected = "+I 1, 10, 1, 20\nbarrier 1\n+I 1, 11, 1, 21\n+I 1, 10, 1, 21\nbarrier 2\n";
    assert_eq!(text, expected);
    let end = [&script[..], &[Event::Passes(TTL_MS * 3), Event::Barrier]].concat();
    let (rows, _) = left_behind(&make, &end, 1, |_| true, &TABLES);
    assert_eq!(rows.len(), 2, "the left side's");
}

#[test]
fn a_row_that_comes_again_as_it_is_lives_on() {
    let case = JoinCase {
        kind: JoinType::Inner,
        sides: [Side::Upsert, Side::Append],
        ttl_ms: [TTL_MS; 2],
    };
    let columns = join_columns();
    let script = [
        insert(0, &columns, "1, 10"),
        Event::Passes(TTL_MS / 2),
        insert(0, &columns, "+U 1, 10"),
        Event::Barrier,
        Event::Passes(TTL_MS / 2),
        insert(1, &columns, "1, 20"),
    ];
    let make = make_join(&case);
    for crashes in [false, true] {
        let (output, _) = drive_with_seed(&make, &script, 1, |_| crashes);
        assert_eq!(changelog(&output), "barrier 1\n+I 1, 10, 1, 20\n");
    }
    nothing_stays(&make, &script, 1);
}
