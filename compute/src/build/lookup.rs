//! Tables that are looked up: read before the tasks start, once for all of them here, and read again
//! beside them while they run.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use connectors::open_lookup;
use engine::{lookup::LookupSource, operator::OperatorError};
use operators::{LookupIndex, LookupReader, LookupTable};
use proto::plan::{LookupJoin, PlanError, fields};
use tokio::task::{AbortHandle, spawn_blocking};

use super::error::BuildError;
use crate::caps::LOOKUP_BYTES_MAX;

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
}

impl Reading {
    /// Reads all of it, on a thread that may wait for disks.
    async fn read(&self) -> Result<LookupIndex, OperatorError> {
        let (source, spec, table) = (
            Arc::clone(&self.source),
            Arc::clone(&self.spec),
            self.table.clone(),
        );
        let read = spawn_blocking(move || read_all(&*source, &spec, &table));
        match read.await {
            Ok(rows) => rows,
            Err(error) => {
                let what = format!("table `{}`: reading it broke off: {error}", self.table);
                Err(OperatorError::Evaluate(what))
            }
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

    /// Reads it again and again. What cannot be read now may be half written; as with Flink's reloads,
    /// what was read before stays.
    async fn reload(self, table: LookupTable, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            match self.read().await {
                Ok(rows) => table.replace(rows),
                Err(error) => {
                    tracing::warn!(%error, "a table that is looked up keeps its old rows");
                }
            }
        }
    }
}

fn read_all(
    source: &dyn LookupSource,
    spec: &LookupJoin,
    table: &str,
) -> Result<LookupIndex, OperatorError> {
    let mut reader = LookupReader::new(spec, LOOKUP_BYTES_MAX)?;
    let mut refused = None;
    let read = source.read(&mut |rows| match reader.add(rows) {
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
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use arrow::array::RecordBatch;
    use engine::source::SourceError;
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
}
