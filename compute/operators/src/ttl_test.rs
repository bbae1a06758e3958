//! State that expires by age. What an operator with a lifetime puts out is what one without puts out
//! whose keys have the number of their incarnation in them: an expired key is a new one; for joins see
//! `joins`. All with late reads, moves and crashes; and in the end nothing is left, in memory or stored.

#[path = "ttl_join_test.rs"]
mod joins;

use std::collections::BTreeMap;

use engine::{
    Element,
    operator::{Operator, OperatorError, TaskScope},
    state::{StateTtl, TimeDomain},
};
use proptest::prelude::*;
use proto::{
    plan::{
        self, AggregateCall, Changelog, OverCall, OverNumber, OverOrder, SortKey,
        over_call::Function,
    },
    types::{Epoch, Field, TableId},
};

use crate::{
    ChangelogNormalizeOperator, DeduplicateOperator, OverOperator, RankOperator,
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

/// Frames of so many rows before; `None`: from the first one on.
fn over(numbered: bool, preceding: Option<u64>, order: OverOrder) -> impl Fn(&TaskScope) -> Made {
    let sum = |distinct: bool| OverCall {
        function: Some(Function::Aggregate(call("SUM", &[1], distinct, "INT"))),
        r#type: "INT".to_owned(),
        name: "sum".to_owned(),
    };
    let number = OverCall {
        function: Some(Function::Number(OverNumber::RowNumber.into())),
        r#type: "BIGINT NOT NULL".to_owned(),
        name: "number".to_owned(),
    };
    let mut calls = vec![sum(false), sum(true)];
    calls.extend(preceding.is_none().then_some(number));
    let key = |column| SortKey {
        column,
        descending: false,
        nulls_last: false,
    };
    let spec = plan::OverAggregate {
        partition_by: if numbered { vec![0, 3] } else { vec![0] },
        order_by: match order {
            OverOrder::Kept => vec![key(1), key(2)],
            _ => Vec::new(),
        },
        order: order.into(),
        frame: Some(plan::OverFrame {
            range: false,
            preceding,
        }),
        calls,
        emit_update_before: true,
    };
    let (columns, ttl) = match numbered {
        true => (numbered_columns(), StateTtl::NEVER),
        false => (columns(), ttl(&[TTL_MS])),
    };
    let (input, tables) = match (order, preceding) {
        (OverOrder::Kept, _) => (Changelog::RETRACT, &TABLES[..1]),
        (_, None) => (Changelog::APPEND, &TABLES[..2]),
        (_, Some(_)) => (Changelog::APPEND, &TABLES[..1]),
    };
    move |scope| OverOperator::build(&spec, &columns, tables, &input, &ttl, scope)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn expired_rows_are_not_looked_back_at(seed in any::<u64>(), rows in 1_u64..4) {
        for preceding in [None, Some(rows)] {
            let arrival = |numbered: bool| over(numbered, preceding, OverOrder::ByArrival);
            let kind = Kind::Counts { retracts: false };
            check(kind, &arrival(false), &arrival(true), 3, seed);
            let kept = |numbered: bool| over(numbered, preceding, OverOrder::Kept);
            let kind = Kind::Counts { retracts: true };
            check(kind, &kept(false), &kept(true), 3, seed);
        }
    }

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
            // What is in the store only is found by walking through that, once a second.
            Event::Passes(3_000),
            Event::Barrier,
        ],
    ]
    .concat();
    let (rows, size) = left_behind(&make, &end, 1, |_| false, &TABLES[..3]);
    assert_eq!((rows.len(), size.rows), (0, 0));
}

#[test]
fn what_changes_no_result_keeps_who_follows_alive() {
    let columns = columns();
    let calls = [call("MAX", &[1], false, "INT")];
    let script = [
        insert(0, &columns, "1, 5, 1"),
        Event::Passes(TTL_MS - 1),
        insert(0, &columns, "1, 3, 2"),
    ];
    let with_ttl = changelog(&drive(&aggregate(false, false, &calls), &script));
    assert_eq!(with_ttl, "+I 1, 5\n-U 1, 5\n+U 1, 5\n");
    // SELECT DISTINCT has nothing to say again.
    let distinct = changelog(&drive(&aggregate(false, false, &[]), &script));
    assert_eq!(distinct, "+I 1\n");
    let numbered = numbered_columns();
    let script = [
        insert(0, &numbered, "1, 5, 1, 0"),
        insert(0, &numbered, "1, 3, 2, 0"),
    ];
    let without = changelog(&drive(&aggregate(true, false, &calls), &script));
    assert_eq!(without, "+I 1, 0, 5\n");
}
