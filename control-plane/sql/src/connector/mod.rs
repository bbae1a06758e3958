//! WITH options to a plan's `ConnectorSpec`: one file per connector. Knows option names and what
//! they mean; opens nothing.

mod blackhole;
mod datagen;
mod filesystem;
mod format;
mod hint;
mod nexmark;
mod options;
mod print;
mod units;

use proto::plan::connector_spec::Connector;
use proto::plan::format_spec::Format;
use proto::plan::{ConnectorSpec, FilesystemSpec};
use proto::types::Field;

pub(crate) use hint::{physical_fields, with_hint};
pub(crate) use options::Given;
pub(crate) use units::duration_ms;

use crate::catalog::Table;
use crate::error::SqlError;
use crate::suggest::nearest;
use options::Options;

/// Connectors by name.
const CONNECTORS: &[&str] = &["blackhole", "datagen", "filesystem", "nexmark", "print"];

/// What a connector may ask of the table it stands for.
pub(crate) struct Shape<'a> {
    /// Physical columns in declared order.
    pub(crate) fields: &'a [Field],
    /// PARTITIONED BY.
    pub(crate) partition_by: &'a [String],
}

/// Reads the options of a table.
///
/// # Errors
/// For an unknown connector or option, a missing or a bad one, and columns that the connector
/// cannot have.
pub(crate) fn resolve(given: &[Given], shape: &Shape) -> Result<ConnectorSpec, SqlError> {
    let Some(name) = given.iter().find(|given| given.key == "connector") else {
        return Err(no_connector(given));
    };
    let mut options = Options::new(given, &name.value);
    let at = |error: SqlError| error.at(name.span);
    if !shape.partition_by.is_empty() && name.value != "filesystem" {
        return Err(at(SqlError::validate(format!(
            "connector '{}' cannot be partitioned",
            name.value
        ))
        .hint("leave out PARTITIONED BY: only 'filesystem' has partitions")));
    }
    let connector = match name.value.as_str() {
        "nexmark" => Connector::Nexmark(nexmark::read(&mut options, shape).map_err(at)?),
        "datagen" => Connector::Datagen(datagen::read(&mut options, shape)),
        "filesystem" => Connector::Filesystem(filesystem::read(&mut options, shape)),
        "print" => Connector::Print(print::read(&mut options)),
        "blackhole" => Connector::Blackhole(blackhole::read()),
        other => {
            let error = at(SqlError::validate(format!("unknown connector '{other}'")));
            return Err(match nearest(other, CONNECTORS.iter().copied()) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint(format!("connectors are {}", CONNECTORS.join(", "))),
            });
        }
    };
    options.finish().map_err(at)?;
    Ok(ConnectorSpec {
        connector: Some(connector),
    })
}

fn no_connector(given: &[Given]) -> SqlError {
    let error = SqlError::validate("the table has no option 'connector'");
    let is_meant = |given: &&Given| nearest(&given.key, ["connector"]).is_some();
    match given.iter().find(is_meant) {
        Some(meant) => error
            .at(meant.span)
            .hint(format!("did you mean it by '{}'?", meant.key)),
        None => error.hint(format!(
            "add WITH ('connector' = '…'): {}",
            CONNECTORS.join(", ")
        )),
    }
}

/// Whether rows can be read from the table.
///
/// # Errors
/// For connectors that only write.
pub(crate) fn check_source(table: &Table) -> Result<(), SqlError> {
    match &table.connector.connector {
        Some(Connector::Print(_) | Connector::Blackhole(_)) => {
            Err(direction(table, "read", "a sink"))
        }
        _ => Ok(()),
    }
}

/// Whether rows can be written to the table.
///
/// # Errors
/// For connectors that only generate.
pub(crate) fn check_sink(table: &Table) -> Result<(), SqlError> {
    match &table.connector.connector {
        Some(Connector::Nexmark(_) | Connector::Datagen(_)) => {
            Err(direction(table, "written", "a source"))
        }
        _ => Ok(()),
    }
}

/// Whether single rows of the table can be asked for while a job runs.
///
/// # Errors
/// For connectors that only stream, and for files of changes, which say what was, not what is.
pub(crate) fn check_lookup(table: &Table) -> Result<(), SqlError> {
    let refused = |hint: &str| {
        Err(
            SqlError::validate(format!("table `{}` cannot be looked up", table.name))
                .hint(hint.to_owned()),
        )
    };
    match &table.connector.connector {
        Some(Connector::Filesystem(spec)) if is_changelog(spec) => {
            refused("its format is one of changes; look up files of rows, in 'csv' or 'json'")
        }
        Some(Connector::Filesystem(_)) => Ok(()),
        _ => refused("only tables of connector 'filesystem' can; join it as a stream instead"),
    }
}

/// Whether the files hold changes of rows.
pub(crate) fn is_changelog(spec: &FilesystemSpec) -> bool {
    let format = spec.format.as_ref().and_then(|spec| spec.format.as_ref());
    matches!(format, Some(Format::DebeziumJson(_)))
}

fn direction(table: &Table, verb: &str, role: &str) -> SqlError {
    let connector = table.options.iter().find(|(key, _)| key == "connector");
    let connector = connector.map_or("", |(_, value)| value);
    SqlError::validate(format!("table `{}` cannot be {verb}", table.name))
        .hint(format!("its connector '{connector}' is {role} only"))
}

#[cfg(test)]
mod tests;
