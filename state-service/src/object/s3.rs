//! A bucket and how to reach it: the same variables that other S3 clients read.

use std::{fmt, net::IpAddr, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};

use super::url::UrlError;

/// A new connection must stand after this time.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// One attempt of a request, its body included: 64 MiB at 1 MiB/s.
const ATTEMPT_MAX: Duration = Duration::from_secs(64);
/// The client repeats a request so often by itself; those above it have their own patience.
const RETRIES_MAX: usize = 3;
/// The client begins no further attempt after this time.
const RETRIES_WITHIN: Duration = Duration::from_secs(20);
/// First pause between attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Servers close idle connections after some time; a shorter one here spares failed requests.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// The endpoint, the most special variable first.
const ENDPOINT: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"];
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";
/// How a machine or container of a cloud gets its keys.
const ROLE: [(&str, AmazonS3ConfigKey); 6] = [
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        AmazonS3ConfigKey::WebIdentityTokenFile,
    ),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
];

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A key that opens buckets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessKey {
    /// Its name.
    pub id: String,
    /// What proves it.
    pub secret: Secret,
    /// With keys for a limited time.
    pub token: Option<Secret>,
}

/// How to reach buckets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Options {
    /// Key; `None`: the machine or the container has one from its cloud.
    pub access: Option<AccessKey>,
    /// Region; servers other than AWS's mostly do not care.
    pub region: String,
    /// Address of a server other than AWS's; buckets are then part of the path.
    pub endpoint: Option<String>,
    /// Whether data may go over the network in plain text.
    pub allow_http: bool,
    role: Vec<(AmazonS3ConfigKey, String)>,
}

/// A part of a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Bucket {
    /// Its name.
    pub bucket: String,
    /// The part.
    pub prefix: Path,
    /// How to reach it.
    pub options: S3Options,
}

impl S3Options {
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<S3Options, UrlError> {
        // An empty variable is how many tools unset one.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let access = match (variable(KEY_ID), variable(SECRET)) {
            (Some(id), Some(secret)) => Some(AccessKey {
                id,
                secret: Secret(secret),
                token: variable("AWS_SESSION_TOKEN").map(Secret),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(unset(SECRET, KEY_ID)),
            (None, Some(_)) => return Err(unset(KEY_ID, SECRET)),
        };
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let allow_http = match variable(ALLOW_HTTP).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(wrong(ALLOW_HTTP, "it is `true` or `false`")),
        };
        let endpoint = ENDPOINT
            .into_iter()
            .find_map(|name| variable(name).map(|value| (name, value)));
        let endpoint = endpoint.map(|(name, value)| check_endpoint(name, &value, allow_http));
        let role = ROLE
            .into_iter()
            .filter_map(|(name, key)| variable(name).map(|value| (key, value)));
        Ok(S3Options {
            access,
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            endpoint: endpoint.transpose()?,
            allow_http,
            role: role.collect(),
        })
    }
}

impl S3Bucket {
    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match &self.options.endpoint {
            Some(endpoint) => format!("bucket `{}` at {endpoint}", self.bucket),
            None => format!("bucket `{}` in {}", self.bucket, self.options.region),
        }
    }

    pub(super) fn client(&self) -> object_store::Result<AmazonS3> {
        let options = &self.options;
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT_MAX)
            .with_timeout(ATTEMPT_MAX)
            .with_pool_idle_timeout(IDLE_MAX)
            .with_pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            // What may not be plain was refused with the options.
            .with_allow_http(true);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: PAUSE,
                max_backoff: PAUSE_MAX,
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRIES_WITHIN,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&options.region)
            .with_client_options(client)
            .with_retry(retry);
        builder = match &options.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            // Certificates are for names of one part: a dot in the bucket's name makes it two.
            None => builder.with_virtual_hosted_style_request(!self.bucket.contains('.')),
        };
        if let Some(access) = &options.access {
            builder = builder
                .with_access_key_id(&access.id)
                .with_secret_access_key(access.secret.reveal());
            if let Some(token) = &access.token {
                builder = builder.with_token(token.reveal());
            }
        } else {
            for (key, value) in &options.role {
                builder = builder.with_config(*key, value);
            }
        }
        builder.build()
    }
}

impl fmt::Display for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.as_ref().is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

fn check_endpoint(name: &'static str, value: &str, allow_http: bool) -> Result<String, UrlError> {
    let plain = value.strip_prefix("http://");
    let Some(rest) = plain.or_else(|| value.strip_prefix("https://")) else {
        let why = format!("`{value}` is no address: write https://host:port");
        return Err(wrong(name, &why));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err(wrong(name, "an address is https://host:port and no more"));
    }
    if plain.is_some() && !allow_http && !is_loopback(authority) {
        let why = "http:// sends data over the network in plain text: use https://, or set \
                   AWS_ALLOW_HTTP=true";
        return Err(wrong(name, why));
    }
    Ok(value.trim_end_matches('/').to_owned())
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn unset(name: &'static str, other: &str) -> UrlError {
    wrong(name, &format!("it is not set, but {other} is"))
}

fn wrong(name: &'static str, why: &str) -> UrlError {
    UrlError::Variable {
        name,
        why: why.to_owned(),
    }
}
