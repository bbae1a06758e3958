//! A real S3 server: MinIO over a temporary folder.

use std::{
    fs,
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use object_store::{aws::AmazonS3Builder, path::Path, signer::Signer as _};
use tempfile::TempDir;
use ureq::{Agent, http::Method};

use crate::{
    tool::{free_port, tool},
    wait_until,
};

/// Same as in the Makefile, which builds it.
const VERSION: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";

/// Its only user.
const USER: &str = "minio-of-tests";
/// That user's password.
const PASSWORD: &str = "password-of-tests";

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running server; stopped when dropped.
pub struct Minio {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Minio {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Minio {
        // Another process may take the port in between; then there is another.
        (0..5)
            .find_map(|_| Minio::start_on(free_port()))
            .expect("MinIO starts; see its output above")
    }

    fn start_on(port: u16) -> Option<Minio> {
        let folder = tempfile::tempdir().expect("a folder");
        let output = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let process = Command::new(tool("MILLSTREAM_MINIO", &format!("minio-{VERSION}")))
            .args(["server", "--address", &format!("127.0.0.1:{port}")])
            .arg(folder.path().join("data"))
            .env("HOME", folder.path())
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("MinIO runs");
        let mut minio = Minio {
            process,
            port,
            folder,
        };
        let mut ended = false;
        let ready = wait_until(START_MAX, || {
            ended = minio.process.try_wait().expect("a process").is_some();
            ended || minio.is_ready()
        });
        if ready && !ended {
            return Some(minio);
        }
        for name in ["stdout", "stderr"] {
            let output = fs::read_to_string(minio.folder.path().join(name));
            eprintln!("{}", output.unwrap_or_default());
        }
        None
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of those who use it.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", USER.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD.to_owned()),
        ]
    }

    /// Makes a bucket: a PUT of its own address, signed as one of an object without a name.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn make_bucket(&self, bucket: &str) {
        // The client would panic without one, though it only signs.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let signer = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_access_key_id(USER)
            .with_secret_access_key(PASSWORD)
            .build()
            .expect("a client");
        let url = signer
            .signed_url(Method::PUT, &Path::default(), START_MAX)
            .await;
        let url = url.expect("a signature");
        // It says that it is ready before it is.
        let mut refused = String::new();
        let made = wait_until(START_MAX, || {
            let made = agent().put(url.as_str()).send_empty();
            let mut made = made.expect("an answer");
            refused = made.body_mut().read_to_string().unwrap_or_default();
            made.status() != 503
        });
        assert!(made && refused.is_empty(), "no bucket: {refused}");
    }

    /// Stops it in the middle of what it does; nobody gets an answer.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    fn is_ready(&self) -> bool {
        let url = format!("{}/minio/health/ready", self.endpoint());
        let answer = agent().get(url).call();
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(10)));
    config.build().into()
}
