//! Jobs that begin with another one's state, or go back to an older one of their own: their shards
//! are clones, and files go when nobody needs them.

use proto::{
    state_control::{JobLine, StateReport},
    types::{Epoch, Generation, JobId, ShardId},
};
use state_client::{Incarnation, StateControl as _};

use super::world::{JOB, SHARD_PUT, SHARDS, World, flushed_after, never_flushed, rows};
use crate::testing::Fault;

const FORK: JobId = JobId(4);

/// A world whose job has rows in its pages, and newer ones in its log only.
async fn world() -> World {
    let mut world = World::new(flushed_after(2)).await;
    // What others begin with is still needed.
    world.setup.control.set_trimming(false);
    world
        .apply(16, rows(16, &[(0, 1, "16"), (3, 1, "16")]))
        .await;
    world
        .apply(17, rows(17, &[(0, 2, "17"), (3, 2, "17")]))
        .await;
    world.apply(18, rows(18, &[(0, 3, "18")])).await;
    world.durable(0, 16).await;
    world.durable(3, 16).await;
    world.apply(19, rows(19, &[(0, 1, "19")])).await;
    world
}

impl World {
    /// The fork is there, and the world speaks of it from now on.
    async fn fork(&mut self) -> Incarnation {
        self.setup.control.fork(JOB, FORK);
        self.who.job = FORK;
        assert_eq!(self.begin(1).await, Epoch(19));
        self.who
    }

    async fn values(&self, who: Incarnation, at: u64) -> Vec<String> {
        let mut values = Vec::new();
        for (shard, key) in [(0, 1), (0, 2), (0, 3), (3, 1), (3, 2)] {
            let found = self.try_get(who, at, 0, shard, key).await.expect("read");
            values.extend(
                found
                    .iter()
                    .map(|value| String::from_utf8_lossy(value).into_owned()),
            );
        }
        values
    }

    async fn opened(&self, job: JobId) {
        for shard in (0..SHARDS).map(ShardId) {
            let is_it = |report: &StateReport| {
                matches!(report, StateReport::Opened { job: of, shard: which, .. }
                    if (*of, *which) == (job, shard))
            };
            self.setup.control.reported(is_it).await;
        }
    }
}

const ALL: [&str; 5] = ["19", "17", "18", "16", "17"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_has_its_origins_state_and_both_go_on() {
    let mut world = world().await;
    let origin = world.who;
    let fork = world.fork().await;
    assert_eq!(world.values(fork, 19).await, ALL);
    world.apply(40, rows(40, &[(0, 1, "fork")])).await;
    world.who = origin;
    world.apply(20, rows(20, &[(0, 1, "origin")])).await;
    let [_, others @ ..] = ALL;
    for _ in 0..2 {
        let [first, rest @ ..] = &world.values(fork, 40).await[..] else {
            panic!("no values");
        };
        assert_eq!(
            (first.as_str(), rest),
            ("fork", &others.map(String::from)[..])
        );
        assert_eq!(world.values(origin, 20).await[0], "origin");
        // Both from what is stored.
        world.restart().await;
    }
}

/// Whatever request the node dies at, the next one has the fork's state whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_that_was_cut_off_anywhere_is_finished() {
    for cut in 0..24_u64 {
        let mut world = world().await;
        world.faults.reset_counts();
        let (writes, done) = (SHARD_PUT, cut / 2);
        if cut % 2 == 1 {
            // The last one is carried out, and not answered.
            world.faults.fail(writes, done, 1, Fault::After);
        }
        world
            .faults
            .fail(writes, done + cut % 2, u64::MAX, Fault::Hang);
        world.setup.control.fork(JOB, FORK);
        let fork = Incarnation {
            job: FORK,
            generation: Generation(1),
        };
        let begun = world.setup.control.begin(fork).await;
        begun.expect("begun");
        // Enough to come to where it hangs, or to the end.
        while world.faults.count(writes).0 <= done {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        world.setup.control.disconnect();
        // The node is dead: what it has under way never gets further.
        world.setup.store = world.store.clone();
        world.node = world.setup.start();
        assert_eq!(world.values(fork, 19).await, ALL, "cut at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_says_whose_files_it_refers_to_and_lets_them_go_with_its_end() {
    let mut world = world().await;
    let origin = JobLine { job: JOB, line: 0 };
    let fork = world.fork().await;
    world.opened(FORK).await;
    let parents = world.setup.control.parents(FORK);
    assert_eq!(parents[&ShardId(0)], [origin]);
    assert_eq!(
        parents[&ShardId(1)],
        [JobLine { job: JOB, line: 0 }; 0],
        "it had no rows"
    );
    let held = |world: &World| {
        let store = world.store.clone();
        async move {
            let admin = slatedb::admin::Admin::builder("state/jobs/3/shards/0", store).build();
            let found = admin.list_checkpoints(None).await.expect("listed");
            found.iter().filter(|found| found.name.is_none()).count()
        }
    };
    assert_eq!(held(&world).await, 1);
    let dropped = world.setup.control.drop_job(fork.job);
    dropped.await.expect("dropped");
    let gone = |report: &StateReport| *report == StateReport::Dropped { job: FORK };
    world.setup.control.reported(gone).await;
    assert_eq!(held(&world).await, 0, "the origin may delete these files");
    assert!(
        world
            .files("")
            .await
            .iter()
            .all(|path| !path.contains("/jobs/4/"))
    );
    world.who.job = JOB;
    assert_eq!(world.values(world.who, 19).await, ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_goes_back_leaves_what_came_after_behind() {
    let mut world = world().await;
    world
        .apply(20, rows(20, &[(0, 1, "20"), (3, 1, "20")]))
        .await;
    world.setup.control.take_back(JOB, Epoch(18));
    assert_eq!(world.begin(2).await, Epoch(18));
    let back = ["16", "17", "18", "16", "17"];
    assert_eq!(world.values(world.who, 18).await, back);
    world.apply(60, rows(60, &[(3, 1, "60")])).await;
    for _ in 0..2 {
        assert_eq!(
            world.values(world.who, 60).await,
            ["16", "17", "18", "60", "17"]
        );
        world.restart().await;
    }
    // The log of the line before is not part of anything, its databases are the new ones' parents.
    world.node.sweep(JOB).await.expect("swept");
    assert_eq!(
        world.values(world.who, 60).await,
        ["16", "17", "18", "60", "17"]
    );
    let shards = |files: Vec<String>| {
        let shard = |path: &String| path.split('/').nth(4).map(str::to_owned);
        let shards: std::collections::BTreeSet<String> = files.iter().filter_map(shard).collect();
        shards
    };
    let left = shards(
        world
            .files("")
            .await
            .into_iter()
            .filter(|p| p.contains("/shards/"))
            .collect(),
    );
    assert!(
        left.contains("0") && left.contains("0-1") && left.contains("3-1"),
        "{left:?}"
    );
    // Shards without rows have nothing that the new ones refer to.
    assert!(!left.contains("1") && left.contains("1-1"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_that_were_not_heard_of_stay() {
    let mut world = World::new(never_flushed()).await;
    let shard = |world: &World| {
        let job = world.node.shared.known_job(JOB).expect("the job");
        let shards = job.look_shards();
        shards
            .into_iter()
            .find(|shard| shard.id == ShardId(0))
            .expect("the shard")
    };
    for epoch in 16..20 {
        world.apply(epoch, rows(epoch, &[(0, 1, "value")])).await;
        world.get(epoch, 0, 0, 1).await;
        shard(&world).flush().await;
        if epoch <= 17 {
            world.durable(0, epoch).await;
        }
        if epoch == 17 {
            // Nobody hears of the next ones.
            world.setup.control.deafen();
        }
    }
    let shard = shard(&world);
    assert_eq!(shard.tidy().await, [16, 17, 18, 19].map(Epoch));
    world.setup.control.unpin(JOB, Epoch(17));
    assert_eq!(shard.tidy().await, [17, 18, 19].map(Epoch));
}
