//! Epochs of a running job: barrier, sections, commit; and the end of its input.

use proto::{
    log::LogObject,
    running::StagedSection,
    types::{Epoch, SinkId, TaskId},
};

use super::job::{Job, Phase, Publishing, Running};
use crate::{Effect, checkpoint::EpochInFlight};

impl Job {
    pub(super) fn on_tick(&mut self, now_us: u64) {
        match &self.phase {
            Phase::Running(running) => {
                let due = running.barrier_due_us.is_some_and(|due| due <= now_us);
                self.on_prepare_tick(now_us);
                if due {
                    self.begin_epoch_if_none(now_us);
                }
            }
            Phase::BackingOff { until_us } if *until_us <= now_us => self.begin_generation(),
            Phase::Adopting(_) => self.on_adoption_tick(now_us),
            _ => {}
        }
    }

    pub(super) fn begin_epoch_if_none(&mut self, now_us: u64) {
        if matches!(&self.phase, Phase::Running(running) if running.in_flight.is_none()) {
            self.begin_epoch(now_us);
        }
    }

    /// Sends the next barrier. One that is to carry another routing waits until that is noted.
    pub(super) fn begin_epoch(&mut self, now_us: u64) {
        if self.is_recording() || self.record_routing() {
            return;
        }
        let routing = self.routing.version;
        let tasks: Vec<TaskId> = self.routing.tasks.iter().map(|task| task.task).collect();
        let interval_us = self.options.checkpoint_interval_ms.saturating_mul(1000);
        let generation = self.generation;
        // Whoever is to be restored with another routing must know that of what was overtaken.
        let is_noted = self.routing.has_tasks_of(&self.noted);
        if let Phase::Running(running) = &mut self.phase {
            let epoch = self.line.take();
            let held = self.stop_wanted == Some(false);
            let last = running.unfinished.is_empty() || held;
            let wanted = std::mem::take(&mut self.aligned_wanted);
            let aligned = last || wanted || self.stop_wanted.is_some() || !is_noted;
            let mut in_flight = EpochInFlight::begin(epoch, last, tasks.into_iter(), now_us);
            in_flight.aligned = aligned;
            running.in_flight = Some(in_flight);
            running.barrier_wanted = false;
            running.barrier_due_us = (interval_us > 0).then(|| now_us.saturating_add(interval_us));
            if held {
                // What came after the last barrier would be read again by whoever goes on.
                let drain = false;
                self.emit(Effect::StopSources { generation, drain });
            }
            self.emit(Effect::SendBarrier {
                generation,
                epoch,
                routing,
                aligned,
            });
        }
    }

    /// Begins an epoch whose barrier overtakes nothing, or has it follow the one that is under way.
    pub(super) fn on_aligned_wanted(&mut self, now_us: u64) {
        if let Phase::Running(running) = &mut self.phase {
            let under_way = running.in_flight.as_ref();
            match under_way.map(|in_flight| in_flight.aligned) {
                Some(true) => {}
                Some(false) => {
                    self.aligned_wanted = true;
                    running.barrier_wanted = true;
                }
                None => {
                    self.aligned_wanted = true;
                    self.begin_epoch(now_us);
                }
            }
        }
    }

    pub(super) fn on_staged(&mut self, task: TaskId, section: StagedSection, now_us: u64) {
        let (generation, epoch) = (self.generation, section.epoch);
        let Phase::Running(Running {
            in_flight: Some(in_flight),
            ..
        }) = &mut self.phase
        else {
            return;
        };
        if !in_flight.staged(task, section, now_us) {
            return;
        }
        let overtaken_bytes = in_flight.overtaken_bytes;
        let objects: Vec<LogObject> = in_flight.objects().cloned().collect();
        if objects.is_empty() && !self.carries_routing(epoch) {
            self.on_clean_epoch(now_us);
        } else {
            if overtaken_bytes > 0 {
                self.overtaken.insert(epoch);
            }
            self.emit(Effect::Commit {
                generation,
                epoch,
                objects,
                overtaken_bytes,
            });
        }
    }

    /// No task has changed anything: there is nothing to commit, the line stays where it is and
    /// nothing is written. An idle job looks less often.
    fn on_clean_epoch(&mut self, now_us: u64) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(in_flight) = running.in_flight.take() else {
            return;
        };
        let interval_us = self.options.checkpoint_interval_ms.saturating_mul(1000);
        if let Some(due_us) = &mut running.barrier_due_us {
            *due_us = due_us.saturating_add(interval_us);
        }
        self.after_epoch(&in_flight, now_us);
    }

    pub(super) fn on_epoch_committed(&mut self, epoch: Epoch, now_us: u64) {
        let generation = self.generation;
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(in_flight) = running
            .in_flight
            .take_if(|in_flight| in_flight.epoch == epoch && in_flight.staged_us.is_some())
        else {
            return;
        };
        self.line.commit(epoch);
        self.overtaken.retain(|other| *other >= epoch);
        self.history.push(generation, &in_flight, now_us);
        self.emit(Effect::SendCommitted { generation, epoch });
        self.take_routing(epoch);
        self.after_epoch(&in_flight, now_us);
        self.consider_rerouting(now_us);
    }

    /// Goes on after an epoch: with the end of the job, or another epoch that is due already.
    fn after_epoch(&mut self, done: &EpochInFlight, now_us: u64) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let ended = running.unfinished.is_empty();
        let wanted = running.barrier_wanted;
        let committed = self.line.committed();
        let owes = |sink: &&SinkId| {
            let published = self.published.get(sink).copied();
            published.unwrap_or_default() < committed
        };
        let finishing = done.last.then(|| Publishing {
            running_since_us: running.since_us,
            epoch: committed,
            owing: self.facts.publishing.iter().filter(owes).copied().collect(),
        });
        match finishing {
            Some(publishing) => {
                self.enter(Phase::Publishing(publishing));
                self.stop_if_all_is_outside();
            }
            // The last task finished after this epoch's barrier: what came between is not in it.
            None if ended || wanted || self.is_ready_to_reroute() => self.begin_epoch(now_us),
            None => {}
        }
    }

    /// Sources wait for output to be published, and what sinks hold can be only after a barrier.
    pub(super) fn on_output_full(&mut self, now_us: u64) {
        match &mut self.phase {
            Phase::Deploying { barrier_wanted, .. } => *barrier_wanted = true,
            Phase::Running(running) if running.in_flight.is_some() => running.barrier_wanted = true,
            Phase::Running(_) => self.begin_epoch(now_us),
            _ => {}
        }
    }

    pub(super) fn on_finished(&mut self, task: TaskId, routing: u32, now_us: u64) {
        if routing < self.newest_routing() {
            return;
        }
        let running = match &mut self.phase {
            Phase::Running(running) => running,
            Phase::Deploying { unfinished, .. } => {
                unfinished.remove(&task);
                return;
            }
            _ => return,
        };
        running.unfinished.remove(&task);
        if running.unfinished.is_empty() {
            self.begin_epoch_if_none(now_us);
        }
    }

    pub(super) fn on_published(&mut self, sink: SinkId, epoch: Epoch) {
        let published = self.published.entry(sink).or_default();
        *published = (*published).max(epoch);
        match &mut self.phase {
            Phase::Publishing(publishing) => {
                if epoch >= publishing.epoch {
                    publishing.owing.remove(&sink);
                }
            }
            Phase::Running(_) | Phase::Stopping { .. } => {}
            _ => return,
        }
        self.emit(Effect::RecordPublished {
            generation: self.generation,
            sink,
            epoch,
        });
        self.stop_if_all_is_outside();
    }
}
