//! Rows through the stage and out again.

use std::sync::Mutex;

use arrow::array::RecordBatch;
use engine::Kinds;
use futures::executor::block_on;

use super::*;
use crate::{column::Rows, testing::fields};

type Delivery = (Generation, Epoch, u32, Vec<ChangeBatch>);

#[derive(Default)]
struct Client(Mutex<Vec<Delivery>>);

impl CollectTarget for Client {
    fn deliver(
        &self,
        generation: Generation,
        epoch: Epoch,
        slot: u32,
        batches: Vec<ChangeBatch>,
    ) -> BoxFuture<'_, Result<(), String>> {
        self.0
            .lock()
            .unwrap()
            .push((generation, epoch, slot, batches));
        Box::pin(std::future::ready(Ok(())))
    }
}

fn batch(fields: &[Field], kinds: Option<Vec<u8>>, rows: usize) -> ChangeBatch {
    let mut made = Rows::new(fields);
    for _ in 0..rows {
        let (_, columns) = made.parts();
        columns
            .iter_mut()
            .for_each(crate::column::Column::push_null);
        made.complete(proto::types::RowKind::Insert);
    }
    let rows: RecordBatch = made.finish().unwrap().rows;
    ChangeBatch::changes(rows, kinds.map(Kinds::from_bytes))
}

#[test]
fn staged_rows_reach_the_client() {
    let fields = fields("a INT, m MAP<STRING, ROW<x DECIMAL(5, 2)>>, t TIMESTAMP_LTZ(3)");
    let client = Arc::new(Client::default());
    let sink = CollectSink::new(&fields, client.clone());
    let mut writer = sink.writer(0).unwrap();
    let inserts = batch(&fields, None, 2);
    let changes = batch(&fields, Some(vec![1, 2, 3]), 3);
    writer.write(&inserts).unwrap();
    let first = writer.freeze();
    assert_eq!(writer.buffered_bytes(), 0);
    writer.write(&changes).unwrap();
    assert!(writer.buffered_bytes() > 0);
    let second = writer.freeze();
    assert!(writer.freeze().is_empty());
    let output = EpochOutput {
        generation: Generation(1),
        epoch: Epoch(16),
        slot: 0,
        pieces: vec![first.into(), Vec::new().into(), second.into()],
    };
    let mut publisher = sink.publisher().unwrap().unwrap();
    block_on(publisher.publish(output.clone())).unwrap();
    let delivered = client.0.lock().unwrap();
    let (generation, epoch, slot, batches) = &delivered[0];
    assert_eq!((*generation, *epoch, *slot), (Generation(1), Epoch(16), 0));
    for (found, expected) in batches.iter().zip([&inserts, &changes]) {
        assert_eq!(found.rows, expected.rows);
        assert_eq!(found.kinds, expected.kinds);
    }
    let damaged = EpochOutput {
        pieces: vec![vec![1, 2, 3].into()],
        ..output
    };
    let error = block_on(publisher.publish(damaged)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to write rows to the client"),
        "{error}"
    );
}
