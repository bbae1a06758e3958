//! What happens to an operator under test, and what comes of it.

use engine::{
    ChangeBatch, Element, Timestamp,
    operator::{Counters, Operator, OperatorError, StateSize, TaskScope},
};
use futures::executor::block_on;
use proto::types::{Epoch, KeyGroupCount, TableId};
use state_client::{LoadedRow, ScanRequest, StateStore as _};

use super::{Fold, Folded, drive::Run};

/// One thing that happens to an operator.
#[derive(Clone, Debug)]
pub enum Event {
    /// Rows of an input.
    Batch(usize, ChangeBatch),
    /// The watermark of all inputs.
    Watermark(Timestamp),
    /// A barrier; epochs count from 1.
    Barrier,
    /// So many milliseconds pass, with all that was asked for answered before.
    Passes(u64),
    /// Right after a barrier: a task elsewhere goes on, whose clock is behind by so many milliseconds.
    Moves(u64),
    /// The end of all inputs.
    End,
}

/// Makes the operator under test.
pub type MakeOperator<'a> = dyn Fn(&TaskScope) -> Result<Box<dyn Operator>, OperatorError> + 'a;

/// The one task of a job, owning all key groups.
#[must_use]
pub fn scope(restored: Epoch) -> TaskScope {
    let key_groups = KeyGroupCount::new(8).expect("a power of two");
    TaskScope {
        index: 0,
        parallelism: 1,
        owned: proto::types::KeyGroupSet::all(key_groups),
        key_groups,
        batch_rows: 7,
        restored,
        came: None,
    }
}

/// All that the operator puts out for a script without a crash.
///
/// # Panics
/// When the operator fails or breaks its contract.
#[must_use]
pub fn drive(make: &MakeOperator<'_>, events: &[Event]) -> Vec<Element> {
    drive_with_seed(make, events, 0, |_| false).0
}

/// Runs a script; the operator crashes after every barrier for whose epoch `crashes` says so, and
/// goes on from it. `seed` decides when reads are answered. Also the last operator's counters.
///
/// # Panics
/// When the operator fails or breaks its contract.
#[must_use]
pub fn drive_with_seed(
    make: &MakeOperator<'_>,
    events: &[Event],
    seed: u64,
    crashes: impl Fn(Epoch) -> bool,
) -> (Vec<Element>, Counters) {
    let mut run = Run::new(make, seed);
    run.script(events, crashes);
    (run.output, run.counters)
}

/// What leaves beside the output of a script, by input and in order; as [`drive_with_seed`].
///
/// # Panics
/// When the operator fails or breaks its contract.
#[must_use]
pub fn drive_late(
    make: &MakeOperator<'_>,
    events: &[Event],
    seed: u64,
    crashes: impl Fn(Epoch) -> bool,
) -> (Vec<Element>, Vec<(usize, ChangeBatch)>, Counters) {
    let mut run = Run::new(make, seed);
    run.late_of = vec![0, 1];
    run.script(events, crashes);
    (run.output, run.late, run.counters)
}

/// Runs a script of which `until` events come before a crash; in the minute after that the operator has
/// nothing to do, and it keeps all that it has. What it has counted since the crash.
///
/// # Panics
/// When the operator fails or breaks its contract.
#[must_use]
pub fn after_a_minute_of_rest(make: &MakeOperator<'_>, events: &[Event], until: usize) -> Counters {
    let mut run = Run::new(make, 1);
    run.is_calm = true;
    let (before, after) = events.split_at(until);
    run.script(before, |_| false);
    run.give(&Event::Barrier);
    run.drain_reads();
    run.commit();
    run.restart();
    run.give(&Event::Passes(60_000));
    run.script(after, |_| false);
    run.counters
}

/// Runs a script; what is left of it in the state tables in the end, and in memory.
///
/// # Panics
/// When the operator fails or breaks its contract.
#[must_use]
pub fn left_behind(
    make: &MakeOperator<'_>,
    events: &[Event],
    seed: u64,
    crashes: impl Fn(Epoch) -> bool,
    tables: &[TableId],
) -> (Vec<LoadedRow>, StateSize) {
    let mut run = Run::new(make, seed);
    run.script(events, crashes);
    let mut rows = Vec::new();
    for (table, key_group) in tables.iter().flat_map(|table| {
        run.scope
            .key_groups
            .iter()
            .map(move |group| (*table, group))
    }) {
        let request = ScanRequest {
            min_epoch: run.committed,
            table,
            key_group,
            namespace: None,
            cursor: None,
            bytes_max: usize::MAX,
        };
        let reply = block_on(run.store.scan(run.who, request)).expect("a scan");
        rows.extend(reply.rows);
    }
    let size = run.operator.state().map(|state| state.size());
    (rows, size.unwrap_or_default())
}

/// Runs a script without a crash, with one at each barrier, and with one at all of them; demands
/// that all amount to the same.
///
/// # Panics
/// When they do not, or the operator fails.
#[must_use]
pub fn crash_at_each_barrier(make: &MakeOperator<'_>, events: &[Event], fold: &Fold) -> Folded {
    let expected = fold.fold(&drive(make, events));
    let barriers = events
        .iter()
        .filter(|event| matches!(event, Event::Barrier))
        .count() as u64;
    for crash in 1..=barriers {
        let (output, _) = drive_with_seed(make, events, crash, |epoch| epoch.0 == crash);
        assert_eq!(
            fold.fold(&output),
            expected,
            "with a crash at barrier {crash}"
        );
    }
    let (output, _) = drive_with_seed(make, events, 99, |_| true);
    assert_eq!(
        fold.fold(&output),
        expected,
        "with a crash at every barrier"
    );
    expected
}

/// The batches among elements.
#[must_use]
pub fn batches(elements: &[Element]) -> Vec<ChangeBatch> {
    let batch = |element: &Element| match element {
        Element::Batch(batch) => Some(batch.clone()),
        _ => None,
    };
    elements.iter().filter_map(batch).collect()
}
