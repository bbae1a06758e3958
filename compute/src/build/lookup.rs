//! Tables that are looked up: read before the tasks start, once for all of them here, and read again
//! beside them while they run.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use connectors::open_lookup;
use engine::{lookup::LookupSource, operator::OperatorError, source::SourceError};
use operators::{LookupIndex, LookupReader, LookupTable};
use proto::plan::{LookupJoin, PlanError, fields};
use tokio::{
    task::{AbortHandle, JoinError, JoinHandle, spawn_blocking},
    time::timeout,
};

use super::error::BuildError;
use crate::caps::{LOOKUP_BYTES_MAX, LOOKUP_READ_MAX};

/// A table that was read. It is read again, where it is to be, until this is dropped.
pub(crate) struct OpenLookup {
    pub(crate) table: LookupTable,
    reload: Option<AbortHandle>,
}

impl Drop for OpenLookup {
    fn drop(&mut self) {
        if let Some(reload) = &self.reload {
            reload.abort();
        }
    }
}

impl OpenLookup {
    /// Reads the table of a lookup join, node `node`.
    pub(super) async fn open(node: &str, spec: &LookupJoin) -> Result<OpenLookup, BuildError> {
        let table = spec.table.as_ref().ok_or(PlanError::Missing("table"))?;
        let connector = table
            .connector
            .as_ref()
            .ok_or(PlanError::Missing("table.connector"))?;
        let produced = table
            .produced
            .as_ref()
            .ok_or(PlanError::Missing("table.produced"))?;
        let source = open_lookup(connector, &fields(produced)?).map_err(|source| {
            let table = table.table.clone();
            BuildError::Source { table, source }
        })?;
        let reading = Reading {
            table: table.table.clone(),
            source,
            spec: Arc::new(spec.clone()),
            time_max: LOOKUP_READ_MAX,
        };
        let rows = reading.read().await.map_err(|error| match error {
            OperatorError::Source { table, source } => BuildError::Source { table, source },
            source => BuildError::Operator {
                node: node.to_owned(),
                source,
            },
        })?;
        Ok(reading.keep(rows))
    }
}

/// How to read a table.
struct Reading {
    table: String,
    source: Arc<dyn LookupSource>,
    spec: Arc<LookupJoin>,
    /// How long it may take.
    time_max: Duration,
}

/// A reading that goes on, on a thread that may wait for disks. A thread cannot be stopped: it is told that
/// nobody waits any more, which it sees between two batches, and one that hangs in a disk holds nobody up.
struct Attempt {
    rows: JoinHandle<Result<LookupIndex, OperatorError>>,
    is_given_up: Arc<AtomicBool>,
}

impl Attempt {
    fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Reading {
    fn begin(&self) -> Attempt {
        let (source, spec, table) = (
            Arc::clone(&self.source),
            Arc::clone(&self.spec),
            self.table.clone(),
        );
        let is_given_up = Arc::new(AtomicBool::new(false));
        let given_up = Arc::clone(&is_given_up);
        let rows = spawn_blocking(move || read_all(&*source, &spec, &table, &given_up));
        Attempt { rows, is_given_up }
    }

    /// Reads all of it, in time.
    async fn read(&self) -> Result<LookupIndex, OperatorError> {
        let mut attempt = self.begin();
        match timeout(self.time_max, &mut attempt.rows).await {
            Ok(read) => self.ended(read),
            Err(_) => Err(self.too_slow()),
        }
    }

    fn ended(
        &self,
        read: Result<Result<LookupIndex, OperatorError>, JoinError>,
    ) -> Result<LookupIndex, OperatorError> {
        read.unwrap_or_else(|error| {
            let what = format!("table `{}`: reading it broke off: {error}", self.table);
            Err(OperatorError::Evaluate(what))
        })
    }

    fn too_slow(&self) -> OperatorError {
        let cause = format!(
            "that has taken {} s, and no more are waited for; see whether its disk answers and whether there \
             is more of it than can be looked up",
            self.time_max.as_secs_f64()
        );
        OperatorError::Source {
            table: self.table.clone(),
            source: SourceError::Io {
                what: "all that is looked up".to_owned(),
                cause,
            },
        }
    }

    /// The rows that were read, and more of them as often as the table says.
    fn keep(self, rows: LookupIndex) -> OpenLookup {
        let table = LookupTable::new(rows);
        let reload = self.source.reload_ms().map(|ms| {
            let reload = self.reload(table.clone(), Duration::from_millis(ms));
            tokio::spawn(reload).abort_handle()
        });
        OpenLookup { table, reload }
    }

    /// Reads it again and again, never twice at once: each reading has a thread and memory of its own. What
    /// cannot be read now may be half written, so that what was read before stays, where Flink fails the
    /// job.
    async fn reload(self, table: LookupTable, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let mut attempt = self.begin();
            let mut is_late = false;
            let read = loop {
                match timeout(self.time_max, &mut attempt.rows).await {
                    Ok(read) => break self.ended(read),
                    Err(_) => {
                        is_late = true;
                        attempt.give_up();
                        self.warn(&self.too_slow());
                    }
                }
            };
            match read {
                Ok(rows) => table.replace(rows),
                // Said already.
                Err(_) if is_late => {}
                Err(error) => self.warn(&error),
            }
        }
    }

    fn warn(&self, error: &OperatorError) {
        tracing::warn!(table = self.table, %error, "a table that is looked up keeps its old rows");
    }
}

fn read_all(
    source: &dyn LookupSource,
    spec: &LookupJoin,
    table: &str,
    is_given_up: &AtomicBool,
) -> Result<LookupIndex, OperatorError> {
    let mut reader = LookupReader::new(spec, LOOKUP_BYTES_MAX)?;
    let mut refused = None;
    let mut add = |rows| match is_given_up.load(Ordering::Relaxed) {
        true => Err(OperatorError::Evaluate(
            "nobody waits for the table any more".to_owned(),
        )),
        false => reader.add(rows),
    };
    let read = source.read(&mut |rows| match add(rows) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            refused = Some(error);
            ControlFlow::Break(())
        }
    });
    if let Some(error) = refused {
        return Err(error);
    }
    let skipped = read.map_err(|source| OperatorError::Source {
        table: table.to_owned(),
        source,
    })?;
    if skipped > 0 {
        tracing::warn!(
            table,
            skipped,
            "records of a table that is looked up cannot be read"
        );
    }
    let rows = reader.finish()?;
    tracing::debug!(
        table,
        rows = rows.num_rows(),
        "a table was read to be looked up"
    );
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::atomic::AtomicUsize};

    use arrow::array::{Int64Array, RecordBatch};
    use engine::schema::arrow_schema;
    use proto::plan::{
        self, Calc, ConnectorSpec, Expr, FilesystemSpec, FormatSpec, JoinType, JsonFormat,
        connector_spec::Connector, format_spec::Format,
    };
    use proto::types::{Field, LogicalType};

    use super::*;

    fn spec(path: &Path, reload_ms: u64) -> LookupJoin {
        let column = Field::new("k", LogicalType::BigInt.nullable());
        let row = plan::row_type(std::slice::from_ref(&column));
        let files = FilesystemSpec {
            path: path.display().to_string(),
            format: Some(FormatSpec {
                format: Some(Format::Json(JsonFormat::default())),
            }),
            lookup_reload_ms: reload_ms,
            ..FilesystemSpec::default()
        };
        LookupJoin {
            r#type: JoinType::Inner.into(),
            left_keys: vec![0],
            right_keys: vec![0],
            null_safe: vec![false],
            condition: None,
            table: Some(plan::LookupTable {
                table: "side".to_owned(),
                connector: Some(ConnectorSpec {
                    connector: Some(Connector::Filesystem(files)),
                }),
                produced: Some(row.clone()),
                calc: Some(Calc {
                    condition: None,
                    projections: vec![Expr::column(0, &column.data_type)],
                }),
                columns: Some(row),
            }),
        }
    }

    /// A table that counts how often it was read.
    struct Counted {
        source: Arc<dyn LookupSource>,
        reads: AtomicUsize,
    }

    impl LookupSource for Counted {
        fn read(
            &self,
            take: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
        ) -> Result<u64, SourceError> {
            let read = self.source.read(take);
            self.reads.fetch_add(1, Ordering::SeqCst);
            read
        }

        fn reload_ms(&self) -> Option<u64> {
            self.source.reload_ms()
        }
    }

    async fn until(holds: impl Fn() -> bool) {
        let waits = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waits).await;
        waited.expect("in time");
    }

    #[tokio::test]
    async fn a_table_is_read_again_while_it_is_used() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("side.json");
        fs::write(&file, "{\"k\":1}\n{\"k\":null}\n").expect("written");
        let spec = spec(&file, 5);
        let table = spec.table.as_ref().expect("a table");
        let (connector, produced) = (table.connector.as_ref(), table.produced.as_ref());
        let columns = fields(produced.expect("columns")).expect("columns");
        let source = open_lookup(connector.expect("files"), &columns).expect("files");
        let counted = Arc::new(Counted {
            source,
            reads: AtomicUsize::new(0),
        });
        let reading = Reading {
            table: table.table.clone(),
            source: counted.clone(),
            spec: Arc::new(spec.clone()),
            time_max: LOOKUP_READ_MAX,
        };
        let rows = reading.read().await.expect("read");
        let opened = reading.keep(rows);
        let rows = || opened.table.current().num_rows();
        assert_eq!(rows(), 1);
        // At once: of a file that is being written a part would be read.
        let replace = |text: &str| {
            let next = root.path().join("next");
            fs::write(&next, text).expect("written");
            fs::rename(next, &file).expect("replaced");
        };
        replace("{\"k\":1}\n{\"k\":2}\n");
        until(|| rows() == 2).await;
        // What cannot be read leaves what there was, until it can be.
        replace("nonsense\n");
        let reads = counted.reads.load(Ordering::SeqCst);
        // The first of them may have begun before, and the last one's outcome may be on its way.
        until(|| counted.reads.load(Ordering::SeqCst) >= reads + 3).await;
        assert_eq!(rows(), 2);
        replace("{\"k\":1}\n{\"k\":2}\n{\"k\":3}\n");
        until(|| rows() == 3).await;
        drop(opened);
        // Nobody is left who reads it.
        until(|| Arc::strong_count(&counted) == 1).await;
    }

    #[tokio::test]
    async fn a_table_without_files_is_refused_by_its_name() {
        let root = tempfile::tempdir().expect("a folder");
        let opened = OpenLookup::open("n", &spec(&root.path().join("gone"), 0)).await;
        let error = opened.err().expect("nothing to read");
        let text = error.to_string();
        assert!(text.starts_with("table `side`: failed to read `"), "{text}");
        assert_eq!(error.retry(), proto::control::Retry::Never);
    }

    /// A table of as many rows as it was read before, of which some readings never end by themselves.
    #[derive(Default)]
    struct Endless {
        reads: AtomicUsize,
        under_way: AtomicUsize,
        overlaps: AtomicUsize,
        endless: Vec<usize>,
    }

    impl LookupSource for Endless {
        fn read(
            &self,
            take: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>,
        ) -> Result<u64, SourceError> {
            let read = self.reads.fetch_add(1, Ordering::SeqCst);
            let others = self.under_way.fetch_add(1, Ordering::SeqCst);
            self.overlaps.fetch_add(others, Ordering::SeqCst);
            let schema = arrow_schema(&[Field::new("k", LogicalType::BigInt.nullable())]);
            let count = i64::try_from(read).expect("few") + 1;
            let rows = Int64Array::from_iter_values(0..count);
            let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(rows)]).expect("rows");
            let mut more = take(rows).is_continue();
            while more && self.endless.contains(&read) {
                more = take(RecordBatch::new_empty(schema.clone())).is_continue();
            }
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(0)
        }

        fn reload_ms(&self) -> Option<u64> {
            Some(1)
        }
    }

    fn reading(source: &Arc<Endless>, time_max_ms: u64) -> Reading {
        Reading {
            table: "side".to_owned(),
            source: source.clone(),
            spec: Arc::new(spec(Path::new("/"), 1)),
            time_max: Duration::from_millis(time_max_ms),
        }
    }

    #[tokio::test]
    async fn a_table_that_takes_too_long_is_given_up_and_refused() {
        let source = Arc::new(Endless {
            endless: vec![0],
            ..Endless::default()
        });
        let error = reading(&source, 20).read().await.expect_err("no end");
        let expected = "table `side`: failed to read all that is looked up: that has taken 0.02 s";
        assert!(error.to_string().starts_with(expected), "{error}");
        // Where it has worked before, it may again.
        assert_eq!(error.retry(), proto::control::Retry::IfItRan);
        until(|| source.under_way.load(Ordering::SeqCst) == 0).await;
    }

    #[tokio::test]
    async fn a_reload_that_takes_too_long_leaves_what_there_was_and_the_next_one_counts() {
        let source = Arc::new(Endless {
            endless: vec![1, 2],
            ..Endless::default()
        });
        let rows = reading(&source, 60_000).read().await.expect("read");
        let reading = reading(&source, 20);
        let opened = reading.keep(rows);
        let rows = || opened.table.current().num_rows();
        // Neither the second nor the third reading has an end, and both had rows already.
        until(|| {
            let count = rows();
            assert!(count == 1 || count > 3, "{count}");
            count > 3
        })
        .await;
        assert_eq!(source.overlaps.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn nobody_reads_for_a_job_that_has_gone() {
        let source = Arc::new(Endless {
            endless: vec![1],
            ..Endless::default()
        });
        let reading = reading(&source, 60_000);
        let rows = reading.read().await.expect("read");
        let opened = reading.keep(rows);
        until(|| source.reads.load(Ordering::SeqCst) == 2).await;
        drop(opened);
        until(|| Arc::strong_count(&source) == 1).await;
    }
}
