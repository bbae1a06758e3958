//! What the control plane has acknowledged outlives its processes, and their disks one at a time.

use std::{collections::BTreeSet, fs, path::Path};

use tests::Cluster;

use super::{load::rows, start};

/// Rows of the file that jobs read.
const ROWS: i64 = 500;

/// What the cluster has acknowledged.
struct Acknowledged<'c> {
    folder: &'c Path,
    tables: BTreeSet<String>,
    /// Jobs, with the table that each fills.
    jobs: Vec<(String, String)>,
}

impl Acknowledged<'_> {
    fn new(folder: &Path) -> Acknowledged<'_> {
        let numbers: String = (0..ROWS).map(|number| format!("{number}\n")).collect();
        fs::create_dir(folder.join("numbers")).expect("a folder");
        fs::write(folder.join("numbers/numbers.csv"), numbers).expect("a file");
        Acknowledged {
            folder,
            tables: BTreeSet::new(),
            jobs: Vec::new(),
        }
    }

    fn create_table(&mut self, cluster: &Cluster, name: &str, format: &str) {
        let path = self.folder.join(name);
        let path = path.display();
        let jobs = cluster.execute(&format!(
            "CREATE TABLE {name} (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', \
             'format' = '{format}')"
        ));
        assert_eq!(jobs, [""; 0]);
        self.tables.insert(name.to_owned());
    }

    /// Starts a job that fills a new table.
    fn insert(&mut self, cluster: &Cluster, name: &str) {
        self.create_table(cluster, name, "json");
        let jobs = cluster.execute(&format!("INSERT INTO {name} SELECT n FROM numbers"));
        self.jobs.push((jobs[0].clone(), name.to_owned()));
    }

    /// All of it is there.
    fn check(&self, cluster: &Cluster) {
        let tables = cluster.get("/v1/tables").expect("a leader");
        let tables = tables["tables"].as_array().expect("tables").iter();
        let tables = tables.map(|table| table["name"].as_str().expect("a name").to_owned());
        assert_eq!(tables.collect::<BTreeSet<_>>(), self.tables);
        let jobs = cluster.get("/v1/jobs").expect("a leader");
        let jobs = jobs["jobs"].as_array().expect("jobs").iter();
        let jobs: Vec<&str> = jobs.map(|job| job["id"].as_str().expect("an id")).collect();
        let expected: Vec<&str> = self.jobs.iter().map(|(job, _)| job.as_str()).collect();
        assert_eq!(jobs, expected);
    }

    /// All jobs end, and have done what they were to do.
    fn check_output(&self, cluster: &Cluster) {
        for (job, table) in &self.jobs {
            cluster.wait_state(job, "FINISHED");
            let mut rows: Vec<[i64; 1]> = rows(&self.folder.join(table), ["n"]);
            rows.sort_unstable();
            let expected: Vec<[i64; 1]> = (0..ROWS).map(|number| [number]).collect();
            assert_eq!(rows, expected, "{table}");
        }
    }
}

#[test]
fn what_is_acknowledged_outlives_every_restart() {
    let mut cluster = start();
    let folder = cluster.folder().to_owned();
    let mut acknowledged = Acknowledged::new(&folder);
    acknowledged.create_table(&cluster, "numbers", "csv");
    for node in 0..3 {
        acknowledged.insert(&cluster, &format!("before_{node}"));
        cluster.nodes[node].kill();
        acknowledged.insert(&cluster, &format!("without_{node}"));
        acknowledged.check(&cluster);
        cluster.nodes[node].start_again();
        cluster.wait_nodes();
    }
    acknowledged.insert(&cluster, "last");
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    cluster.nodes.iter_mut().for_each(|node| node.start_again());
    cluster.wait_nodes();
    acknowledged.check(&cluster);
    acknowledged.insert(&cluster, "afterwards");
    acknowledged.check(&cluster);
    acknowledged.check_output(&cluster);
}

#[test]
fn a_node_that_lost_its_disk_returns_under_another_id() {
    let mut cluster = start();
    let folder = cluster.folder().to_owned();
    let mut acknowledged = Acknowledged::new(&folder);
    acknowledged.create_table(&cluster, "numbers", "csv");
    let lost = (cluster.leader() + 1) % 3;
    let id = lost + 1;
    cluster.nodes[lost].kill();
    fs::remove_dir_all(cluster.data_dir(id)).expect("its disk");
    cluster.nodes[lost].start_again();
    assert_eq!(cluster.nodes[lost].wait_ended().code(), Some(1));
    let log = cluster.nodes[lost].log();
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("error"))
        .collect();
    assert_eq!(
        errors,
        [format!(
            "error: the disk of node {id} is not the one that joined cluster `millstream`: remove \
             node {id} from the cluster and let this disk join under an id that was never used: \
             `millstream cluster remove {id}` on any other node, then start this one with an empty \
             --data-dir and another --id, and `millstream cluster add`"
        )]
    );

    // A dead node may be removed; its number is gone with it.
    let removed = cluster.client(&["cluster", "remove", &id.to_string()]);
    assert_eq!(removed, Ok(format!("node {id} is removed\n")));
    fs::remove_dir_all(cluster.data_dir(id)).expect("its disk");
    cluster.nodes[lost].start_again();
    assert_eq!(cluster.nodes[lost].wait_ended().code(), Some(1));
    let log = cluster.nodes[lost].log();
    assert!(
        log.contains("a new id") || log.contains("another --id"),
        "{log}"
    );

    let address = cluster.start_node();
    let added = cluster.client(&["cluster", "add", "4", &address]);
    let added = added.expect("it joins");
    let mut lines = added.lines();
    assert!(
        lines.any(|line| line.starts_with('4') && line.contains(&address)),
        "{added}"
    );

    // It votes: without it there would be no quorum now.
    cluster.nodes[(lost + 1) % 3].kill();
    acknowledged.insert(&cluster, "afterwards");
    acknowledged.check(&cluster);
    acknowledged.check_output(&cluster);
}

#[test]
fn a_state_node_over_another_store_ends_with_one_line() {
    let mut cluster = start();
    let foreign = cluster.start_foreign_state_node();
    assert_eq!(foreign.wait_ended().code(), Some(1));
    let log = foreign.log();
    let mut errors = log.lines().filter(|line| line.starts_with("error"));
    let error = errors.next().expect("a line");
    assert!(
        error.contains("give all state nodes the same --store"),
        "{log}"
    );
    assert_eq!(errors.next(), None);
    cluster.wait_whole();
}
