//! State that expires by age. What an operator with a lifetime puts out is what one without puts out
//! whose keys have the number of their incarnation in them: an expired key is a new one. Joins, whose
//! rows expire one by one, are held against a naive join. All with late reads, moves and crashes; and
//! in the end nothing is left, in memory or stored.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    Element,
    operator::{Operator, OperatorError, TaskScope},
    state::{StateTtl, TimeDomain},
};
use proptest::prelude::*;
use proto::{
    plan::{self, AggregateCall, Changelog, ColumnSet, JoinType, SortKey},
    types::{Epoch, Field, TableId},
};

use crate::{
    ChangelogNormalizeOperator, DeduplicateOperator, JoinOperator, RankOperator,
    aggregate::GroupAggregateOperator,
    testing::{
        Event, Folded, MakeOperator, changelog, drive, drive_with_seed, fields, insert, left_behind,
    },
};

const TTL_MS: u64 = 10_000;
const TABLES: [TableId; 4] = [TableId(1), TableId(2), TableId(3), TableId(4)];

type Made = Result<Box<dyn Operator>, OperatorError>;

fn ttl(input_ms: &[u64]) -> StateTtl {
    StateTtl::new(input_ms.to_vec(), TimeDomain::Processing)
}

/// Small pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }
}

/// Additions less removals of each row, without some columns.
fn net(elements: &[Element], without: &[usize]) -> Folded {
    let mut net = Folded::new();
    for line in changelog(elements).lines() {
        let (kind, row) = line.split_at(2);
        if !matches!(kind, "+I" | "+U" | "-U" | "-D") {
            continue;
        }
        let values = row.trim().split(", ").enumerate();
        let kept = values.filter(|(column, _)| !without.contains(column));
        let kept: Vec<&str> = kept.map(|(_, value)| value).collect();
        let step = if kind.starts_with('+') { 1 } else { -1 };
        *net.entry(kept.join(", ")).or_default() += step;
    }
    net.retain(|_, count| *count != 0);
    net
}

/// What a key has been through.
#[derive(Clone, Debug, Default)]
struct KeyLife {
    incarnation: u64,
    /// Rows of this incarnation, newest last.
    rows: Vec<(u64, u64)>,
    /// Rows of older ones.
    gone: Vec<(u64, u64)>,
    touched: u64,
}

/// Which operator, as far as a key's life depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Whatever comes touches; rows may be taken back.
    Counts { retracts: bool },
    /// Only what becomes the key's row touches; `first`: only the first does.
    Keeps { first: bool, deletes: bool },
}

/// A script for the operator with a lifetime, and one with incarnations for the other.
fn scripts(kind: Kind, columns: &[Field], seed: u64, steps: usize) -> [Vec<Event>; 2] {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let with_number: Vec<Field> = [columns, &fields(&[("incarnation", "INT NOT NULL")])].concat();
    let mut keys: BTreeMap<u64, KeyLife> = BTreeMap::new();
    let (mut now, mut next) = (0, 0);
    let mut scripts = [Vec::new(), Vec::new()];
    for _ in 0..steps {
        let (mut lines, mut numbered) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(6) {
            let key = random.below(9);
            next += 1;
            let life = keys.entry(key).or_default();
            if !life.rows.is_empty() && now >= life.touched + TTL_MS {
                life.incarnation += 1;
                life.gone.append(&mut life.rows);
            }
            let (line, known) = change(kind, life, &mut random, next, now);
            let key = if key == 8 {
                "NULL".to_owned()
            } else {
                key.to_string()
            };
            let (sign, rest) = line.split_at(2);
            if known {
                numbered.push(format!("{sign} {key}, {rest}, {}", life.incarnation));
            }
            lines.push(format!("{sign} {key}, {rest}"));
        }
        scripts[0].push(insert(0, columns, &lines.join("\n")));
        if !numbered.is_empty() {
            scripts[1].push(insert(0, &with_number, &numbered.join("\n")));
        }
        if random.below(3) == 0 {
            scripts
                .iter_mut()
                .for_each(|script| script.push(Event::Barrier));
        }
        if random.below(2) == 0 {
            let ms = [1, 700, TTL_MS / 3, TTL_MS - 1, TTL_MS, TTL_MS * 2][random.below(6) as usize];
            now += ms;
            scripts
                .iter_mut()
                .for_each(|script| script.push(Event::Passes(ms)));
        }
    }
    scripts
}

/// A change of a key, as kind and values behind it; whether whoever takes old incarnations for other
/// keys hears of it.
fn change(
    kind: Kind,
    life: &mut KeyLife,
    random: &mut Random,
    next: u64,
    now: u64,
) -> (String, bool) {
    let row = (random.below(4), next);
    let text = |sign: &str, row: (u64, u64)| format!("{sign}{}, {}", row.0, row.1);
    match kind {
        Kind::Counts { retracts: true } if random.below(3) == 0 => {
            let (from, known) = match life.rows.is_empty() {
                true => (&mut life.gone, false),
                false => (&mut life.rows, true),
            };
            if from.is_empty() {
                life.rows.push(row);
                life.touched = now;
                return (text("+I", row), true);
            }
            let old = from.swap_remove(random.below(from.len() as u64) as usize);
            if known {
                life.touched = now;
            }
            (text("-D", old), known)
        }
        Kind::Counts { .. } => {
            life.rows.push(row);
            life.touched = now;
            (text("+I", row), true)
        }
        Kind::Keeps { deletes: true, .. } if random.below(4) == 0 => {
            life.rows.clear();
            (text("-D", row), true)
        }
        Kind::Keeps { first, .. } => {
            if !first || life.rows.is_empty() {
                life.rows = vec![row];
                life.touched = now;
            }
            (text("+I", row), true)
        }
    }
}

fn check(
    kind: Kind,
    expiring: &MakeOperator<'_>,
    numbered: &MakeOperator<'_>,
    number_at: usize,
    seed: u64,
) {
    let columns = columns();
    let [script, numbered_script] = scripts(kind, &columns, seed, 40);
    let expected = net(&drive(numbered, &numbered_script), &[number_at]);
    let check = |output: Vec<Element>, how: &str| {
        assert_eq!(net(&output, &[]), expected, "seed {seed}, {how}");
    };
    check(drive(expiring, &script), "no crash");
    for seed in 0..4 {
        let some = |epoch: Epoch| (epoch.0 ^ seed).is_multiple_of(3);
        check(
            drive_with_seed(expiring, &script, seed, some).0,
            "some crashes",
        );
    }
    check(
        drive_with_seed(expiring, &script, 5, |_| true).0,
        "crashes all the time",
    );
    nothing_stays(expiring, &script, seed);
}

/// When nothing comes for long enough, nothing is left.
fn nothing_stays(make: &MakeOperator<'_>, script: &[Event], seed: u64) {
    let end = [Event::Barrier, Event::Passes(TTL_MS * 4), Event::Barrier];
    let script = [script, &end].concat();
    for crashes in [false, true] {
        let (rows, size) = left_behind(make, &script, seed, |_| crashes, &TABLES);
        assert!(rows.is_empty(), "seed {seed}, crashes {crashes}: {rows:?}");
        assert_eq!(size.rows, 0, "seed {seed}, crashes {crashes}");
    }
}

fn columns() -> Vec<Field> {
    fields(&[("k", "INT"), ("v", "INT"), ("id", "INT")])
}

fn numbered_columns() -> Vec<Field> {
    [columns(), fields(&[("incarnation", "INT NOT NULL")])].concat()
}

fn call(function: &str, args: &[u32], distinct: bool, data_type: &str) -> AggregateCall {
    AggregateCall {
        function: function.to_owned(),
        args: args.to_vec(),
        distinct,
        filter: None,
        r#type: data_type.to_owned(),
        name: function.to_owned(),
    }
}

fn aggregate(
    numbered: bool,
    retracts: bool,
    calls: &[AggregateCall],
) -> impl Fn(&TaskScope) -> Made {
    let spec = plan::GroupAggregate {
        keys: if numbered { vec![0, 3] } else { vec![0] },
        calls: calls.to_vec(),
        from_partial: false,
        emit_update_before: true,
    };
    let (columns, ttl) = match numbered {
        true => (numbered_columns(), StateTtl::NEVER),
        false => (columns(), ttl(&[TTL_MS])),
    };
    move |scope| {
        let tables = &TABLES[..3];
        GroupAggregateOperator::build(&spec, &columns, tables, !retracts, &ttl, scope)
    }
}

fn deduplicate(numbered: bool, keep_last: bool) -> impl Fn(&TaskScope) -> Made {
    let spec = plan::Deduplicate {
        keys: if numbered { vec![0, 3] } else { vec![0] },
        time_column: None,
        keep_last,
        window: None,
        emit_update_before: true,
    };
    let (columns, ttl) = match numbered {
        true => (numbered_columns(), StateTtl::NEVER),
        false => (columns(), ttl(&[TTL_MS])),
    };
    move |scope| DeduplicateOperator::build(&spec, &columns, &TABLES[..1], &ttl, scope)
}

fn normalize(numbered: bool) -> impl Fn(&TaskScope) -> Made {
    let spec = plan::ChangelogNormalize {
        keys: if numbered { vec![0, 3] } else { vec![0] },
        emit_update_before: true,
    };
    let (columns, ttl) = match numbered {
        true => (numbered_columns(), StateTtl::NEVER),
        false => (columns(), ttl(&[TTL_MS])),
    };
    move |scope| ChangelogNormalizeOperator::build(&spec, &columns, &TABLES[..1], &ttl, scope)
}

fn rank(numbered: bool, limit: u64, retracts: bool) -> impl Fn(&TaskScope) -> Made {
    let spec = plan::Rank {
        partition_by: if numbered { vec![0, 3] } else { vec![0] },
        order_by: [1, 2]
            .map(|column| SortKey {
                column,
                descending: false,
                nulls_last: false,
            })
            .to_vec(),
        offset: 0,
        limit,
        output_rank: false,
        window: None,
        emit_update_before: true,
    };
    let (columns, ttl) = match numbered {
        true => (numbered_columns(), StateTtl::NEVER),
        false => (columns(), ttl(&[TTL_MS])),
    };
    let input = if retracts {
        Changelog::RETRACT
    } else {
        Changelog::APPEND
    };
    move |scope| RankOperator::build(&spec, &columns, &TABLES[..1], &input, &ttl, scope)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_expired_group_is_a_new_one(seed in any::<u64>(), retracts in any::<bool>(), distinct in any::<bool>()) {
        let mut calls = vec![call("COUNT", &[], false, "BIGINT NOT NULL"), call("SUM", &[2], false, "INT")];
        if distinct {
            calls.push(call("COUNT", &[1], true, "BIGINT NOT NULL"));
            calls.push(call("MIN", &[1], false, "INT"));
        }
        let kind = Kind::Counts { retracts };
        check(kind, &aggregate(false, retracts, &calls), &aggregate(true, retracts, &calls), 1, seed);
    }

    #[test]
    fn an_expired_row_of_a_key_is_forgotten(seed in any::<u64>(), first in any::<bool>()) {
        let kind = Kind::Keeps { first, deletes: false };
        check(kind, &deduplicate(false, !first), &deduplicate(true, !first), 3, seed);
        let kind = Kind::Keeps { first: false, deletes: true };
        check(kind, &normalize(false), &normalize(true), 3, seed);
    }

    #[test]
    fn an_expired_partition_is_a_new_one(seed in any::<u64>(), limit in 1_u64..4) {
        let kind = Kind::Counts { retracts: true };
        check(kind, &rank(false, limit, true), &rank(true, limit, true), 3, seed);
        let kind = Kind::Counts { retracts: false };
        check(kind, &rank(false, 1_000, false), &rank(true, 1_000, false), 3, seed);
    }
}

// ---------------------------------------------------------------- joins

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
                let copies = other.copies as i64;
                // Only one of equal rows is taken to have come or gone: a row by itself is told once.
                let _ = copies;
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
fn in_event_time_state_ages_by_the_watermark() {
    let spec = plan::GroupAggregate {
        keys: vec![0],
        calls: vec![call("COUNT", &[], false, "BIGINT NOT NULL")],
        from_partial: false,
        emit_update_before: false,
    };
    let columns = columns();
    let ttl = StateTtl::new(vec![100], TimeDomain::Event);
    let make = |scope: &TaskScope| {
        GroupAggregateOperator::build(&spec, &columns, &TABLES[..3], true, &ttl, scope)
    };
    let script = [
        // Before any watermark no time passes.
        insert(0, &columns, "1, 0, 0"),
        Event::Passes(1_000_000),
        insert(0, &columns, "1, 0, 0"),
        Event::Watermark(5_000),
        Event::Watermark(5_050),
        insert(0, &columns, "1, 0, 0\n2, 0, 0"),
        Event::Watermark(5_149),
        insert(0, &columns, "1, 0, 0"),
        Event::Watermark(5_150),
        insert(0, &columns, "1, 0, 0\n2, 0, 0"),
        Event::Watermark(5_400),
        insert(0, &columns, "1, 0, 0"),
    ];
    let text = changelog(&drive(&make, &script));
    let expected = "\
+I 1, 1
+U 1, 2
watermark 5000
watermark 5050
+U 1, 3
+I 2, 1
watermark 5149
+U 1, 4
watermark 5150
+U 1, 5
+I 2, 1
watermark 5400
+I 1, 1
";
    assert_eq!(text, expected);
    let end = [
        &script[..],
        &[
            Event::Barrier,
            Event::Watermark(9_000),
            Event::Passes(1_000),
            Event::Barrier,
        ],
    ]
    .concat();
    let (rows, size) = left_behind(&make, &end, 1, |_| false, &TABLES[..3]);
    assert_eq!((rows.len(), size.rows), (0, 0));
}
