//! Change events to changelog rows.

use proto::{
    plan::DebeziumJsonFormat,
    types::{Field, RowKind},
};

use crate::{
    column::Rows,
    format::json::{Cursor, Fail, ObjectReader, SyntaxError, check_map_keys},
};

/// Decodes one change event per record.
pub(crate) struct DebeziumDecoder {
    reader: ObjectReader,
    schema_include: bool,
}

/// The members of an event, as they stand in its text.
#[derive(Default)]
struct Event<'a> {
    before: Option<Cursor<'a>>,
    after: Option<Cursor<'a>>,
    op: Option<&'a [u8]>,
    payload: Option<Cursor<'a>>,
}

impl DebeziumDecoder {
    pub(crate) fn new(
        format: &DebeziumJsonFormat,
        fields: &[Field],
    ) -> Result<DebeziumDecoder, String> {
        for field in fields {
            check_map_keys(&field.name, &field.data_type.logical)?;
        }
        Ok(DebeziumDecoder {
            reader: ObjectReader::new(&format.json.clone().unwrap_or_default()),
            schema_include: format.schema_include,
        })
    }

    pub(crate) fn ignores_errors(&self) -> bool {
        self.reader.lenient()
    }

    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), String> {
        std::str::from_utf8(record).map_err(|_| "not valid UTF-8".to_owned())?;
        let mut cursor = Cursor::new(record);
        // A tombstone (an empty record) says nothing that its delete has not said.
        if cursor.peek().is_none() {
            return Ok(());
        }
        let syntax = |error| Fail::Syntax(error).to_string();
        let mut event = read_event(&mut cursor).map_err(syntax)?;
        if cursor.peek().is_some() {
            return Err(syntax(cursor.expected("the end")));
        }
        if self.schema_include {
            let mut payload = event.payload.ok_or("the event has no `payload`")?;
            event = read_event(&mut payload).map_err(syntax)?;
        }
        match event.op.unwrap_or_default() {
            b"c" | b"r" => self.image(event.after, "after", RowKind::Insert, rows),
            b"u" => {
                self.image(event.before, "before", RowKind::UpdateBefore, rows)?;
                self.image(event.after, "after", RowKind::UpdateAfter, rows)
            }
            b"d" => self.image(event.before, "before", RowKind::Delete, rows),
            b"" => Err("the event has no `op`".to_owned()),
            op => Err(format!(
                "unknown `op` \"{}\": expected c, r, u or d",
                String::from_utf8_lossy(&op[..op.len().min(16)])
            )),
        }
    }

    fn image(
        &mut self,
        image: Option<Cursor<'_>>,
        name: &str,
        kind: RowKind,
        rows: &mut Rows,
    ) -> Result<(), String> {
        let Some(mut cursor) = image else {
            return Err(missing_image(name));
        };
        self.reader
            .next_row(&mut cursor, rows)
            .map_err(|fail| format!("`{name}`: {fail}"))?;
        rows.complete(kind);
        Ok(())
    }
}

fn missing_image(name: &str) -> String {
    let hint = if name == "before" {
        "; a PostgreSQL table needs REPLICA IDENTITY FULL to have it"
    } else {
        ""
    };
    format!("the event's `{name}` is null{hint}")
}

/// Finds an event's members; the images are read later, when the kind of change is known.
fn read_event<'a>(cursor: &mut Cursor<'a>) -> Result<Event<'a>, SyntaxError> {
    let mut event = Event::default();
    let mut scratch = Vec::new();
    cursor.open(b'{', "an object")?;
    let mut more = cursor.not_empty(b'}');
    while more {
        let key = cursor.string(&mut scratch)?;
        let place = match key {
            b"before" => Some(&mut event.before),
            b"after" => Some(&mut event.after),
            b"payload" => Some(&mut event.payload),
            _ => None,
        };
        let is_op = key == b"op";
        cursor.expect(b':', "`:`")?;
        let null = cursor.peek() == Some(b'n');
        if let Some(place) = place {
            *place = (!null).then(|| cursor.clone());
        }
        let start = cursor.position();
        cursor.skip()?;
        if is_op && !null {
            let op = cursor.since(start);
            event.op = Some(
                op.strip_prefix(b"\"")
                    .and_then(|op| op.strip_suffix(b"\""))
                    .unwrap_or(op),
            );
        }
        more = cursor.more(b'}')?;
    }
    Ok(event)
}
