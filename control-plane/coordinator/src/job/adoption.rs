//! Whether the generation that a predecessor of this leader left behind runs on as it is: read from
//! what the metadata have noted and what workers tell. Decides and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    running::{JobPart, StagedSection},
    types::{Epoch, Generation, SinkId, TaskId, WorkerId},
};

use crate::place::{Parallelism, PlanShape, Routing};

/// What the metadata say of the generation.
pub(super) struct Noted<'a> {
    pub(super) generation: Generation,
    pub(super) committed: Epoch,
    /// Number of the routing that counted with a commit.
    pub(super) routing: u32,
    /// A routing that was to count with an epoch.
    pub(super) next: Option<(Epoch, u32)>,
    pub(super) shape: &'a PlanShape,
    /// Numbers of tasks that it may have.
    pub(super) parallelism: [&'a Parallelism; 2],
}

/// What workers have told of the generation; nothing of it: the worker has no part in it.
pub(super) type Told = BTreeMap<WorkerId, Option<JobPart>>;

/// What becomes of the generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Some workers have not been heard yet.
    Wait,
    /// It runs on.
    Adopt(Box<Adopted>),
    /// Another one must begin, for this reason.
    Restart(String),
}

/// How far the generation is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Adopted {
    pub(super) routing: Routing,
    /// Workers whose tasks are being restored.
    pub(super) restoring: BTreeSet<WorkerId>,
    /// Tasks that have finished.
    pub(super) finished: BTreeSet<TaskId>,
    pub(super) published: BTreeMap<SinkId, Epoch>,
    /// The epoch whose barrier some have heard, and which is neither committed nor known to be clean.
    pub(super) under_way: Option<Epoch>,
    /// What of it is staged.
    pub(super) staged: Vec<(TaskId, StagedSection)>,
    /// A routing that some have made ready for.
    pub(super) prepared: Option<u32>,
    /// Workers without tasks.
    pub(super) idle: BTreeSet<WorkerId>,
    /// Sources wait for a barrier.
    pub(super) output_full: bool,
    /// The highest number of an epoch that anybody knows of.
    pub(super) last_epoch: Epoch,
    /// The highest number that a routing has.
    pub(super) last_routing: u32,
}

/// Judges by what has been told until now.
pub(super) fn judge(noted: &Noted<'_>, told: &Told) -> Verdict {
    let mut parts: BTreeMap<WorkerId, JobPart> = BTreeMap::new();
    for (worker, part) in told {
        let Some(part) = part else { continue };
        if let Some(why) = flaw(noted, *worker, part) {
            return Verdict::Restart(why);
        }
        let mut part = part.clone();
        part.committed(noted.committed);
        parts.insert(*worker, part);
    }
    let newest = parts.values().map(|part| &part.placed);
    let newest = newest.filter(|placed| !placed.tasks.is_empty());
    let Some(placed) = newest.max_by_key(|placed| placed.routing) else {
        return Verdict::Wait;
    };
    let Some(routing) = Routing::of_placed(noted.shape, placed, &noted.parallelism) else {
        return Verdict::Restart(
            "the tasks that workers run are none of the job's plan".to_owned(),
        );
    };
    let needed = routing.workers();
    for worker in &needed {
        match told.get(worker) {
            None => return Verdict::Wait,
            Some(None) => return Verdict::Restart(format!("{worker} does not run its tasks")),
            Some(Some(_)) => {}
        }
    }
    if let Some(why) = contradiction(noted, &routing, &parts) {
        return Verdict::Restart(why);
    }
    Verdict::Adopt(Box::new(adopted(noted, routing, &parts)))
}

/// Why a part of the generation is none that can run on, whatever others say.
fn flaw(noted: &Noted<'_>, worker: WorkerId, part: &JobPart) -> Option<String> {
    if part.generation != noted.generation {
        let (theirs, ours) = (part.generation, noted.generation);
        return Some(format!("{worker} runs {theirs}, and {ours} is the newest"));
    }
    if part.over {
        return Some(format!("tasks at {worker} had stopped before"));
    }
    if part.committed > noted.committed {
        return Some(format!(
            "{worker} knows of a commit that is not written down"
        ));
    }
    None
}

/// What does not fit together.
fn contradiction(
    noted: &Noted<'_>,
    routing: &Routing,
    parts: &BTreeMap<WorkerId, JobPart>,
) -> Option<String> {
    if routing.version < noted.routing {
        return Some("workers do not have the routing that was committed last".to_owned());
    }
    let needed = routing.workers();
    for (worker, part) in parts {
        let same = part.placed.routing == routing.version
            && part.placed.place == routing.place
            && part.placed.groups == routing.groups;
        if needed.contains(worker) && !same {
            return Some(format!("{worker} has another routing than others"));
        }
        // Half of the tasks may have another routing already: the next generation has one everywhere.
        let carried = part.barrier.map_or(0, |barrier| barrier.routing);
        if carried > routing.version {
            return Some("the routing was being changed when the leader was lost".to_owned());
        }
    }
    let begun = parts.values().any(|part| part.barrier.is_some());
    let mut tasks_at = parts.iter().filter(|(worker, _)| needed.contains(worker));
    if begun && !tasks_at.all(|(_, part)| part.running) {
        return Some("an epoch had begun before all tasks were restored".to_owned());
    }
    None
}

/// How far a generation is that runs on.
fn adopted(noted: &Noted<'_>, routing: Routing, parts: &BTreeMap<WorkerId, JobPart>) -> Adopted {
    let needed = routing.workers();
    let barriers = parts.values().filter_map(|part| part.barrier);
    let last_barrier = barriers.map(|barrier| barrier.epoch).max();
    let under_way = last_barrier.filter(|epoch| *epoch > noted.committed);
    let prepared = parts.values().filter_map(|part| part.next.as_ref());
    let prepared = prepared.map(|next| next.routing).max();
    let mut adopted = Adopted {
        restoring: BTreeSet::new(),
        finished: BTreeSet::new(),
        published: BTreeMap::new(),
        under_way,
        staged: Vec::new(),
        prepared,
        idle: BTreeSet::new(),
        output_full: false,
        last_epoch: last_barrier.unwrap_or_default().max(noted.committed),
        last_routing: prepared.unwrap_or_default().max(routing.version),
        routing,
    };
    if let Some((epoch, version)) = noted.next {
        adopted.last_epoch = adopted.last_epoch.max(epoch);
        adopted.last_routing = adopted.last_routing.max(version);
    }
    for (worker, part) in parts {
        for (sink, epoch) in &part.published {
            let known = adopted.published.entry(*sink).or_default();
            *known = (*known).max(*epoch);
        }
        if !needed.contains(worker) {
            adopted.idle.insert(*worker);
            continue;
        }
        adopted.output_full |= part.output_full;
        if !part.running {
            adopted.restoring.insert(*worker);
        }
        let finished = part.finished.iter();
        let finished = finished.filter(|(_, routing)| **routing >= adopted.routing.version);
        adopted.finished.extend(finished.map(|(task, _)| *task));
        let staged = part.staged.iter();
        let staged = staged.filter(|(_, section)| Some(section.epoch) == under_way);
        adopted
            .staged
            .extend(staged.map(|(task, section)| (*task, section.clone())));
    }
    adopted
}
