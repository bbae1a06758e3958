//! Scripts of events with the effects that must follow. A line is `<ms> <event> [args]`; `g1` names
//! a generation where it is not the current one, `w2` a worker where it is not the first.

use expect_test::Expect;
use proto::{
    control::{JobOptions, Retry, WorkerEventKind},
    log::{LogHolding, LogObject},
    types::{Epoch, Generation, KeyGroupCount, ShardId, SinkId, TaskId, WorkerId},
};

use crate::{
    Effect, Event, Job, JobFacts,
    place::{Parallelism, PlanShape},
};

pub(super) fn job(interval_ms: u64, restarts_max: u32) -> Job {
    let facts = JobFacts {
        shape: PlanShape {
            key_groups: KeyGroupCount::DEFAULT,
            singletons: vec![false],
        },
        publishing: [SinkId(0)].into(),
        has_sources: true,
    };
    let options = JobOptions {
        parallelism: 2,
        checkpoint_interval_ms: interval_ms,
        restarts_max,
        ..JobOptions::default()
    };
    let mut job = Job::new(facts, options, 1);
    assert_eq!(job.handle(Event::Workers([WorkerId(1)].into()), 0), []);
    job
}

pub(super) fn number(words: &mut Vec<&str>) -> u64 {
    words.remove(0).parse().expect("a number in the script")
}

pub(super) fn event(
    words: &mut Vec<&str>,
    (current, routing): (Generation, u32),
    first: &mut Epoch,
) -> Event {
    let name = words.remove(0);
    let mut generation = current;
    if let Some(other) = words.first().and_then(|word| word.strip_prefix('g')) {
        generation = Generation(other.parse().expect("a generation"));
        words.remove(0);
    }
    let mut who = WorkerId(1);
    if let Some(other) = words.first().and_then(|word| word.strip_prefix('w')) {
        who = WorkerId(other.parse().expect("a worker"));
        words.remove(0);
    }
    let task = |words: &mut Vec<&str>| TaskId(number(words) as u32);
    let worker = |kind| Event::Worker {
        worker: who,
        generation,
        kind,
    };
    match name {
        "workers" => {
            let ids = words
                .drain(..)
                .map(|id| WorkerId(id.parse().expect("a worker")));
            Event::Workers(ids.collect())
        }
        "leaving" => {
            let ids = words
                .drain(..)
                .map(|id| WorkerId(id.parse().expect("a worker")));
            Event::Leaving(ids.collect())
        }
        "rescale" => Event::RescaleRequested(Parallelism::uniform(number(words) as u32)),
        "recorded" => Event::RoutingRecorded {
            generation,
            epoch: Epoch(number(words)),
        },
        "prepared" => worker(WorkerEventKind::Prepared {
            routing: number(words) as u32,
        }),
        "unprepared" => worker(WorkerEventKind::NotPrepared {
            routing: number(words) as u32,
            error: "no room".to_owned(),
        }),
        "listed" => worker(WorkerEventKind::SplitsListed(Vec::new())),
        "submit" => Event::Submitted,
        "cancel" => Event::CancelRequested,
        "stop" => Event::StopRequested { drain: false },
        "drain" => Event::StopRequested { drain: true },
        "resume" => Event::Resumed,
        "tick" => Event::Tick,
        "begun" => {
            let restored = Epoch(number(words));
            *first = Epoch::first_of_generation(restored, *first, restored);
            Event::StateBegun {
                generation,
                restored,
                first: *first,
            }
        }
        "committed" => Event::EpochCommitted {
            generation,
            epoch: Epoch(number(words)),
        },
        "state-failed" => Event::StateFailed {
            generation,
            error: "store away".into(),
            retryable: true,
        },
        "running" => worker(WorkerEventKind::Running),
        "full" => worker(WorkerEventKind::OutputFull),
        "stopped" => worker(WorkerEventKind::Stopped),
        // A clean task has changed nothing.
        "staged" | "clean" => {
            let (task, epoch) = (task(words), Epoch(number(words)));
            let object = LogObject {
                name: format!("{generation}/{epoch}/{task}"),
                bytes: 1,
                holds: LogHolding::Rows(vec![ShardId(0)]),
            };
            worker(WorkerEventKind::Staged {
                task,
                epoch,
                objects: if name == "staged" {
                    vec![object]
                } else {
                    Vec::new()
                },
                overtaken_bytes: 0,
            })
        }
        "finished" => worker(WorkerEventKind::Finished {
            task: task(words),
            routing: match words.is_empty() {
                true => routing,
                false => number(words) as u32,
            },
        }),
        "published" => worker(WorkerEventKind::Published {
            sink: SinkId(0),
            epoch: Epoch(number(words)),
        }),
        "failed" | "poisoned" | "crashed" => worker(WorkerEventKind::Failed {
            task: TaskId(0),
            error: format!("{name} on purpose"),
            retry: match name {
                "failed" => Retry::IfItRan,
                "crashed" => Retry::Always,
                _ => Retry::Never,
            },
        }),
        other => panic!("unknown event {other}"),
    }
}

pub(super) fn show(effect: &Effect) -> String {
    match effect {
        Effect::BeginGeneration { generation } => format!("begin {generation}"),
        Effect::ListSplits {
            generation, worker, ..
        } => format!("list splits {generation} at {worker}"),
        Effect::Deploy {
            generation,
            restored,
            routing,
            ..
        } => {
            let workers: Vec<u64> = routing.workers().iter().map(|worker| worker.0).collect();
            let on = match workers.len() {
                1 => String::new(),
                _ => format!(" on workers {workers:?}"),
            };
            format!(
                "deploy {generation} from {restored}: {} tasks{on}",
                routing.tasks.len()
            )
        }
        Effect::SendBarrier {
            generation, epoch, ..
        } => format!("barrier {epoch} {generation}"),
        Effect::Prepare {
            routing, workers, ..
        } => {
            let workers: Vec<u64> = workers.iter().map(|worker| worker.0).collect();
            format!(
                "prepare {} tasks with workers {workers:?}",
                routing.tasks.len()
            )
        }
        Effect::KeepRouting { .. } => "keep routing".into(),
        Effect::RecordRouting { epoch, routing, .. } => {
            format!("record {} tasks from {epoch}", routing.tasks.len())
        }
        Effect::RescaleFailed { error, parallelism } => {
            format!("stay at {}: {error}", parallelism.all)
        }
        Effect::StopAt { workers } => {
            let workers: Vec<u64> = workers.iter().map(|worker| worker.0).collect();
            format!("stop at workers {workers:?}")
        }
        Effect::StopSources { generation, drain } => match drain {
            true => format!("end sources {generation}"),
            false => format!("hold sources {generation}"),
        },
        Effect::Commit {
            generation,
            epoch,
            objects,
            ..
        } => match objects.len() {
            2 => format!("commit {epoch} {generation}"),
            objects => format!("commit {epoch} {generation} of {objects}"),
        },
        Effect::SendCommitted { generation, epoch } => {
            format!("tell committed {epoch} {generation}")
        }
        Effect::RecordPublished { sink, epoch, .. } => format!("record {sink} published {epoch}"),
        Effect::Stop => "stop".into(),
        Effect::Suspend => "suspend".into(),
        Effect::DropState => "drop state".into(),
        Effect::ReportState(state) => format!("state {state}"),
    }
}

pub(super) fn check_job(mut job: Job, script: &str, expected: &Expect) -> Job {
    let mut log = String::new();
    // First epoch of the newest generation, as the store would know it.
    let mut first = Epoch::ZERO;
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let now_us = number(&mut words) * 1000;
        let current = (job.generation(), job.routing().version);
        let event = event(&mut words, current, &mut first);
        let effects = job.handle(event, now_us);
        log.push_str(&format!("{line}\n"));
        for effect in &effects {
            log.push_str(&format!("    {}\n", show(effect)));
        }
    }
    expected.assert_eq(&log);
    job
}

#[allow(clippy::needless_pass_by_value)]
pub(super) fn check(script: &str, expected: Expect) {
    check_job(job(1000, 3), script, &expected);
}
