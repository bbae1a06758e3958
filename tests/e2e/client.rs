//! The command line against a server of its own, in plain text and with certificates.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use tests::{DevProcess, wait_until};

const WAIT_MAX: Duration = Duration::from_secs(60);

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_millstream-under-test"))
}

fn client(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .env("MILLSTREAM_URL", url)
        .env("MILLSTREAM_TOKEN", DevProcess::TOKEN)
        .env_remove("MILLSTREAM_CA")
        .stdin(Stdio::null());
    command
}

/// What it prints.
fn ask(url: &str, arguments: &[&str]) -> String {
    let output = client(url, arguments).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// What it complains about.
fn complaint(url: &str, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = client(url, arguments).output().expect("it runs");
    let error = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{error}");
    error
}

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// Certificates of an authority, and of a server that it knows as `localhost`.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("signed");
        let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let server = server.signed_by(&key, &authority).expect("signed");
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("cert.pem", server.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        Certificates { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A server that shows the certificate.
    fn server(&self) -> DevProcess {
        let (certificate, key) = (self.text("cert.pem"), self.text("key.pem"));
        let variables = [
            ("MILLSTREAM_TLS_CERT", certificate.as_str()),
            ("MILLSTREAM_TLS_KEY", key.as_str()),
        ];
        DevProcess::start(program(), &variables)
    }
}

#[test]
fn jobs_are_looked_at_cancelled_and_deleted() {
    let dev = DevProcess::start(program(), &[]);
    let url = dev.url();
    let sql = "CREATE TABLE t (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '5'); SELECT n FROM t";
    let submitted = ask(url, &["jobs", "submit", "-e", sql]);
    assert_eq!(submitted.lines().last(), Some("job_1"), "{submitted}");
    let running = wait_until(WAIT_MAX, || {
        ask(url, &["jobs", "get", "job_1"]).contains("RUNNING")
    });
    assert!(running, "{}", dev.log());
    let list = ask(url, &["jobs", "list"]);
    let list = words(&list);
    assert_eq!(list[0], ["ID", "STATE", "HEALTH", "CREATED", "NAME"]);
    assert_eq!(list[1][..3], ["job_1", "RUNNING", "OK"]);
    for part in [
        "plan",
        "metrics",
        "checkpoints",
        "exceptions",
        "dead-letters",
    ] {
        let json = ask(url, &["jobs", part, "job_1", "--json"]);
        let parsed: Value = serde_json::from_str(&json).expect("JSON");
        assert!(parsed.is_object(), "{json}");
        assert!(!ask(url, &["jobs", part, "job_1"]).is_empty(), "{part}");
    }

    let workers = ask(url, &["workers"]);
    let workers = words(&workers);
    assert_eq!(workers[1][0], "wk_0");
    assert_eq!(workers[1].last(), Some(&"1)"), "{workers:?}");
    assert!(ask(url, &["workers", "wk_0"]).contains("job_1 (tasks 1)"));
    assert_eq!(
        ask(url, &["state-nodes", "--json"]),
        "{\"state_nodes\":[]}\n"
    );
    assert_eq!(ask(url, &["state-nodes"]).lines().count(), 1);
    let nodes = ask(url, &["cluster", "list"]);
    let (_, place) = url.split_once("://").expect("a URL");
    assert_eq!(words(&nodes)[1], ["1", place, "true", "true"]);
    let refused = complaint(url, &["cluster", "remove", "1"]);
    assert!(refused.contains("one process for everything"), "{refused}");

    let refused = complaint(url, &["jobs", "delete", "job_1"]);
    assert!(
        refused.contains("job_1 has not ended (cancel it first:"),
        "{refused}"
    );
    assert!(ask(url, &["jobs", "cancel", "job_1"]).starts_with("job_1 CANCEL"));
    let ended = wait_until(WAIT_MAX, || {
        ask(url, &["jobs", "get", "job_1"]).contains("CANCELED")
    });
    assert!(ended, "{}", dev.log());
    assert_eq!(ask(url, &["jobs", "delete", "job_1"]), "job_1 is deleted\n");
    assert!(complaint(url, &["jobs", "get", "job_1"]).contains("job_1 does not exist"));
    assert_eq!(ask(url, &["jobs", "list"]).lines().count(), 1);
}

#[test]
fn the_next_server_is_asked_when_one_cannot_be_reached() {
    let dev = DevProcess::start(program(), &[]);
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = format!("http://{}", gone.expect("a port"));
    let both = format!("{gone},{}", dev.url());
    assert_eq!(ask(&both, &["jobs", "list"]).lines().count(), 1);
    let sql = ask(&both, &["sql", "-e", "SHOW TABLES"]);
    assert_eq!(sql.lines().count(), 1, "{sql}");
    let error = complaint(&format!("{gone},{gone}"), &["jobs", "list"]);
    let expected = format!("failed to reach {gone}: connection refused; is the server running?");
    assert_eq!(error, format!("error: {expected}\n{expected}\n"));
}

#[test]
fn a_server_with_a_certificate_is_reached_by_those_who_trust_it() {
    let certificates = Certificates::new();
    let mut dev = certificates.server();
    let (_, port) = dev.url().rsplit_once(':').expect("a port");
    assert!(dev.url().starts_with("https://"), "{}", dev.url());
    let url = format!("https://localhost:{port}");
    let ca = certificates.text("ca.pem");
    let list = ["jobs", "list", "--ca", &ca];
    assert_eq!(ask(&url, &list).lines().count(), 1);

    let untrusted = complaint(&url, &["jobs", "list"]);
    assert!(
        untrusted.contains("give the authority's certificate with --ca"),
        "{untrusted}"
    );
    let other = Certificates::new();
    let wrong = complaint(&url, &["jobs", "list", "--ca", &other.text("ca.pem")]);
    assert!(
        wrong.contains("not signed by an authority that is trusted here"),
        "{wrong}"
    );
    let name = complaint(dev.url(), &list);
    assert!(
        name.contains("its certificate is for another name"),
        "{name}"
    );
    let plain = complaint(&format!("http://localhost:{port}"), &["jobs", "list"]);
    let expected = format!("write https://localhost:{port}");
    assert!(plain.contains(&expected), "{plain}");
    let missing = complaint(&url, &["jobs", "list", "--ca", "/nowhere/ca.pem"]);
    assert!(
        missing.contains("failed to read /nowhere/ca.pem"),
        "{missing}"
    );

    // A result that is being read ends with the server, whoever reads it.
    let sql = "CREATE TABLE t (n INT) WITH ('connector' = 'datagen', 'rows-per-second' = '20'); SELECT n FROM t";
    let mut reader = client(&url, &["sql", "--ca", &ca, "-e", sql])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let rows = BufReader::new(reader.stdout.take().expect("piped")).lines();
    let mut rows = rows.map(|row| row.expect("text"));
    assert!(rows.any(|row| row.contains("\"op\":\"+I\"")));
    assert!(dev.interrupt().success(), "{}", dev.log());
    rows.for_each(drop);
    assert_eq!(reader.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_plain_server_is_told_from_one_with_a_certificate() {
    let dev = DevProcess::start(program(), &[]);
    let (_, place) = dev.url().split_once("://").expect("a URL");
    let error = complaint(&format!("https://{place}"), &["jobs", "list"]);
    let expected = format!("it does not speak TLS; if it has no certificate, write http://{place}");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_server_refuses_what_would_not_be_safe() {
    let certificates = Certificates::new();
    let start = |arguments: &[&str]| {
        let mut command = client("", &["dev"]);
        let command = command.args(arguments);
        let Output { status, stderr, .. } = command.output().expect("it runs");
        assert_eq!(status.code(), Some(1), "{arguments:?}");
        String::from_utf8(stderr).expect("text")
    };
    let open = start(&["--listen", "0.0.0.0:0"]);
    assert!(
        open.contains("0.0.0.0 is not a loopback address: give --tls-cert and --tls-key"),
        "{open}"
    );
    let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
    let half = start(&["--tls-cert", &cert]);
    assert!(half.contains("--tls-cert needs --tls-key"), "{half}");
    let half = start(&["--tls-key", &key]);
    assert!(half.contains("--tls-key needs --tls-cert"), "{half}");
    let swapped = start(&["--tls-cert", &key, "--tls-key", &key]);
    assert!(
        swapped.contains(&format!("{key} is not a PEM file of certificates")),
        "{swapped}"
    );
    let swapped = start(&["--tls-cert", &cert, "--tls-key", &cert]);
    assert!(
        swapped.contains(&format!("{cert} is not a PEM file of a private key")),
        "{swapped}"
    );
    let other = Certificates::new().text("key.pem");
    let missing = start(&["--tls-cert", &cert, "--tls-key", &other]);
    assert!(
        missing.contains(&format!("failed to read {other}")),
        "{missing}"
    );
    let another = Certificates::new();
    let other = another.text("key.pem");
    let foreign = start(&["--tls-cert", &cert, "--tls-key", &other]);
    assert!(
        foreign.contains("failed to use the certificate"),
        "{foreign}"
    );
}
