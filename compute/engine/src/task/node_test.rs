//! What a node hears and tells of time, and when a source has been read.

use std::task::{Context, Poll};

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::Schema,
};
use proto::types::KeyGroupCount;

use super::node::{Kind, Node};
use crate::{
    ChangeBatch, Element, TIMESTAMP_MAX,
    clock::ManualClock,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, SourceOperator, SourceStatus,
        Step, TaskScope,
    },
};

/// Keeps rows and passes time on.
struct Keep;

impl Operator for Keep {
    fn batch(
        &mut self,
        _input: usize,
        _batch: ChangeBatch,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        Ok(Step::Done)
    }
}

struct Harness(Node);

impl Harness {
    fn new(inputs: usize) -> Harness {
        let key_groups = KeyGroupCount::DEFAULT;
        let scope = TaskScope {
            index: 0,
            parallelism: 1,
            owned: proto::types::KeyGroupSet::all(key_groups),
            key_groups,
            batch_rows: 10,
            restored: proto::types::Epoch::ZERO,
            came: None,
        };
        let kind = Kind::Operator(Box::new(Keep));
        Harness(Node::new("keep".to_owned(), kind, inputs, scope))
    }

    /// What comes out when an element goes in.
    fn push(&mut self, input: usize, element: Element) -> Vec<String> {
        let pushed = self
            .0
            .push(input, element, &ManualClock::default(), &mut Vec::new());
        pushed.expect("no error");
        let mut out = Vec::new();
        while let Some(element) = self.0.outbox.pop() {
            self.0.note_sent(&element);
            out.push(format!("{element:?}"));
        }
        out
    }
}

fn rows() -> Element {
    let rows = RecordBatch::new_empty(Schema::empty().into());
    Element::Batch(ChangeBatch::inserts(rows))
}

#[test]
fn consumers_hear_when_a_node_falls_asleep_and_when_it_wakes() {
    let mut node = Harness::new(1);
    assert_eq!(node.push(0, Element::Watermark(5)), ["Watermark(5)"]);
    assert_eq!(node.push(0, Element::Idle), ["Idle"]);
    assert!(node.push(0, Element::Idle).is_empty());
    // The rows stay inside: without the old watermark nobody would wait for what they cause.
    assert_eq!(node.push(0, rows()), ["Watermark(5)"]);
    assert!(node.push(0, rows()).is_empty());
    assert_eq!(node.push(0, Element::Idle), ["Idle"]);
    assert_eq!(
        node.push(0, Element::Watermark(7)),
        ["Watermark(5)", "Watermark(7)"]
    );
}

/// Emits these, one at a time, and has ended.
struct Emits(Vec<Element>);

impl SourceOperator for Emits {
    fn poll_emit(
        &mut self,
        _cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        Poll::Ready(Ok(match self.0.pop() {
            Some(element) => {
                context.out.element(element);
                SourceStatus::Emitted
            }
            None => SourceStatus::Finished,
        }))
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        unreachable!("it is not asked for its offsets")
    }
}

#[test]
fn a_source_that_only_tells_time_has_not_been_read() {
    let row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &row);
    let row = Element::Batch(ChangeBatch::inserts(row.expect("a row")));
    let mut node = Harness::new(0).0;
    node.kind = Kind::Source(Box::new(Emits(vec![
        row,
        Element::Watermark(1),
        Element::Idle,
    ])));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut read = Vec::new();
    for _ in 0..4 {
        let polled = node.poll_source(&mut cx, &ManualClock::default(), &mut Vec::new());
        let Poll::Ready(has_read) = polled else {
            panic!("it has something each time");
        };
        read.push(has_read.expect("no error"));
        while node.outbox.pop().is_some() {}
    }
    assert_eq!(read, [false, false, true, true]);
}

#[test]
fn time_does_not_end_while_an_input_is_idle() {
    let mut node = Harness::new(2);
    node.push(0, Element::Watermark(5));
    assert_eq!(node.push(1, Element::Watermark(8)), ["Watermark(5)"]);
    assert_eq!(node.push(0, Element::Idle), ["Watermark(8)"]);
    assert_eq!(node.push(1, Element::Watermark(TIMESTAMP_MAX)), ["Idle"]);
    assert!(node.push(1, Element::End).is_empty());
    assert_eq!(node.push(0, rows()), ["Watermark(8)"]);
    assert_eq!(node.push(0, Element::Watermark(9)), ["Watermark(9)"]);
    let end = format!("Watermark({TIMESTAMP_MAX})");
    assert_eq!(node.push(0, Element::Watermark(TIMESTAMP_MAX)), [end]);
    assert_eq!(node.push(0, Element::End), ["End"]);
}
