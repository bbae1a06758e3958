//! Histories of jobs, savepoints and forks: what can be restored is there, and nothing else stays.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use proto::types::{Epoch, JobId, ShardId, SinkId};

use super::{Answer, Change, Desired, OriginSpec, Refusal, RestoreAt, Stop, lease_world::World};
use crate::JobState;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_can_be_restored_is_there_and_nothing_else_stays(
        steps in vec((0..24_u8, 0..64_usize, 0..64_usize), 1..120),
    ) {
        let mut world = World::default();
        world.accept(None);
        for step in steps {
            world.step(step);
            world.check();
        }
        world.finish();
        prop_assert!(world.objects.is_empty(), "{:?}", world.objects);
        prop_assert!(world.databases.is_empty(), "{:?}", world.databases.keys());
    }
}

const JOB: JobId = JobId(1);
const FORK: JobId = JobId(2);

fn both() -> Vec<ShardId> {
    vec![ShardId(0), ShardId(1)]
}

impl World {
    fn with_job() -> World {
        let mut world = World::default();
        world.accept(None);
        world
    }

    /// Commits so many epochs.
    fn commits(&mut self, job: JobId, count: usize) {
        (0..count).for_each(|_| self.commit(job, both(), true));
    }

    /// Flushes all shards, and the metadata hear of it.
    fn flush_all(&mut self, job: JobId) {
        both().into_iter().for_each(|shard| self.flush(job, shard));
        while !self.reports.is_empty() {
            self.deliver(0);
        }
    }

    fn fork(&mut self, at: RestoreAt) -> Answer {
        self.accept(Some(OriginSpec { job: JOB, at }))
    }

    fn save(&mut self, name: &str) -> Answer {
        let origin = OriginSpec {
            job: JOB,
            at: RestoreAt::Newest,
        };
        let history = self.history(&origin);
        let name = name.to_owned();
        self.saved.insert((JOB, name.clone()), history);
        self.change(Change::Save {
            job: JOB,
            name,
            at: RestoreAt::Newest,
            now_ms: 1,
        })
    }

    fn restorable(&self, job: JobId) -> Vec<u64> {
        let epochs = self.state.jobs[&job].restorable();
        epochs.into_iter().map(|epoch| epoch.0).collect()
    }
}

fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_epoch_since_the_last_flushes_can_be_restored() {
    let mut world = World::with_job();
    assert_eq!(world.restorable(JOB), [0; 0]);
    assert_eq!(
        refused(world.fork(RestoreAt::Newest)),
        "job_1 has no checkpoint yet: wait for its first one"
    );
    world.commits(JOB, 2);
    assert_eq!(world.restorable(JOB), [16, 17]);
    world.flush_all(JOB);
    world.commits(JOB, 2);
    // Of two flushes that are kept there is one.
    assert_eq!(world.restorable(JOB), [16, 17, 18, 19]);
    world.flush(JOB, ShardId(0));
    world.commits(JOB, 1);
    world.flush(JOB, ShardId(0));
    world.deliver(0);
    world.deliver(0);
    // Shard 0 has flushed at 17, 19 and 20; shard 1, which is slower, gives what is asked for.
    assert_eq!(world.restorable(JOB), [19, 20]);
    world.check();
    let too_old = world.fork(RestoreAt::Checkpoint(Epoch(18)));
    assert_eq!(
        refused(too_old),
        "checkpoint 18 of job_1 cannot be restored: those that are kept are from 19 to 20, see its \
         checkpoints"
    );
}

#[test]
fn a_node_that_flushed_thrice_keeps_all_while_one_flush_was_heard_of() {
    let mut world = World::with_job();
    for _ in 0..3 {
        world.commits(JOB, 1);
        both().into_iter().for_each(|shard| world.flush(JOB, shard));
    }
    world.deliver(0);
    world.collect(JOB);
    let manifests = |world: &World| {
        let database = &world.databases[&(world.state.jobs[&JOB].job_line(), ShardId(0))];
        database
            .manifests
            .keys()
            .map(|epoch| epoch.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(manifests(&world), [16, 17, 18]);
    // The newest is heard of before the one in between, which then never counts.
    world.reports.swap(1, 3);
    while !world.reports.is_empty() {
        world.deliver(1);
    }
    world.collect(JOB);
    world.check();
    assert_eq!(manifests(&world), [16, 18]);
}

#[test]
fn files_stay_as_long_as_a_fork_refers_to_them() {
    let mut world = World::with_job();
    world.commits(JOB, 2);
    world.flush_all(JOB);
    world.commits(JOB, 1);
    assert_eq!(
        world.fork(RestoreAt::Newest),
        Answer::Accepted { jobs: vec![FORK] }
    );
    world.end(JOB, JobState::Canceled);
    assert!(world.state.is_held(JOB), "the fork has not cloned anything");
    world.collect(JOB);
    world.check();
    world.flush_all(FORK);
    world.commits(FORK, 1);
    world.flush_all(FORK);
    world.commits(FORK, 1);
    world.flush_all(FORK);
    world.collect(FORK);
    assert!(world.state.is_held(JOB), "its files are still read");
    assert_eq!(
        world.change(Change::Dropped { job: JOB }),
        Answer::Refused(Refusal::Held(JOB))
    );
    for shard in both() {
        let line = world.state.jobs[&FORK].job_line();
        let database = world.databases.get_mut(&(line, shard)).expect("open");
        database.current.clear();
        database.manifests.values_mut().for_each(BTreeSet::clear);
        world.report(FORK, shard);
    }
    world.deliver(0);
    assert!(world.state.is_held(JOB), "one shard still reads them");
    world.deliver(0);
    assert!(!world.state.is_held(JOB));
    world.collect(JOB);
    world.check();
}

#[test]
fn files_stay_until_those_of_an_ended_fork_are_deleted() {
    let mut world = World::with_job();
    world.commits(JOB, 2);
    world.flush_all(JOB);
    world.fork(RestoreAt::Newest);
    world.flush_all(FORK);
    world.end(JOB, JobState::Canceled);
    world.end(FORK, JobState::Canceled);
    // Whoever deletes the fork's databases lets go of the origin's first, by a write to each.
    assert!(world.state.is_held(JOB), "the fork has files");
    assert!(!world.state.is_held(FORK));
    world.collect(JOB);
    world.check();
    world.collect(FORK);
    assert!(!world.state.is_held(JOB));
    world.collect(JOB);
    assert!(world.databases.is_empty(), "{:?}", world.databases.keys());
}

#[test]
fn a_job_that_begins_with_higher_epochs_goes_on_above_them() {
    let mut world = World::with_job();
    world.commits(JOB, 40);
    world.fork(RestoreAt::Newest);
    let newest = world.state.jobs[&JOB].committed;
    let fork = |world: &World| world.state.jobs[&FORK].clone();
    assert_eq!(fork(&world).committed, newest);
    // Generations without commits leave their epochs behind, too.
    for _ in 0..3 {
        let (before, current) = (fork(&world).first, fork(&world).generation);
        let begun = world.change(Change::Begin {
            job: FORK,
            generation: current.next(),
        });
        let first = fork(&world).first;
        assert_eq!(
            begun,
            Answer::Begun {
                restored: newest,
                first
            }
        );
        assert!(first > newest && first > before, "{first}");
    }
}

#[test]
fn a_fork_owes_nothing_of_what_was_before_its_birth() {
    let mut world = World::with_job();
    world.commits(JOB, 3);
    world.fork(RestoreAt::Checkpoint(Epoch(17)));
    let fork = &world.state.jobs[&FORK];
    assert_eq!((fork.committed, fork.first), (Epoch(17), Epoch(33)));
    assert!(fork.output.is_empty());
    assert_ne!(fork.run, world.state.jobs[&JOB].run);
    world.commits(FORK, 1);
    let owed: Vec<u64> = world.state.jobs[&FORK]
        .output
        .keys()
        .map(|epoch| epoch.0)
        .collect();
    assert_eq!(owed, [33]);
    assert_eq!(world.restorable(FORK), [17, 33]);
}

#[test]
fn a_job_that_was_taken_back_uses_no_epoch_again_and_owes_its_line_only() {
    let mut world = World::with_job();
    world.commits(JOB, 5);
    let resume = |at| Change::Resume { job: JOB, at };
    assert_eq!(
        refused(world.change(resume(RestoreAt::Newest))),
        "job_1 is not in quarantine"
    );
    let published = BTreeMap::from([(SinkId(0), Epoch(16))]);
    let answer = world.change(Change::Published {
        job: JOB,
        published,
    });
    world.trim(JOB, answer);
    let (error, at_ms) = ("poisoned".to_owned(), 1);
    world.change(Change::Quarantine {
        job: JOB,
        error,
        at_ms,
    });
    let back = RestoreAt::Checkpoint(Epoch(18));
    let origin = OriginSpec {
        job: JOB,
        at: back.clone(),
    };
    let history = world.history(&origin);
    let answer = world.change(resume(back));
    assert!(
        matches!(
            answer,
            Answer::Resumed {
                epoch: Epoch(18),
                ..
            }
        ),
        "{answer:?}"
    );
    world.trim(JOB, answer);
    world.lines.insert(JOB, history);
    let record = &world.state.jobs[&JOB];
    assert_eq!((record.committed, record.first), (Epoch(18), Epoch(36)));
    let owed: Vec<u64> = record.output.keys().map(|epoch| epoch.0).collect();
    assert_eq!(owed, [17, 18]);
    world.check();
    // What the generation before had under way does not follow what came before it now.
    let late = world.change(Change::Commit {
        job: JOB,
        generation: proto::types::Generation(1),
        previous: Epoch(18),
        epoch: Epoch(37),
        objects: Vec::new(),
        overtaken_bytes: 0,
        published: BTreeMap::new(),
    });
    assert_eq!(refused(late), "generation g1 of job_1 was replaced by g2");
}

#[test]
fn a_flush_of_the_line_before_says_nothing_of_the_new_one() {
    let mut world = World::with_job();
    world.commits(JOB, 1);
    world.flush_all(JOB);
    world.commits(JOB, 4);
    both().into_iter().for_each(|shard| world.flush(JOB, shard));
    let (error, at_ms) = ("poisoned".to_owned(), 1);
    world.change(Change::Quarantine {
        job: JOB,
        error,
        at_ms,
    });
    let at = RestoreAt::Checkpoint(Epoch(18));
    let history = world.history(&OriginSpec {
        job: JOB,
        at: at.clone(),
    });
    let answer = world.change(Change::Resume { job: JOB, at });
    world.trim(JOB, answer);
    world.lines.insert(JOB, history);
    // They were on their way when it was taken back.
    world.deliver(0);
    world.deliver(0);
    world.check();
    let open = world.state.jobs[&JOB].open_shard(ShardId(0));
    assert_eq!(
        open.base.map(|base| (base.of.line, base.epoch)),
        Some((0, Epoch(16)))
    );
    assert_eq!(open.log.len(), 2);
}

#[test]
fn names_of_savepoints_are_kept_free_for_those_who_asked() {
    let mut world = World::with_job();
    world.commits(JOB, 2);
    assert_eq!(world.save("a"), Answer::Saved { epoch: Epoch(17) });
    assert_eq!(
        refused(world.save("a")),
        "job_1 has a savepoint `a` already: choose another name, or delete it"
    );
    let stop = |name: &str| Change::Stop {
        job: JOB,
        stop: Stop {
            savepoint: Some(name.to_owned()),
            drain: false,
        },
    };
    assert!(refused(world.change(stop("a"))).contains("choose another name"));
    assert_eq!(world.state.jobs[&JOB].desired, Desired::Run);
    assert_eq!(world.change(stop("b")), Answer::Done);
    assert_eq!(world.change(stop("b")), Answer::Done);
    assert_eq!(
        refused(world.change(stop("c"))),
        "job_1 is being stopped or cancelled"
    );
    assert!(refused(world.save("b")).contains("choose another name"));
    world.commits(JOB, 1);
    world.end(JOB, JobState::Finished);
    let record = &world.state.jobs[&JOB];
    assert_eq!(record.savepoints["b"].point.epoch, Epoch(18));
    world.check();
    assert!(refused(world.fork(RestoreAt::Newest)).contains("name one of its savepoints"));
    let forget = Change::Forget { job: JOB };
    assert_eq!(
        refused(world.change(forget)),
        "job_1 has savepoints: delete them first"
    );
    let at = RestoreAt::Savepoint("b".to_owned());
    assert_eq!(world.fork(at), Answer::Accepted { jobs: vec![FORK] });
    let at = RestoreAt::Savepoint("c".to_owned());
    assert_eq!(refused(world.fork(at)), "job_1 has no savepoint `c`");
}

#[test]
fn state_that_is_cut_otherwise_does_not_fit() {
    let mut world = World::with_job();
    world.commits(JOB, 1);
    let mut spec = world.state.jobs[&JOB].spec.clone();
    spec.options.shards = 4;
    spec.origin = Some(OriginSpec {
        job: JOB,
        at: RestoreAt::Newest,
    });
    let answer = world.change(Change::Accept {
        catalog: None,
        statements: None,
        jobs: vec![spec],
        now_ms: 1,
        seed: 1,
    });
    assert!(refused(answer).contains("256 key groups and 2 shards"));
    assert_eq!(world.state.jobs.len(), 1);
}

#[test]
fn what_a_barrier_has_overtaken_is_for_its_own_job_only() {
    let mut world = World::with_job();
    world.overtakes = true;
    world.commits(JOB, 2);
    let none = "checkpoint 17 of job_1 has rows that its barrier overtook";
    assert!(refused(world.fork(RestoreAt::Newest)).starts_with(none));
    assert!(world.restorable(JOB).is_empty());
    world.overtakes = false;
    world.commits(JOB, 1);
    world.overtakes = true;
    world.commits(JOB, 2);
    assert_eq!(world.restorable(JOB), [18]);
    let this = "checkpoint 19 of job_1 has rows that its barrier overtook";
    assert!(refused(world.fork(RestoreAt::Checkpoint(Epoch(19)))).starts_with(this));
    // A savepoint is of the newest that has overtaken nothing.
    let saved = world.change(Change::Save {
        job: JOB,
        name: "a".to_owned(),
        at: RestoreAt::Newest,
        now_ms: 1,
    });
    assert_eq!(saved, Answer::Saved { epoch: Epoch(18) });
    world.fork(RestoreAt::Newest);
    assert_eq!(world.state.jobs[&FORK].committed, Epoch(18));
    // However far flushes are, such an epoch is none that others can begin with.
    for _ in 0..4 {
        world.commits(JOB, 1);
        world.flush_all(JOB);
    }
    assert!(world.restorable(JOB).is_empty());
    let record = &world.state.jobs[&JOB];
    assert!(record.overtaken.len() < 6, "{:?}", record.overtaken);
    // The job itself goes on from its newest.
    let newest = record.committed;
    let generation = record.generation.next();
    let begun = world.change(Change::Begin {
        job: JOB,
        generation,
    });
    assert!(matches!(begun, Answer::Begun { restored, .. } if restored == newest));
}
