//! Copies of savepoints to other places and from there, as they are remembered: which are wanted, and
//! how the last ones ended.
//!
//! What is imported becomes the savepoint of a job that has ended, a new one. Its files are held from
//! the moment on at which the job is given its number, so that nobody takes them for garbage while
//! they are written; a job whose import comes to nothing is forgotten with them.
//!
//! Invariant: a savepoint stays as long as a copy of it is being made.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    control::JobOptions,
    plan::Plan,
    state_control::{JobLine, ShardManifest},
    transfer::{ExportSource, ExportWork, Exported, ImportWork, TransferWork},
    types::{Epoch, JobId, ShardId, TransferId},
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Change, JobRecord, JobSpec, MetaState, Outcome, Refusal, RestorePoint, Savepoint,
    state::run_of,
};
use crate::{
    JobState,
    caps::{TRANSFERS_ENDED_MAX, TRANSFERS_MAX},
};

/// What is to be copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferSpec {
    /// A savepoint, to another place.
    Export {
        /// Job.
        job: JobId,
        /// Name of its savepoint.
        savepoint: String,
        /// URL.
        to: String,
    },
    /// What was exported, into the store.
    Import {
        /// URL.
        from: String,
        /// Name that the savepoint gets; `None`: the one that it had.
        savepoint: Option<String>,
    },
}

/// How a transfer ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferEnd {
    /// All is copied.
    Done {
        /// Bytes.
        bytes: u64,
    },
    /// It could not be done.
    Failed {
        /// Why, and what to do.
        error: String,
    },
    /// Its user wanted it no more.
    Canceled,
}

/// A transfer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Number.
    pub id: TransferId,
    /// What is to be copied.
    pub spec: TransferSpec,
    /// When it was asked for, in ms since 1970.
    pub created_ms: u64,
    /// Its user wants it no more.
    #[serde(default)]
    pub canceling: bool,
    /// Of an import: what was found, and the job that it becomes the state of.
    #[serde(default)]
    pub found: Option<(JobId, Exported)>,
    /// How it ended, and when in ms since 1970; `None`: it has not.
    #[serde(default)]
    pub ended: Option<(TransferEnd, u64)>,
}

/// What a job was imported from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Imported {
    /// By which transfer.
    pub transfer: TransferId,
    /// The URL.
    pub from: String,
    /// What that was a copy of.
    pub source: ExportSource,
    /// Whether it is still being copied.
    pub pending: bool,
}

/// What goes along with a copy of a job's state: what another cluster must know to tell whether a
/// plan fits. Neither the statement nor options, which are not needed for that.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct PortableJob {
    #[serde(with = "proto::plan::shared")]
    plan: Arc<Plan>,
    tables_max: u32,
    /// For people: what each table of the state holds.
    tables: BTreeMap<u32, String>,
}

impl PortableJob {
    fn of(spec: &JobSpec) -> PortableJob {
        let nodes = spec.plan.fragments.iter().flat_map(|part| &part.nodes);
        let tables = nodes.flat_map(|node| {
            let of_node = node.tables.iter();
            of_node.map(|table| (table.id, format!("{}: {}", node.description, table.name)))
        });
        PortableJob {
            plan: Arc::clone(&spec.plan),
            tables_max: spec.tables_max,
            tables: tables.collect(),
        }
    }

    /// A job of this build that has such a state.
    fn spec(self, name: String, shards: u32) -> JobSpec {
        JobSpec {
            name,
            sql: String::new(),
            plan: self.plan,
            options: JobOptions {
                shards,
                ..JobOptions::default()
            },
            select: None,
            origin: None,
            tables_max: self.tables_max,
        }
    }
}

impl Transfer {
    /// Whether it is a copy of this savepoint that is being made.
    fn copies(&self, of: JobId, name: &str) -> bool {
        let is_it = matches!(&self.spec,
            TransferSpec::Export { job, savepoint, .. } if *job == of && savepoint == name);
        is_it && self.ended.is_none()
    }
}

impl MetaState {
    /// Transfers that have not ended.
    pub fn transfers_active(&self) -> impl Iterator<Item = &Transfer> {
        let all = self.transfers.values();
        all.filter(|transfer| transfer.ended.is_none())
    }

    /// What is to be done next for a transfer; `None`: nothing, or what it needs is gone.
    #[must_use]
    pub fn transfer_work(&self, transfer: &Transfer) -> Option<TransferWork> {
        match (&transfer.spec, &transfer.found) {
            (TransferSpec::Import { from, .. }, None) => {
                let from = from.clone();
                Some(TransferWork::Inspect { from })
            }
            (TransferSpec::Import { from, .. }, Some((job, found))) => {
                Some(TransferWork::Import(ImportWork {
                    from: from.clone(),
                    job: *job,
                    shape: found.shape,
                    checksum: found.checksum,
                }))
            }
            (TransferSpec::Export { job, savepoint, to }, _) => {
                let work = self.export_work(*job, savepoint, to)?;
                Some(TransferWork::Export(Box::new(work)))
            }
        }
    }

    fn export_work(&self, job: JobId, name: &str, to: &str) -> Option<ExportWork> {
        let record = self.jobs.get(&job)?;
        let Savepoint { created_ms, point } = record.savepoints.get(name)?;
        let portable = PortableJob::of(&record.spec);
        Some(ExportWork {
            to: to.to_owned(),
            source: ExportSource {
                cluster: self.cluster_id.clone().unwrap_or_default(),
                job,
                run: record.run,
                savepoint: name.to_owned(),
                created_ms: *created_ms,
                sources_since_ms: record.sources_since_ms(),
            },
            shape: record.shape(point.epoch),
            manifests: point.shards.clone(),
            log: point.logged(),
            job: serde_json::to_string(&portable).expect("a plan is plain data"),
        })
    }

    /// What happens to a transfer.
    pub(super) fn change_transfer(&mut self, change: Change) -> Result<Answer, Refusal> {
        match change {
            Change::BeginTransfer { spec, now_ms } => self.begin_transfer(spec, now_ms),
            Change::FoundTransfer {
                transfer,
                found,
                now_ms,
                seed,
            } => self.found_transfer(transfer, *found, now_ms, seed),
            Change::CancelTransfer { transfer } => {
                self.transfer(transfer)?.canceling = true;
                Ok(Answer::Done)
            }
            Change::EndTransfer {
                transfer,
                end,
                now_ms,
            } => self.end_transfer(transfer, end, now_ms),
            _ => Ok(Answer::Done),
        }
    }

    /// A copy is wanted. One that is being made already is as good.
    fn begin_transfer(&mut self, spec: TransferSpec, created_ms: u64) -> Result<Answer, Refusal> {
        if let TransferSpec::Export { job, savepoint, .. } = &spec {
            let (job, name) = (*job, savepoint.clone());
            if !self.job(job)?.savepoints.contains_key(&name) {
                return Err(Refusal::UnknownSavepoint { job, name });
            }
        }
        let is_it = |known: &&Transfer| known.spec == spec && !known.canceling;
        let known = self.transfers_active().find(is_it).map(|known| known.id);
        if let Some(id) = known {
            return Ok(Answer::Transfer { id });
        }
        if self.transfers_active().count() >= TRANSFERS_MAX {
            return Err(Refusal::TooManyTransfers);
        }
        self.last_transfer += 1;
        let id = TransferId(self.last_transfer);
        let transfer = Transfer {
            id,
            spec,
            created_ms,
            canceling: false,
            found: None,
            ended: None,
        };
        self.transfers.insert(id, transfer);
        Ok(Answer::Transfer { id })
    }

    /// What is to be imported was found: a job is made for it, which has ended.
    fn found_transfer(
        &mut self,
        id: TransferId,
        found: Exported,
        now_ms: u64,
        seed: u64,
    ) -> Result<Answer, Refusal> {
        let transfer = self.transfer(id)?;
        if let Some((job, _)) = &transfer.found {
            return Ok(Answer::Importing { job: *job });
        }
        let TransferSpec::Import { from, .. } = transfer.spec.clone() else {
            return Err(Refusal::UnknownTransfer(id));
        };
        let unfit = |why: String| Refusal::NotImportable { why };
        let portable: Result<PortableJob, _> = serde_json::from_str(&found.job);
        let portable = portable.map_err(|error| unfit(error.to_string()))?;
        let (key_groups, shards) = (found.shape.key_groups.count(), found.shape.shards);
        if portable.plan.key_groups != key_groups {
            return Err(unfit(
                "its plan and its state are cut differently".to_owned(),
            ));
        }
        if !shards.is_power_of_two() || shards > key_groups {
            return Err(unfit(format!("state cannot be cut into {shards} shards")));
        }
        self.last_job += 1;
        let job = JobId(self.last_job);
        let spec = portable.spec(format!("import of {from}"), shards);
        let run = run_of(seed, job, now_ms);
        let mut record = JobRecord::new(job, spec, now_ms, run);
        record.end(Outcome {
            state: JobState::Finished,
            error: None,
            at_ms: now_ms,
        });
        record.imported = Some(Imported {
            transfer: id,
            from,
            source: found.source.clone(),
            pending: true,
        });
        self.jobs.insert(job, record);
        self.transfer(id)?.found = Some((job, found));
        Ok(Answer::Importing { job })
    }

    /// A transfer has ended. What was imported in whole becomes a savepoint.
    fn end_transfer(
        &mut self,
        id: TransferId,
        end: TransferEnd,
        now_ms: u64,
    ) -> Result<Answer, Refusal> {
        let transfer = self.transfer(id)?;
        transfer.ended = Some((end.clone(), now_ms));
        let transfer = transfer.clone();
        if let Some((job, found)) = transfer.found {
            let name = match &transfer.spec {
                TransferSpec::Import { savepoint, .. } => savepoint.clone(),
                TransferSpec::Export { .. } => None,
            };
            let name = name.unwrap_or_else(|| found.source.savepoint.clone());
            let record = self.any(job)?;
            if let Some(imported) = &mut record.imported {
                imported.pending = false;
            }
            match end {
                TransferEnd::Done { .. } => {
                    let point = whole(job, record.shards(), found.shape.epoch);
                    let created_ms = found.source.created_ms;
                    record
                        .savepoints
                        .insert(name, Savepoint { created_ms, point });
                }
                // Its files go, and then nothing is left of it.
                TransferEnd::Failed { .. } | TransferEnd::Canceled => record.forgotten = true,
            }
        }
        let ended = self
            .transfers
            .values()
            .filter(|other| other.ended.is_some());
        let surplus = ended.clone().count().saturating_sub(TRANSFERS_ENDED_MAX);
        let oldest: Vec<TransferId> = ended.map(|other| other.id).take(surplus).collect();
        for id in oldest {
            self.transfers.remove(&id);
        }
        Ok(Answer::Done)
    }

    /// Whether a savepoint may go.
    pub(super) fn check_uncopied(&self, job: JobId, name: &str) -> Result<(), Refusal> {
        match self
            .transfers
            .values()
            .find(|other| other.copies(job, name))
        {
            None => Ok(()),
            Some(transfer) => Err(Refusal::Exporting {
                job,
                name: name.to_owned(),
                transfer: transfer.id,
            }),
        }
    }

    /// One that has not ended.
    fn transfer(&mut self, id: TransferId) -> Result<&mut Transfer, Refusal> {
        match self.transfers.get_mut(&id) {
            None => Err(Refusal::UnknownTransfer(id)),
            Some(transfer) if transfer.ended.is_some() => Err(Refusal::TransferEnded(id)),
            Some(transfer) => Ok(transfer),
        }
    }
}

/// A state that is wholly in its databases.
fn whole(job: JobId, shards: impl Iterator<Item = ShardId>, epoch: Epoch) -> RestorePoint {
    let manifest = ShardManifest {
        of: JobLine { job, line: 0 },
        epoch,
    };
    RestorePoint {
        epoch,
        shards: shards.map(|shard| (shard, manifest)).collect(),
        log: BTreeMap::new(),
    }
}
