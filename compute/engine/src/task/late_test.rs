//! Rows that an operator drops go to whoever takes them, with the operator's time, and to nobody else.

use std::sync::{Arc, Mutex};

use arrow::{
    array::{Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use proto::types::{Epoch, KeyGroupSet};

use super::{
    graph::{Consumer, GraphBuilder, GraphState},
    numbers_test::GROUPS,
};
use crate::{
    ChangeBatch, Element, TIMESTAMP_MAX,
    clock::ManualClock,
    late::LateRows,
    operator::{Operator, OperatorContext, OperatorError, Step, TaskScope},
};

/// Drops odd numbers.
struct Even;

impl Operator for Even {
    fn batch(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let mut late = LateRows::default();
        let numbers = numbers(&batch);
        for row in (0..numbers.len()).filter(|row| numbers[*row] % 2 == 1) {
            late.push(row, 7);
        }
        context.drop_late(input, &batch, &late)?;
        let even = numbers.into_iter().filter(|number| number % 2 == 0);
        context.out.batch(batch_of(&even.collect::<Vec<_>>()));
        Ok(Step::Done)
    }
}

/// Writes down what it is given.
struct Notes(Arc<Mutex<Vec<String>>>);

impl Operator for Notes {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let columns = batch.rows.num_columns();
        self.note(format!("{:?} of {columns}", numbers(&batch)));
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: crate::Timestamp,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.note(format!("watermark {watermark}"));
        Ok(Step::Done)
    }

    fn idle(&mut self) {
        self.note("idle".to_owned());
    }

    fn end(&mut self, _context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.note("end".to_owned());
        Ok(Step::Done)
    }
}

impl Notes {
    fn note(&self, what: String) {
        self.0.lock().expect("no panic").push(what);
    }
}

fn batch_of(numbers: &[i64]) -> ChangeBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    let column = Arc::new(Int64Array::from(numbers.to_vec()));
    let rows = RecordBatch::try_new(Arc::new(schema), vec![column]);
    ChangeBatch::inserts(rows.expect("a column"))
}

fn numbers(batch: &ChangeBatch) -> Vec<i64> {
    use arrow::{array::AsArray as _, datatypes::Int64Type};
    let column = batch.rows.column(0).as_primitive::<Int64Type>();
    column.values().to_vec()
}

#[test]
fn late_rows_leave_beside_the_output_with_the_time() {
    let scope = TaskScope {
        index: 0,
        parallelism: 1,
        owned: KeyGroupSet::all(GROUPS),
        key_groups: GROUPS,
        batch_rows: 10,
        restored: Epoch::ZERO,
        came: None,
    };
    let mut graph = GraphBuilder::default();
    let [used, late] = [(); 2].map(|()| Arc::<Mutex<Vec<String>>>::default());
    graph.operator("even", Box::new(Even), 1, scope.clone());
    graph.operator("used", Box::new(Notes(used.clone())), 1, scope.clone());
    graph.operator("late", Box::new(Notes(late.clone())), 1, scope);
    graph.connect(0, Consumer::Node { node: 1, input: 0 });
    graph.connect_late(0, 0, 2);
    let (mut graph, clock) = (graph.build(), ManualClock::default());
    for element in [
        Element::Batch(batch_of(&[1, 2, 3])),
        Element::Watermark(5),
        Element::Batch(batch_of(&[4])),
        Element::Idle,
        Element::Batch(batch_of(&[5])),
        Element::Watermark(TIMESTAMP_MAX),
        Element::End,
    ] {
        assert!(graph.accepts(0));
        graph.push(0, 0, element, &clock).expect("taken");
        assert_eq!(graph.run(&clock).expect("it runs"), GraphState::Quiet);
    }
    assert!(graph.has_ended());
    let end = format!("watermark {TIMESTAMP_MAX}");
    // What wakes up has its time again, which is none that is new.
    assert_eq!(
        *used.lock().expect("no panic"),
        ["[2] of 1", "watermark 5", "[4] of 1", "idle", &end, "end"]
    );
    assert_eq!(
        *late.lock().expect("no panic"),
        [
            "[1, 3] of 3",
            "watermark 5",
            "idle",
            "[5] of 3",
            &end,
            "end"
        ]
    );
    let counted: Vec<u64> = graph.metrics().map(|(_, _, c, _)| c.late_rows).collect();
    assert_eq!(counted, [3, 0, 0]);
    let put_out: Vec<u64> = graph.metrics().map(|(_, m, ..)| m.rows_out).collect();
    assert_eq!(put_out, [2, 0, 0], "late rows are no output");
}
