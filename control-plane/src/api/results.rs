//! `/v1/jobs/{id}/results`: the rows of a SELECT, live, as NDJSON or server-sent events.
//!
//! The first object names the columns, then one per change comes, then one that says how it ended.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures::{Stream, stream};
use serde_json::{Value, json};

use super::{jobs::find, problem::Problem};
use crate::{
    Statements,
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

    fn push(self, text: &mut String, event: &str, data: &Value) {
        // Writing to a string does not fail.
        let _ = match self {
            Format::Lines => writeln!(text, "{data}"),
            Format::Events => write!(text, "event: {event}\ndata: {data}\n\n"),
        };
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
    tag = "jobs",
    params(("id" = String, Path, description = "Id of the job")),
    responses(
        (status = 200, description = "Changes: `{\"op\": \"+I\", \"row\": {…}}`", content(
            (Object = "application/x-ndjson"),
            (Object = "text/event-stream"),
        )),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 409, description = "The job is not a SELECT", body = Problem),
    ),
)]
pub(super) async fn read(
    State(statements): State<Arc<Statements>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let entry = find(&statements, &id)?;
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
    let columns: Vec<Value> = columns
        .map(|(column, name)| json!({"name": name, "type": column.data_type.to_string()}))
        .collect();
    let key = reader.feed().upsert_key().map(|key| {
        let name = |column: &usize| names.get(*column).cloned();
        key.iter().filter_map(name).collect::<Vec<_>>()
    });
    let mut text = String::new();
    let data = json!({"columns": columns, "upsert_key": key});
    format.push(&mut text, "columns", &data);
    text
}

fn piece(chunk: &Chunk, reader: &FeedReader, names: &[String], format: Format) -> String {
    let mut text = String::new();
    match chunk {
        Chunk::Rows { skipped, rows } => {
            if *skipped > 0 {
                format.push(&mut text, "skipped", &json!({"skipped": skipped}));
            }
            let columns = reader.feed().columns();
            for row in rows {
                let data = json!({
                    "op": row.kind.symbol(),
                    "row": row_json(row, columns, names),
                });
                format.push(&mut text, "row", &data);
            }
        }
        Chunk::End(FeedEnd::Complete) => {
            format.push(&mut text, "end", &json!({"end": "complete"}));
        }
        Chunk::End(FeedEnd::Broken(error)) => {
            format.push(&mut text, "end", &json!({"end": "broken", "error": error}));
        }
    }
    text
}
