//! The URL of a store, as users write it after `--store`. Keys never are part of it.

use std::{fmt, path::PathBuf};

use object_store::path::Path;
use percent_encoding::percent_decode_str;

use super::s3::{S3Bucket, S3Options};

/// Where objects are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreUrl {
    /// An absolute directory: `file:///dir`, or just its path.
    File(PathBuf),
    /// This process's memory: `memory:`.
    Memory,
    /// A bucket: `s3://bucket/prefix`.
    S3(S3Bucket),
}

/// Why a URL is refused. Never shows a URL that may hold a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// Nothing was given.
    #[error("the store is empty: use a directory, s3://bucket/prefix or memory:")]
    Empty,
    /// A scheme that we cannot open.
    #[error("`{0}` is no kind of store: use a directory, s3://bucket/prefix or memory:")]
    Scheme(String),
    /// `file://host/…`.
    #[error("`{0}` names another machine: write file:///dir with three slashes")]
    Host(String),
    /// A path that cannot be one.
    #[error("`{path}` cannot be a path: {why}")]
    Path {
        /// What was given.
        path: String,
        /// Why.
        why: String,
    },
    /// No bucket, or an impossible one.
    #[error("`{0}` cannot be the name of a bucket: write s3://bucket/prefix")]
    Bucket(String),
    /// `s3://key:secret@bucket` or `?option`.
    #[error(
        "a store's URL takes no keys and no options: set AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL_S3 instead"
    )]
    KeyOrOption,
    /// A variable's value is no good.
    #[error("{name}: {why}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

impl StoreUrl {
    /// Reads a URL; `variable` gives the environment's variables, which say how to reach a bucket.
    ///
    /// # Errors
    /// When it cannot be a store's URL, or a variable is no good.
    pub fn parse(
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<StoreUrl, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if text == "memory:" || text == "memory://" {
            return Ok(StoreUrl::Memory);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return s3(rest, variable);
        }
        if let Some(rest) = text.strip_prefix("file:") {
            return file(text, rest);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(UrlError::Scheme(format!("{scheme}://")));
        }
        directory(text)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::File(directory) => write!(f, "file://{}", directory.display()),
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::S3(bucket) => write!(f, "{bucket}"),
        }
    }
}

fn file(text: &str, rest: &str) -> Result<StoreUrl, UrlError> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(UrlError::Host(text.to_owned())),
        None => rest,
    };
    if !path.starts_with('/') {
        return Err(path_error(text, "a file URL has an absolute path"));
    }
    let path = percent_decode_str(path).decode_utf8();
    let path = path.map_err(|_| path_error(text, "it is not UTF-8"))?;
    directory(&path)
}

fn directory(path: &str) -> Result<StoreUrl, UrlError> {
    if path.contains('\0') {
        return Err(path_error("\\0", "there is no such character in a path"));
    }
    let absolute = std::path::absolute(path);
    let absolute = absolute.map_err(|error| path_error(path, &error.to_string()))?;
    Ok(StoreUrl::File(absolute))
}

fn s3(rest: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<StoreUrl, UrlError> {
    if rest.contains(['@', '?', '#']) {
        return Err(UrlError::KeyOrOption);
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let possible = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(possible) {
        return Err(UrlError::Bucket(bucket.to_owned()));
    }
    let prefix = prefix.trim_end_matches('/');
    let mut parts = prefix.split('/').filter(|_| !prefix.is_empty());
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        return Err(path_error(prefix, "a part of it is empty, `.` or `..`"));
    }
    let path = Path::parse(prefix);
    let prefix = path.map_err(|error| path_error(prefix, &error.to_string()))?;
    Ok(StoreUrl::S3(S3Bucket {
        bucket: bucket.to_owned(),
        prefix,
        options: S3Options::read(variable)?,
    }))
}

fn path_error(path: &str, why: &str) -> UrlError {
    UrlError::Path {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<StoreUrl, UrlError> {
        StoreUrl::parse(text, &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn refused(text: &str, variables: &[(&str, &str)]) -> String {
        match parse(text, variables) {
            Err(error) => error.to_string(),
            Ok(url) => panic!("accepted: {url}"),
        }
    }

    fn bucket(text: &str, variables: &[(&str, &str)]) -> S3Bucket {
        match parse(text, variables) {
            Ok(StoreUrl::S3(bucket)) => bucket,
            other => panic!("no bucket: {other:?}"),
        }
    }

    #[test]
    fn a_directory_is_written_in_several_ways() {
        let directory = StoreUrl::File("/var/lib/mill stream".into());
        for text in [
            "/var/lib/mill stream",
            "/var/lib/mill stream/",
            "file:///var/lib/mill stream",
            "file:///var/lib/mill%20stream",
            "file:/var/lib/mill%20stream",
        ] {
            assert_eq!(parse(text, &[]).expect("a directory"), directory, "{text}");
        }
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(parse("data", &[]), Ok(StoreUrl::File(here.join("data"))));
    }

    #[test]
    fn a_bucket_has_a_prefix_or_none() {
        let found = bucket("s3://bucket/a/b/", &[]);
        assert_eq!(found.to_string(), "s3://bucket/a/b");
        assert_eq!(bucket("s3://bucket", &[]).to_string(), "s3://bucket");
        assert_eq!(bucket("s3://bucket/", &[]).prefix, Path::default());
    }

    #[test]
    fn what_cannot_be_a_store_is_refused_with_what_to_do() {
        let lines: Vec<String> = [
            "",
            "gs://bucket",
            "file://host/dir",
            "file:dir",
            "s3://",
            "s3://a b/c",
            "s3://bucket//x",
            "s3://bucket/../x",
        ]
        .iter()
        .map(|text| refused(text, &[]))
        .collect();
        assert_eq!(
            lines,
            [
                "the store is empty: use a directory, s3://bucket/prefix or memory:",
                "`gs://` is no kind of store: use a directory, s3://bucket/prefix or memory:",
                "`file://host/dir` names another machine: write file:///dir with three slashes",
                "`file:dir` cannot be a path: a file URL has an absolute path",
                "`` cannot be the name of a bucket: write s3://bucket/prefix",
                "`a b` cannot be the name of a bucket: write s3://bucket/prefix",
                "`/x` cannot be a path: a part of it is empty, `.` or `..`",
                "`../x` cannot be a path: a part of it is empty, `.` or `..`",
            ]
        );
    }

    #[test]
    fn keys_are_never_shown() {
        let in_url = refused("s3://id:hidden@bucket/x", &[]);
        let found = bucket(
            "s3://bucket/x",
            &[
                ("AWS_ACCESS_KEY_ID", "id"),
                ("AWS_SECRET_ACCESS_KEY", "hidden"),
                ("AWS_SESSION_TOKEN", "hidden"),
                ("AWS_ENDPOINT_URL_S3", "https://s3.example.com"),
            ],
        );
        let access = found.options.access.clone().expect("a key");
        assert_eq!(access.secret.reveal(), "hidden");
        let in_endpoint = refused(
            "s3://bucket",
            &[("S3_ENDPOINT", "http://id:hidden@localhost")],
        );
        let shown = format!("{in_url} {in_endpoint} {found:?} {found} {access:?}");
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn half_a_key_is_refused() {
        assert_eq!(
            refused("s3://bucket", &[("AWS_ACCESS_KEY_ID", "id")]),
            "AWS_SECRET_ACCESS_KEY: it is not set, but AWS_ACCESS_KEY_ID is"
        );
        assert_eq!(
            refused("s3://bucket", &[("AWS_SECRET_ACCESS_KEY", "x")]),
            "AWS_ACCESS_KEY_ID: it is not set, but AWS_SECRET_ACCESS_KEY is"
        );
        assert_eq!(
            bucket("s3://bucket", &[("AWS_ACCESS_KEY_ID", "")])
                .options
                .access,
            None
        );
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for endpoint in [
            "http://127.0.0.1:9000",
            "http://localhost:9000/",
            "http://[::1]:9000",
            "https://minio.example.com",
        ] {
            let found = bucket("s3://bucket", &[("S3_ENDPOINT", endpoint)]);
            let kept = found.options.endpoint.expect("an endpoint");
            assert_eq!(kept, endpoint.trim_end_matches('/'));
        }
        let far = ("AWS_ENDPOINT_URL", "http://minio.example.com");
        assert_eq!(
            refused("s3://bucket", &[far]),
            "AWS_ENDPOINT_URL: http:// sends data over the network in plain text: use https://, \
             or set AWS_ALLOW_HTTP=true"
        );
        let allowed = bucket("s3://bucket", &[far, ("AWS_ALLOW_HTTP", "true")]);
        assert!(allowed.options.allow_http);
        assert_eq!(
            refused("s3://bucket", &[("AWS_ALLOW_HTTP", "yes")]),
            "AWS_ALLOW_HTTP: it is `true` or `false`"
        );
        assert_eq!(
            refused("s3://bucket", &[("S3_ENDPOINT", "localhost:9000")]),
            "S3_ENDPOINT: `localhost:9000` is no address: write https://host:port"
        );
    }

    #[test]
    fn the_most_special_variable_counts() {
        let mut variables = vec![
            ("S3_ENDPOINT", "https://c"),
            ("AWS_ENDPOINT_URL", "https://b"),
            ("AWS_ENDPOINT_URL_S3", "https://a"),
        ];
        for expected in ["https://a", "https://b", "https://c"] {
            let options = bucket("s3://bucket", &variables).options;
            assert_eq!(options.endpoint.as_deref(), Some(expected));
            variables.pop();
        }
        let region = |variables| bucket("s3://bucket", variables).options.region;
        assert_eq!(region(&[]), "us-east-1");
        assert_eq!(region(&[("AWS_DEFAULT_REGION", "eu-1")]), "eu-1");
        let both = [("AWS_DEFAULT_REGION", "eu-1"), ("AWS_REGION", "eu-2")];
        assert_eq!(region(&both), "eu-2");
    }
}
