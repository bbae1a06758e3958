//! In which order splits are read, what that does to time, and what a restart reads.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
};

use engine::{
    clock::ManualClock,
    operator::Counters,
    source::{SourceError, SplitReader},
};
use futures::{FutureExt as _, future::BoxFuture};
use proto::plan::{Expr, Watermark};
use state_client::LoadedRow;

use super::*;
use crate::testing::{changelog, fields, rows, scope};

/// Two rows per split: `t` counts from ten times the split's number, plus one.
struct Numbers {
    order: ReadOrder,
    open: Arc<Mutex<BTreeSet<u64>>>,
    /// A split that never ends and never has more than its first row.
    silent: Option<u64>,
    /// Whether it knows what is in splits that nobody has open.
    knows: bool,
}

struct NumbersReader {
    split: u64,
    next: u64,
    silent: bool,
    open: Arc<Mutex<BTreeSet<u64>>>,
}

impl Numbers {
    fn of(order: ReadOrder) -> Numbers {
        Numbers {
            order,
            open: Arc::default(),
            silent: None,
            knows: false,
        }
    }
}

impl Source for Numbers {
    fn splits(&self, _parallelism: usize) -> BoxFuture<'_, Result<Vec<Split>, SourceError>> {
        std::future::ready(Ok(splits(0..3))).boxed()
    }

    fn read_order(&self) -> ReadOrder {
        self.order
    }

    fn open(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let reader = NumbersReader {
            split: u64::from(split.descriptor[0]),
            next: offset.map_or(0, |offset| u64::from(offset[0])),
            silent: self.silent == Some(u64::from(split.descriptor[0])),
            open: Arc::clone(&self.open),
        };
        reader.opened().insert(reader.split);
        Ok(Box::new(reader))
    }

    fn lag_rows(&self, _split: &Split, offset: Option<&[u8]>) -> Option<u64> {
        let read = offset.map_or(0, |offset| u64::from(offset[0]));
        self.knows.then_some(2 - read)
    }
}

impl NumbersReader {
    fn opened(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NumbersReader {
    fn drop(&mut self) {
        self.opened().remove(&self.split);
    }
}

impl SplitReader for NumbersReader {
    fn poll_next(
        &mut self,
        _cx: &mut Context<'_>,
        _max_rows: usize,
    ) -> Poll<Result<SplitEvent, SourceError>> {
        if self.silent && self.next == 1 {
            return Poll::Pending;
        }
        if self.next == 2 {
            return Poll::Ready(Ok(SplitEvent::Finished));
        }
        let ms = self.split * 10 + self.next + 1;
        self.next += 1;
        let text = format!("+I 1970-01-01 00:00:00.{ms:03}");
        Poll::Ready(Ok(SplitEvent::Batch(rows(&columns(), &text))))
    }

    fn offset(&self) -> Vec<u8> {
        vec![self.next as u8]
    }

    fn lag_rows(&self) -> Option<u64> {
        Some(2 - self.next)
    }
}

fn columns() -> Vec<Field> {
    fields(&[("t", "TIMESTAMP(3)")])
}

fn splits(numbers: std::ops::Range<u8>) -> Vec<Split> {
    let split = |number: u8| Split {
        id: format!("split-{number}"),
        descriptor: vec![number],
    };
    numbers.map(split).collect()
}

/// A task's source, and which of its splits are open.
struct Run {
    clock: ManualClock,
    source: SplitSource,
    open: Arc<Mutex<BTreeSet<u64>>>,
    scope: TaskScope,
}

impl Run {
    fn new(order: ReadOrder, splits: &[Split], scope: TaskScope) -> Run {
        Run::over(Numbers::of(order), splits, scope)
    }

    /// Where a split falls silent, the timeout for that is 100 ms.
    fn over(connector: Numbers, splits: &[Split], scope: TaskScope) -> Run {
        let (open, silent) = (Arc::clone(&connector.open), connector.silent);
        let columns = columns();
        let spec = plan::Source {
            produced: Some(plan::row_type(&columns)),
            watermark: Some(Watermark {
                column: 0,
                expr: Some(Expr::column(0, &columns[0].data_type)),
                idle_timeout_ms: if silent.is_some() { 100 } else { 0 },
            }),
            ..plan::Source::default()
        };
        let source = SplitSource::new(
            &spec,
            &columns,
            Arc::new(connector),
            splits,
            &[TableId(1)],
            &scope,
        );
        Run {
            clock: ManualClock::default(),
            source: source.expect("a source"),
            open,
            scope,
        }
    }

    /// What comes next; `None` at the end.
    fn step(&mut self) -> Option<String> {
        let mut out = engine::operator::Outbox::default();
        let mut counters = Counters::default();
        let mut dead_letters = Vec::new();
        let mut context = OperatorContext {
            out: &mut out,
            clock: &self.clock,
            scope: &self.scope,
            counters: &mut counters,
            dead_letters: &mut dead_letters,
        };
        let mut cx = Context::from_waker(Waker::noop());
        match self.source.poll_emit(&mut cx, &mut context) {
            Poll::Ready(Ok(SourceStatus::Emitted)) => {
                let elements: Vec<Element> = std::iter::from_fn(|| out.pop()).collect();
                Some(changelog(&elements))
            }
            Poll::Ready(Ok(SourceStatus::Finished)) | Poll::Pending => None,
            other => panic!("{other:?}"),
        }
    }

    fn all(&mut self) -> Vec<String> {
        let text: String = std::iter::from_fn(|| self.step()).collect();
        let short = text.replace("1970-01-01T00:00:00.", "").replace("+I ", "");
        short.lines().map(str::to_owned).collect()
    }

    fn saved(&self) -> ScanReply {
        let row = |split: &SplitState| {
            let mut value = Vec::new();
            split.save().encode(&mut value);
            LoadedRow {
                namespace: 0,
                hash: 0,
                identity: split.split.id.clone().into(),
                value: value.into(),
            }
        };
        ScanReply {
            rows: self.source.splits.iter().map(row).collect(),
            open_from: None,
            cursor: None,
        }
    }
}

#[test]
fn splits_in_turns_hold_the_watermark_back_until_all_are_begun() {
    let mut run = Run::new(ReadOrder::InTurns(2), &splits(0..3), scope(Epoch::ZERO));
    run.step();
    run.step();
    assert_eq!(run.open.lock().unwrap().len(), 2);
    assert_eq!(
        run.all(),
        ["002", "012", "021", "watermark 21", "022", "watermark 22"]
    );
    assert!(run.open.lock().unwrap().is_empty());
}

#[test]
fn splits_one_by_one_are_one_tasks() {
    let two = |index| TaskScope {
        index,
        parallelism: 2,
        ..scope(Epoch::ZERO)
    };
    let mut run = Run::new(ReadOrder::OneByOne, &splits(0..3), two(0));
    assert_eq!(
        run.all(),
        [
            "001",
            "002",
            "011",
            "012",
            "021",
            "watermark 21",
            "022",
            "watermark 22"
        ]
    );
    let mut other = Run::new(ReadOrder::OneByOne, &splits(0..3), two(1));
    assert_eq!(other.step(), None);
}

#[test]
fn a_restart_reads_the_splits_that_were_there_at_first() {
    let mut first = Run::new(ReadOrder::OneByOne, &splits(0..3), scope(Epoch::ZERO));
    first.source.freeze(Epoch(1));
    assert_eq!(
        first.source.frozen.len(),
        3,
        "also those that are not begun"
    );
    for _ in 0..3 {
        first.step();
    }
    let mut again = Run::new(ReadOrder::OneByOne, &[], scope(Epoch(1)));
    let mut reply = first.saved();
    // Rows come back in the order of their hashes.
    reply.rows.reverse();
    let job = ScanJob::new(TableId(1), KeyGroup(0));
    again.source.hydrated(&job, &reply).unwrap();
    assert_eq!(
        again.all(),
        ["012", "021", "watermark 21", "022", "watermark 22"]
    );
}

#[test]
fn a_silent_split_is_idle_after_a_while_and_only_if_it_was_asked() {
    let connector = Numbers {
        silent: Some(0),
        ..Numbers::of(ReadOrder::Together)
    };
    let mut run = Run::over(connector, &splits(0..2), scope(Epoch::ZERO));
    // Nobody asks the source for a second: that is no silence of its splits.
    assert_eq!(run.step().as_deref(), Some("+I 1970-01-01T00:00:00.001\n"));
    run.clock.advance_ms(1000);
    let ahead = run.all();
    assert_eq!(ahead, ["011", "watermark 1", "012"]);
    assert_eq!(run.source.deadline_ns(), Some(1_100_000_000));
    run.clock.advance_ms(99);
    assert_eq!(run.step(), None);
    run.clock.advance_ms(1);
    assert_eq!(run.step().as_deref(), Some("idle\n"));
    assert_eq!(run.source.deadline_ns(), None);
    assert_eq!(run.step(), None);
}

#[test]
fn what_waits_is_known_once_every_split_is_being_read() {
    let mut run = Run::new(ReadOrder::Together, &splits(0..2), scope(Epoch::ZERO));
    run.step();
    assert_eq!(run.source.backlog_rows(), None, "one is not opened yet");
    run.step();
    assert_eq!(run.source.backlog_rows(), Some(2));
    // Of ten rows that were read five came out.
    (run.source.read, run.source.kept) = (10, 5);
    assert_eq!(run.source.backlog_rows(), Some(1));
    run.all();
    assert_eq!(run.source.backlog_rows(), Some(0));
    let mut turns = Run::new(ReadOrder::InTurns(1), &splits(0..2), scope(Epoch::ZERO));
    turns.step();
    assert_eq!(turns.source.backlog_rows(), None, "one is not begun yet");
}

#[test]
fn what_waits_in_splits_that_nobody_reads_yet_counts_where_it_is_known() {
    let one_by_one = || Numbers {
        knows: true,
        ..Numbers::of(ReadOrder::OneByOne)
    };
    let mut run = Run::over(one_by_one(), &splits(0..3), scope(Epoch::ZERO));
    let waiting: Vec<Option<u64>> = (0..6)
        .map(|_| {
            run.step();
            run.source.backlog_rows()
        })
        .collect();
    assert_eq!(waiting, [5, 4, 3, 2, 1, 0].map(Some));
    // A restart knows what was read of them.
    let mut first = Run::over(one_by_one(), &splits(0..3), scope(Epoch::ZERO));
    (0..3).for_each(|_| drop(first.step()));
    let mut again = Run::over(one_by_one(), &[], scope(Epoch(1)));
    let job = ScanJob::new(TableId(1), KeyGroup(0));
    again.source.hydrated(&job, &first.saved()).unwrap();
    assert_eq!(again.source.backlog_rows(), Some(3));
}
