//! Bodies of requests: JSON objects of a few fields. Not axum's `Json`, whose errors speak of Rust
//! types, and which takes an array for an object.

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::caps::REQUEST_BYTES_MAX;

/// What a body must be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Names of the fields there may be.
    pub(super) fields: &'static [&'static str],
    /// A body to learn from.
    pub(super) example: &'static str,
}

/// The fields of a body.
#[derive(Debug)]
pub(super) struct Fields {
    shape: Shape,
    fields: Map<String, Value>,
}

impl Shape {
    /// The fields of a body.
    pub(super) fn read(
        self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Fields, Problem> {
        let body = body.map_err(|rejection| self.unreadable(&rejection))?;
        if !is_json(headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(
                Problem::new(status, "request.type", "the body must be JSON")
                    .hint("send the header `Content-Type: application/json`"),
            );
        }
        let body: Value = serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.malformed(
                StatusCode::BAD_REQUEST,
                format!("the body is not JSON (line {line}, column {column})"),
            )
        })?;
        let Value::Object(fields) = body else {
            return Err(self.unprocessable("the body is not a JSON object".to_owned()));
        };
        self.of(fields)
    }

    /// The fields of an object in a body.
    pub(super) fn of(self, fields: Map<String, Value>) -> Result<Fields, Problem> {
        let unknown = |name: &&String| !self.fields.contains(&name.as_str());
        if let Some(unknown) = fields.keys().find(unknown) {
            let detail = format!("the body has an unknown field `{unknown}`");
            return Err(self.unprocessable(detail));
        }
        let shape = self;
        Ok(Fields { shape, fields })
    }

    fn unprocessable(self, detail: String) -> Problem {
        self.malformed(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    fn malformed(self, status: StatusCode, detail: String) -> Problem {
        let example = self.example;
        Problem::new(status, "request.malformed", detail)
            .hint(format!("the body is an object such as {example}"))
    }

    fn unreadable(self, rejection: &BytesRejection) -> Problem {
        match rejection.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("the request has more than {REQUEST_BYTES_MAX} bytes");
                Problem::new(status, "request.size", detail)
            }
            status => self.malformed(status, "the body could not be read".to_owned()),
        }
    }
}

impl Fields {
    /// A field that is text.
    pub(super) fn text(&self, name: &str) -> Result<&str, Problem> {
        self.field(name, "text", Value::as_str)
    }

    /// A field that is a whole number from 0.
    pub(super) fn number(&self, name: &str) -> Result<u64, Problem> {
        self.field(name, "a whole number", Value::as_u64)
    }

    /// A field of any type.
    pub(super) fn value(&self, name: &str) -> Result<&Value, Problem> {
        self.field(name, "a value", Some)
    }

    /// A field that is text, if it is there.
    pub(super) fn text_if_there(&self, name: &str) -> Result<Option<&str>, Problem> {
        self.if_there(name, || self.text(name))
    }

    /// A field that is a whole number from 0, if it is there.
    pub(super) fn number_if_there(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.if_there(name, || self.number(name))
    }

    /// A field that is true or false; false where it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = || self.field(name, "true or false", Value::as_bool);
        Ok(self.if_there(name, flag)?.unwrap_or_default())
    }

    /// A field that is an object, if it is there.
    pub(super) fn object_if_there(
        &self,
        name: &str,
    ) -> Result<Option<&Map<String, Value>>, Problem> {
        self.if_there(name, || self.field(name, "an object", Value::as_object))
    }

    fn if_there<T>(
        &self,
        name: &str,
        read: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => read().map(Some),
        }
    }

    fn field<'a, T>(
        &'a self,
        name: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, Problem> {
        let Some(value) = self.fields.get(name) else {
            let detail = format!("the body has no field `{name}`");
            return Err(self.shape.unprocessable(detail));
        };
        read(value).ok_or_else(|| self.wrong(name, &format!("is not {kind}")))
    }

    /// A field that is of the right type and wrong all the same.
    pub(super) fn wrong(&self, name: &str, why: &str) -> Problem {
        self.shape
            .unprocessable(format!("the field `{name}` {why}"))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    given.is_some_and(|given| given.eq_ignore_ascii_case("application/json"))
}
