//! What goes wrong with a store, as users can act on it: one line that says what, where and what
//! to do, instead of what three libraries say to each other.

use std::{error::Error, fmt::Write as _, io, path::PathBuf};

use object_store::client::{HttpError, HttpErrorKind};

/// Characters of another's words that are repeated.
const WORDS_MAX: usize = 200;

/// What is wrong, for those who decide what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The bucket, directory or object is not there.
    Missing,
    /// It may not be used so, or not with this key.
    Denied,
    /// It does not answer, or not sensibly.
    Unreachable,
    /// It has too much to do.
    Throttled,
    /// There is no space left.
    Full,
    /// Something else.
    Other,
}

/// A failure in one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}")]
pub struct StoreError {
    /// What is wrong.
    pub fault: Fault,
    /// What, where, and what to do.
    pub line: String,
}

/// What failed.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Memory,
    Directory(PathBuf),
    /// Its name and where it is.
    Bucket(String),
}

/// What an error's chain says, whoever said it.
struct Evidence {
    io: Option<(io::ErrorKind, String)>,
    http: Option<HttpErrorKind>,
    /// `<Code>` of an answer of S3.
    code: Option<String>,
    /// Status of an HTTP answer.
    status: Option<u16>,
    /// All of it.
    chain: String,
    /// What the last one said.
    deepest: String,
}

impl Fault {
    /// What is wrong.
    #[must_use]
    pub fn of(error: &object_store::Error) -> Fault {
        let evidence = Evidence::of(error);
        if let Some((kind, _)) = &evidence.io
            && let Some(fault) = of_io(*kind)
        {
            return fault;
        }
        evidence
            .of_answer()
            .or(evidence.of_transport())
            .unwrap_or(match error {
                object_store::Error::NotFound { .. } => Fault::Missing,
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => Fault::Denied,
                _ => Fault::Other,
            })
    }
}

impl Target {
    pub(super) fn place(&self) -> String {
        match self {
            Target::Memory => "memory".to_owned(),
            Target::Directory(path) => format!("directory `{}`", path.display()),
            Target::Bucket(place) => place.clone(),
        }
    }

    pub(super) fn explain_io(&self, error: &io::Error) -> StoreError {
        let line = self.io_line(error.kind(), &error.to_string());
        StoreError {
            fault: of_io(error.kind()).unwrap_or(Fault::Other),
            line,
        }
    }

    pub(super) fn explain(&self, error: &object_store::Error) -> StoreError {
        let evidence = Evidence::of(error);
        let fault = Fault::of(error);
        let line = match (self, &evidence.io) {
            (Target::Bucket(place), _) => evidence.bucket_line(place, fault),
            (_, Some((kind, words))) => self.io_line(*kind, words),
            (_, None) => format!("{}: {}", self.place(), evidence.words()),
        };
        StoreError { fault, line }
    }

    fn io_line(&self, kind: io::ErrorKind, words: &str) -> String {
        let place = self.place();
        match kind {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                format!("{place} is, or is below, a file: give another directory")
            }
            io::ErrorKind::PermissionDenied => {
                format!("{place} may not be read and written by this user: change its owner")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                format!("{place} is read-only: mount it writable, or give another directory")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("{place} has no space left: make room, then start again")
            }
            io::ErrorKind::NotFound => format!("{place} lacks a file or is gone"),
            _ => format!("{place}: {}", one_line(words)),
        }
    }
}

fn of_io(kind: io::ErrorKind) -> Option<Fault> {
    Some(match kind {
        io::ErrorKind::NotFound => Fault::Missing,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Fault::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        _ => return None,
    })
}

impl Evidence {
    fn of(error: &object_store::Error) -> Evidence {
        let mut evidence = Evidence {
            io: None,
            http: None,
            code: None,
            status: None,
            chain: String::new(),
            deepest: String::new(),
        };
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            evidence.deepest = error.to_string();
            // To a string nothing fails.
            let _ = writeln!(evidence.chain, "{}", evidence.deepest);
            if let Some(io) = error.downcast_ref::<io::Error>() {
                evidence.io = Some((io.kind(), io.to_string()));
            }
            if let Some(http) = error.downcast_ref::<HttpError>() {
                evidence.http = Some(http.kind());
            }
            next = error.source();
        }
        // The client's error type cannot be named from outside; its text can.
        let after = |mark: &str| evidence.chain.split_once(mark).map(|(_, rest)| rest);
        let code = after("<Code>").and_then(|rest| rest.split_once("</Code>"));
        evidence.code = code.map(|(code, _)| code.to_owned());
        let status = after("status code: ").and_then(|rest| rest.get(..3));
        evidence.status = status.and_then(|status| status.parse().ok());
        // A socket's failure is not a disk's.
        if evidence.http.is_some() {
            evidence.io = None;
        }
        evidence
    }

    /// What an answer of S3 means.
    fn of_answer(&self) -> Option<Fault> {
        let by_code = self.code.as_deref().and_then(|code| match code {
            "NoSuchBucket" | "NoSuchKey" => Some(Fault::Missing),
            "SlowDown" | "RequestLimitExceeded" | "TooManyRequests" | "ServiceUnavailable" => {
                Some(Fault::Throttled)
            }
            "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded" => {
                Some(Fault::Full)
            }
            code if is_about_keys(code) || is_about_region(code) => Some(Fault::Denied),
            "AccessDenied" | "AllAccessDisabled" | "RequestTimeTooSkewed" => Some(Fault::Denied),
            _ => None,
        });
        by_code.or(match self.status? {
            301 | 307 | 401 | 403 => Some(Fault::Denied),
            404 => Some(Fault::Missing),
            408 | 500 | 502 | 504 => Some(Fault::Unreachable),
            429 | 503 => Some(Fault::Throttled),
            507 => Some(Fault::Full),
            _ => None,
        })
    }

    /// What the lack of an answer means.
    fn of_transport(&self) -> Option<Fault> {
        if self.lacks_key() || self.chain.contains("without LOCATION") {
            return Some(Fault::Denied);
        }
        match self.http? {
            HttpErrorKind::Connect
            | HttpErrorKind::Request
            | HttpErrorKind::Timeout
            | HttpErrorKind::Interrupted => Some(Fault::Unreachable),
            _ => None,
        }
    }

    /// Without a key, the client asks the cloud's machine for one.
    fn lacks_key(&self) -> bool {
        self.chain.contains("169.254.169.254") || self.chain.contains("169.254.170.2")
    }

    fn bucket_line(&self, place: &str, fault: Fault) -> String {
        let code = self.code.as_deref().unwrap_or_default();
        let what = match fault {
            _ if code == "NoSuchBucket" => {
                "does not exist: create it, or correct the store's URL".to_owned()
            }
            Fault::Missing => "lacks an object that should be there".to_owned(),
            Fault::Denied if self.lacks_key() => {
                "needs a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
            }
            Fault::Denied if is_about_keys(code) || self.status == Some(401) => {
                "does not accept the key: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                 AWS_SESSION_TOKEN"
                    .to_owned()
            }
            Fault::Denied if code == "RequestTimeTooSkewed" => {
                "finds this machine's clock wrong: correct it".to_owned()
            }
            Fault::Denied if self.is_elsewhere() => "is in another region: set AWS_REGION".into(),
            Fault::Denied => {
                "denies access: the key needs s3:ListBucket, s3:GetObject, s3:PutObject and \
                 s3:DeleteObject"
                    .to_owned()
            }
            Fault::Unreachable if self.chain.contains("certificate") => {
                "has a certificate that this machine does not trust: install its authority's"
                    .to_owned()
            }
            Fault::Unreachable if self.http == Some(HttpErrorKind::Connect) => {
                "cannot be reached: check AWS_ENDPOINT_URL_S3 and the network".to_owned()
            }
            Fault::Unreachable => "does not answer as it should: look after the server".to_owned(),
            Fault::Throttled => "has too much to do; it is asked again later".to_owned(),
            Fault::Full => "has no space left: make room".to_owned(),
            Fault::Other => return format!("{place}: {}", self.words()),
        };
        format!("{place} {what}")
    }

    fn is_elsewhere(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        is_about_region(code)
            || matches!(self.status, Some(301 | 307))
            || self.code.is_none() && self.chain.contains("without LOCATION")
    }

    /// What the store said itself.
    fn words(&self) -> String {
        let message = self.chain.split_once("<Message>");
        let message = message.and_then(|(_, rest)| rest.split_once("</Message>"));
        one_line(message.map_or(&self.deepest, |(message, _)| message))
    }
}

fn is_about_keys(code: &str) -> bool {
    matches!(
        code,
        "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "TokenRefreshRequired"
            | "InvalidClientTokenId"
    )
}

fn is_about_region(code: &str) -> bool {
    matches!(
        code,
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"
    )
}

fn one_line(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Target {
        Target::Bucket("bucket `b` at https://s3".to_owned())
    }

    fn generic(source: impl Into<Box<dyn Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: source.into(),
        }
    }

    /// As the client words an answer.
    fn answer(status: &str, code: &str) -> object_store::Error {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>said\nso</Message></Error>"
        );
        generic(format!(
            "Server returned non-2xx status code: {status}: {body}"
        ))
    }

    fn line(error: &object_store::Error) -> (Fault, String) {
        let found = bucket().explain(error);
        let rest = found.line.strip_prefix("bucket `b` at https://s3");
        (found.fault, rest.expect("where").trim().to_owned())
    }

    #[test]
    fn answers_of_s3_say_what_to_do() {
        let found = |status, code| line(&answer(status, code));
        let denied = |what: &str| (Fault::Denied, what.to_owned());
        assert_eq!(
            found("404 Not Found", "NoSuchBucket"),
            (
                Fault::Missing,
                "does not exist: create it, or correct the store's URL".to_owned()
            )
        );
        let key = denied(
            "does not accept the key: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
             AWS_SESSION_TOKEN",
        );
        assert_eq!(found("403 Forbidden", "InvalidAccessKeyId"), key);
        assert_eq!(found("403 Forbidden", "SignatureDoesNotMatch"), key);
        assert_eq!(found("400 Bad Request", "ExpiredToken"), key);
        let access = denied(
            "denies access: the key needs s3:ListBucket, s3:GetObject, s3:PutObject and \
             s3:DeleteObject",
        );
        assert_eq!(found("403 Forbidden", "AccessDenied"), access);
        let region = denied("is in another region: set AWS_REGION");
        assert_eq!(found("301 Moved Permanently", "PermanentRedirect"), region);
        assert_eq!(
            found("400 Bad Request", "AuthorizationHeaderMalformed"),
            region
        );
        let fault = |status, code| found(status, code).0;
        assert_eq!(
            fault("503 Service Unavailable", "SlowDown"),
            Fault::Throttled
        );
        assert_eq!(
            fault("503 Service Unavailable", "XMinioServerNotInitialized"),
            Fault::Throttled
        );
        assert_eq!(
            fault("507 Insufficient Storage", "XMinioStorageFull"),
            Fault::Full
        );
        assert_eq!(
            fault("500 Internal Server Error", "InternalError"),
            Fault::Unreachable
        );
        assert_eq!(
            found("400 Bad Request", "SomethingNew"),
            (Fault::Other, ": said so".to_owned())
        );
    }

    #[test]
    fn silence_is_told_from_refusal() {
        let silent = |kind| generic(HttpError::new(kind, io::Error::other("nobody")));
        assert_eq!(
            line(&silent(HttpErrorKind::Connect)),
            (
                Fault::Unreachable,
                "cannot be reached: check AWS_ENDPOINT_URL_S3 and the network".to_owned()
            )
        );
        assert_eq!(
            line(&silent(HttpErrorKind::Timeout)),
            (
                Fault::Unreachable,
                "does not answer as it should: look after the server".to_owned()
            )
        );
        let cloud = generic("Error performing PUT http://169.254.169.254/latest/api/token in 1s");
        assert_eq!(
            line(&cloud),
            (
                Fault::Denied,
                "needs a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
            )
        );
    }

    #[test]
    fn a_disk_s_failures_say_what_to_do() {
        let directory = Target::Directory("/data".into());
        let found = |kind: io::ErrorKind| {
            let found = directory.explain(&generic(io::Error::from(kind)));
            (found.fault, found.line)
        };
        assert_eq!(
            found(io::ErrorKind::StorageFull),
            (
                Fault::Full,
                "directory `/data` has no space left: make room, then start again".to_owned()
            )
        );
        assert_eq!(
            found(io::ErrorKind::ReadOnlyFilesystem),
            (
                Fault::Denied,
                "directory `/data` is read-only: mount it writable, or give another directory"
                    .to_owned()
            )
        );
        assert_eq!(found(io::ErrorKind::PermissionDenied).0, Fault::Denied);
    }
}
