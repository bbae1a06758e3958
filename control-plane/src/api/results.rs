//! `/v1/jobs/{id}/results`: the rows of a SELECT, live, as NDJSON or server-sent events.
//!
//! The first object names the columns, then one per change comes, then one that says how it ended.

use std::{convert::Infallible, fmt::Write, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures::{Stream, stream};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{jobs::Named, problem::Problem};
use crate::{
    caps::RESULT_KEEP_ALIVE_MS,
    results::{Chunk, FeedEnd, FeedReader, column_names, row_json},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Lines,
    Events,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Format::Lines => "application/x-ndjson",
            Format::Events => "text/event-stream",
        }
    }

    fn push(self, text: &mut String, line: &ResultLine) {
        let data = json!(line);
        let event = line.event();
        // Writing to a string does not fail.
        let _ = match self {
            Format::Lines => writeln!(text, "{data}"),
            Format::Events => write!(text, "event: {event}\ndata: {data}\n\n"),
        };
    }
}

/// One object of a result.
#[derive(Serialize, ToSchema, Debug)]
#[serde(untagged)]
pub(super) enum ResultLine {
    /// The first: what the rows are like.
    Columns {
        /// The columns, in order.
        columns: Vec<ResultColumn>,
        /// Columns that identify a row, where a change comes without the row before it.
        upsert_key: Option<Vec<String>>,
    },
    /// Rows before the next one can no longer be read.
    Skipped {
        /// How many.
        skipped: u64,
    },
    /// A change.
    Row {
        /// `+I`, `-U`, `+U` or `-D`.
        op: &'static str,
        /// Values by column. Numbers are numbers, ROW and MAP objects, ARRAY an array, MULTISET an
        /// object of counts; everything else, DECIMAL too, is text.
        #[schema(value_type = Object)]
        row: Value,
    },
    /// The last: `complete`, or `broken` and why.
    End {
        /// `complete` or `broken`.
        end: &'static str,
        /// Why there might have been more rows.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// A column of a result.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ResultColumn {
    name: String,
    /// Its SQL type.
    #[serde(rename = "type")]
    data_type: String,
}

impl ResultLine {
    fn event(&self) -> &'static str {
        match self {
            ResultLine::Columns { .. } => "columns",
            ResultLine::Skipped { .. } => "skipped",
            ResultLine::Row { .. } => "row",
            ResultLine::End { .. } => "end",
        }
    }
}

/// Read the rows of a SELECT
///
/// Streams changes until the job ends or the client goes. `Accept: text/event-stream` gives
/// server-sent events, anything else one JSON object per line. Every reader starts with the oldest
/// row that is still there.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/results",
    operation_id = "readResults",
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "A stream of objects; as events, their data", content(
            (ResultLine = "application/x-ndjson"),
            (ResultLine = "text/event-stream"),
        )),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "The job is not a SELECT", body = Problem),
    ),
)]
pub(super) async fn read(Named(entry): Named, headers: HeaderMap) -> Result<Response, Problem> {
    let Some(feed) = &entry.feed else {
        let detail = format!("{} is not a SELECT: its rows go to a table", entry.id);
        return Err(Problem::new(StatusCode::CONFLICT, "job.no_results", detail));
    };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = match accept {
        Some(accept) if accept.contains("text/event-stream") => Format::Events,
        _ => Format::Lines,
    };
    let headers = [
        (CONTENT_TYPE, format.content_type()),
        (CACHE_CONTROL, "no-store"),
    ];
    let body = Body::from_stream(body(feed.reader(), format));
    Ok((headers, body).into_response())
}

/// Pieces of the body: a header, then what the reader gives.
fn body(reader: FeedReader, format: Format) -> impl Stream<Item = Result<String, Infallible>> {
    let names = column_names(reader.feed().columns());
    let header = header(&reader, &names, format);
    let start = (reader, names, Some(header), false);
    stream::unfold(
        start,
        move |(mut reader, names, header, ended)| async move {
            if let Some(header) = header {
                return Some((Ok(header), (reader, names, None, false)));
            }
            if ended {
                return None;
            }
            let wait = Duration::from_millis(RESULT_KEEP_ALIVE_MS);
            let (text, ended) = match tokio::time::timeout(wait, reader.next()).await {
                Ok(chunk) => {
                    let ended = matches!(chunk, Chunk::End(_));
                    (piece(&chunk, &reader, &names, format), ended)
                }
                Err(_) if format == Format::Events => (": still here\n\n".to_owned(), false),
                // A blank line is no record, and shows whether the client still listens.
                Err(_) => ("\n".to_owned(), false),
            };
            Some((Ok(text), (reader, names, None, ended)))
        },
    )
}

fn header(reader: &FeedReader, names: &[String], format: Format) -> String {
    let columns = reader.feed().columns().iter().zip(names);
    let columns = columns
        .map(|(column, name)| ResultColumn {
            name: name.clone(),
            data_type: column.data_type.to_string(),
        })
        .collect();
    let upsert_key = reader.feed().upsert_key().map(|key| {
        let name = |column: &usize| names.get(*column).cloned();
        key.iter().filter_map(name).collect::<Vec<_>>()
    });
    let mut text = String::new();
    let line = ResultLine::Columns {
        columns,
        upsert_key,
    };
    format.push(&mut text, &line);
    text
}

fn piece(chunk: &Chunk, reader: &FeedReader, names: &[String], format: Format) -> String {
    let mut text = String::new();
    match chunk {
        Chunk::Rows { skipped, rows } => {
            if *skipped > 0 {
                let skipped = *skipped;
                format.push(&mut text, &ResultLine::Skipped { skipped });
            }
            let columns = reader.feed().columns();
            for row in rows {
                let line = ResultLine::Row {
                    op: row.kind.symbol(),
                    row: row_json(row, columns, names),
                };
                format.push(&mut text, &line);
            }
        }
        Chunk::End(end) => {
            let (end, error) = match end {
                FeedEnd::Complete => ("complete", None),
                FeedEnd::Broken(error) => ("broken", Some(error.clone())),
            };
            format.push(&mut text, &ResultLine::End { end, error });
        }
    }
    text
}
