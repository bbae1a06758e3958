//! Starts that must not be: a process that would do harm, or could not work, ends at once with one
//! line that says what is wrong and what to do, and has written nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tests::{Cluster, ClusterConfig, minio::Minio, wait_until};

use crate::{cluster, s3};

/// Whoever does not end by then goes on for ever.
const END_MAX: Duration = Duration::from_secs(60);

/// A start.
struct Start {
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// The line.
    says: String,
}

impl Start {
    fn new(arguments: &str, says: &str) -> Start {
        Start {
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            variables: vec![("MILLSTREAM_TOKEN", "token-of-tests".to_owned())],
            says: says.to_owned(),
        }
    }

    fn with(mut self, variables: &[(&'static str, String)]) -> Start {
        self.variables.extend(variables.iter().cloned());
        self
    }

    /// Starts it, waits for its end, and complains if that is not as it should be.
    fn check(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("stderr");
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-under-test"));
        command
            .args(&self.arguments)
            .env("MILLSTREAM_LOG", "error")
            .env_remove("MILLSTREAM_TOKEN")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"));
        let mut process = command.spawn().expect("it runs");
        let mut status = None;
        wait_until(END_MAX, || {
            status = process.try_wait().expect("a process");
            status.is_some()
        });
        let log = fs::read_to_string(&log).expect("its output");
        let Some(status) = status else {
            process.kill().expect("killed");
            process.wait().expect("ended");
            return Err(format!("{:?} goes on: {log}", self.arguments));
        };
        // That it is about to look for the control plane is no complaint.
        let lines = log.lines().filter(|line| !line.starts_with("State node "));
        let lines: Vec<String> = lines.map(without_id).collect();
        let says = format!("error: {}", self.says);
        match (status.code(), &lines[..]) {
            (Some(1), [line]) if *line == says => Ok(()),
            (code, _) => Err(format!(
                "{:?} ended with {code:?} and {lines:#?}, not with {says}",
                self.arguments
            )),
        }
    }
}

/// The name of a cluster among all others is drawn at random.
fn without_id(line: &str) -> String {
    let is_id = |word: &str| word.len() == 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = line.split(' ').map(|word| {
        let bare = word.trim_end_matches(':');
        match is_id(bare) {
            true => word.replace(bare, "ID"),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn check_all(starts: impl IntoIterator<Item = Start>) {
    let checked = starts.into_iter().map(|start| start.check());
    let wrong: Vec<String> = checked.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All files at or below a folder, with what they hold.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(found.insert(path.clone(), fs::read(&path).expect("a file"))),
            }
        }
    }
    found
}

/// A directory that somebody has.
struct Taken {
    folder: TempDir,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

impl Taken {
    fn new(name: &str, text: &str) -> Taken {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(name), text).expect("a file");
        let before = files(folder.path());
        Taken { folder, before }
    }

    /// A store, of this version of its format.
    fn store(format: u32) -> Taken {
        let identity = format!(
            r#"{{"format":{format},"cluster":"c0ffee","store":"beef","created_ms":1700000000000}}"#
        );
        Taken::new("millstream.json", &identity)
    }

    fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn check_untouched(&self) {
        assert_eq!(files(self.folder.path()), self.before);
    }
}

/// A control plane without workers and state nodes.
fn control_plane() -> Cluster {
    Cluster::start(&ClusterConfig {
        nodes: 1,
        per_tier: 0,
        ..cluster::config()
    })
}

#[test]
fn directories_of_others_are_left_alone() {
    let cluster = control_plane();
    let dev = "dev --listen 127.0.0.1:0".to_owned();
    let control_plane = cluster.control_plane();
    let node = format!("state-node --id 1 --control-plane {control_plane}");
    let newer = Taken::store(2);
    let foreign = Taken::store(1);
    let full = Taken::new("notes.txt", "mine");
    let refused = |start: &str, taken: &Taken, why: &str| {
        let path = taken.path();
        Start::new(
            &format!("{start} --data-dir {path}"),
            &format!("directory `{path}` {why}"),
        )
    };
    let version = "was made by a newer version of Millstream (format 2, this one knows 1): use that \
                   version";
    let not_ours = "is not empty and not a Millstream store (it has `notes.txt` but no \
                    `millstream.json`): use another prefix or directory";
    let other = "belongs to cluster c0ffee, and this process to ID: give each its own store";
    check_all([
        refused(&dev, &newer, version),
        refused(&node, &newer, version),
        refused(&dev, &full, not_ours),
        refused(&node, &full, not_ours),
        refused(&node, &foreign, other),
    ]);
    for taken in [newer, foreign, full] {
        taken.check_untouched();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_that_cannot_be_used_are_left_alone() {
    let minio = Minio::start();
    minio.make_bucket("bucket").await;
    let variables = minio.variables();
    let cluster = tokio::task::spawn_blocking(control_plane);
    let cluster = cluster.await.expect("no panic");
    let node = format!(
        "state-node --id 1 --control-plane {}",
        cluster.control_plane()
    );
    let at = format!("at {}", minio.endpoint());
    let no_bucket = format!(
        "bucket `no-such-bucket` {at} does not exist: create it, or correct the store's URL"
    );
    let no_key = format!(
        "bucket `bucket` {at} does not accept the key: check AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
    );
    let starts = ["dev --listen 127.0.0.1:0", &node]
        .into_iter()
        .flat_map(|start| {
            let missing = Start::new(
                &format!("{start} --store s3://no-such-bucket/x"),
                &no_bucket,
            );
            let denied = Start::new(&format!("{start} --store s3://bucket/x"), &no_key);
            let wrong = ("AWS_SECRET_ACCESS_KEY", "wrong".to_owned());
            [
                missing.with(&variables),
                denied.with(&variables).with(&[wrong]),
            ]
        });
    let starts: Vec<Start> = starts.collect();
    let checked = tokio::task::spawn_blocking(move || {
        check_all(starts);
        drop(cluster);
    });
    checked.await.expect("no panic");
    let store = s3::opened(&minio, "s3://bucket", &[]);
    assert_eq!(s3::objects(&store).await, [""; 0]);
}

#[test]
fn a_node_of_the_control_plane_keeps_to_its_own_directory() {
    let mut cluster = control_plane();
    let _none = cluster.execute("CREATE TABLE t (n BIGINT) WITH ('connector' = 'blackhole');");
    let path = cluster.data_dir(1);
    cluster.nodes[0].kill();
    let start = |id: u32, cluster: &str| {
        let path = path.display();
        let arguments = format!(
            "control-plane --id {id} --peers {id}=127.0.0.1:0 --listen 127.0.0.1:0 --rest \
             127.0.0.1:0 --data-dir {path} --cluster {cluster}"
        );
        let why = format!(
            "the data directory {path} belongs to node 1 of cluster `millstream`, not to node {id} of \
             cluster `{cluster}`: give this node a directory of its own"
        );
        Start::new(&arguments, &why)
    };
    check_all([start(2, "millstream"), start(1, "other")]);
    // The log's pages are put in order by whoever looks at them; what they say stays.
    cluster.nodes[0].start_again();
    cluster.wait_whole();
    assert!(cluster.has_table("t"));
}

#[test]
fn what_others_could_read_is_not_served_in_plain_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data");
    let data = format!("--data-dir {}", path.display());
    let node = "state-node --id 1 --control-plane 127.0.0.1:1 --listen 0.0.0.0:0";
    let control = "control-plane --id 1 --peers 1=127.0.0.1:0 --rest 127.0.0.1:0";
    let plain = "refusing to listen on 0.0.0.0:0 in plain text: give --cluster-ca, --cluster-cert and \
                 --cluster-key, or listen on 127.0.0.1";
    let rest = "0.0.0.0 is not a loopback address: give --tls-cert and --tls-key, or listen on \
                127.0.0.1";
    let token = "MILLSTREAM_TOKEN is not set: set it to the secret that clients show, the same for all \
                 nodes of the control plane";
    let mut tokenless = Start::new(&format!("{control} --listen 127.0.0.1:0 {data}"), token);
    tokenless.variables.clear();
    check_all([
        Start::new(&format!("dev --listen 0.0.0.0:0 {data}"), rest),
        Start::new(&format!("{node} {data}"), plain),
        Start::new(&format!("{control} --listen 0.0.0.0:0 {data}"), plain),
        tokenless,
    ]);
    assert_eq!(files(folder.path()), BTreeMap::new());
    assert!(!path.exists(), "a directory was made");
}
