//! From a plan's connector to a source, a table to look up, or a sink.

use std::sync::Arc;

use engine::{
    lookup::LookupSource,
    sink::{Sink, SinkError},
    source::{Source, SourceError},
};
use proto::{
    plan::{ConnectorSpec, connector_spec::Connector},
    types::Field,
};

use crate::{
    blackhole::BlackholeSink,
    collect::CollectSink,
    context::{SinkContext, SourceContext},
    datagen::DatagenSource,
    filesystem::{FileLookup, FileSink, FileSource},
    nexmark::NexmarkSource,
    print::PrintSink,
};

/// The source of `spec` that makes the columns `produced`: a part of the table's physical columns,
/// found by name, and so are the fields of ROW columns.
///
/// # Errors
/// When the connector cannot be read from, or not as the plan asks.
pub fn open_source(
    spec: &ConnectorSpec,
    produced: &[Field],
    context: &SourceContext,
) -> Result<Arc<dyn Source>, SourceError> {
    let unsupported = |name: &str| {
        SourceError::Unsupported(format!(
            "connector `{name}` is a sink and cannot be read from"
        ))
    };
    match &spec.connector {
        Some(Connector::Filesystem(spec)) => Ok(Arc::new(FileSource::new(spec, produced)?)),
        Some(Connector::Nexmark(spec)) => {
            Ok(Arc::new(NexmarkSource::new(spec, produced, context)?))
        }
        Some(Connector::Datagen(spec)) => {
            Ok(Arc::new(DatagenSource::new(spec, produced, context)?))
        }
        Some(Connector::Print(_)) => Err(unsupported("print")),
        Some(Connector::Blackhole(_)) => Err(unsupported("blackhole")),
        Some(Connector::Collect(_)) => Err(unsupported("collect")),
        None => Err(SourceError::Unsupported(
            "the source's connector is not set".to_owned(),
        )),
    }
}

/// The table of `spec` to be looked up, of which the columns `produced` are read, found by name.
///
/// # Errors
/// When the connector's tables cannot be looked up, or not as the plan asks.
pub fn open_lookup(
    spec: &ConnectorSpec,
    produced: &[Field],
) -> Result<Arc<dyn LookupSource>, SourceError> {
    match &spec.connector {
        Some(Connector::Filesystem(spec)) => Ok(Arc::new(FileLookup::new(spec, produced)?)),
        _ => Err(SourceError::Unsupported(
            "tables of this connector cannot be looked up".to_owned(),
        )),
    }
}

/// The sink of `spec` for rows of these columns.
///
/// # Errors
/// When the connector cannot be written to, or not as the plan asks.
pub fn open_sink(
    spec: &ConnectorSpec,
    fields: &[Field],
    context: &SinkContext,
) -> Result<Arc<dyn Sink>, SinkError> {
    let unsupported = |name: &str| {
        SinkError::Unsupported(format!(
            "connector `{name}` is a source and cannot be written to"
        ))
    };
    match &spec.connector {
        Some(Connector::Filesystem(spec)) => Ok(Arc::new(FileSink::new(spec, fields, context)?)),
        Some(Connector::Print(spec)) => Ok(Arc::new(PrintSink::new(spec, fields, context))),
        Some(Connector::Blackhole(_)) => Ok(Arc::new(BlackholeSink)),
        Some(Connector::Collect(_)) => {
            Ok(Arc::new(CollectSink::new(fields, context.collect.clone())))
        }
        Some(Connector::Nexmark(_)) => Err(unsupported("nexmark")),
        Some(Connector::Datagen(_)) => Err(unsupported("datagen")),
        None => Err(SinkError::Unsupported(
            "the sink's connector is not set".to_owned(),
        )),
    }
}
