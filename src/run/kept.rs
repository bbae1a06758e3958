//! A run over a store: what an earlier run of the same script has done there is not done again.

use anyhow::bail;
use compute::SystemClock;
use control_plane::{Jobs, JobsError, api::Token, metadata::look};
use engine::clock::Clock as _;
use sql::parse::parse_script;
use state_service::object::StoreUrl;

use super::{
    Output, Room, ScriptOptions, ScriptRun,
    resume::{KeptJob, resume},
    script::{Kept, run_script_over},
};
use crate::{
    Durable, DurableConfig, OpenedStore,
    serve::random_token,
    telemetry::{observe_jobs, observe_state_node},
};

/// Executes the script as [`super::run_script`] does, from where an earlier run over the store was
/// stopped. When `interrupted` completes, the running INSERT is left as it is: the next run goes on
/// with it. When all has been executed, the store forgets the script's jobs.
///
/// # Errors
/// When the store cannot be used, or another process takes it over.
pub(super) async fn run_kept(
    url: &StoreUrl,
    script: &str,
    options: &ScriptOptions,
    room: Room,
    out: &mut Output,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<ScriptRun> {
    // Known before the store is taken from a process that has it open.
    let statements = match parse_script(script) {
        Ok(statements) => statements,
        Err(error) => return Ok(ScriptRun::failed(error.into())),
    };
    let opened = OpenedStore::open(url).await?;
    let kept = look(opened.metadata(), |state| {
        let jobs = state.jobs.values().filter_map(KeptJob::of_record);
        jobs.collect::<Vec<KeptJob>>()
    });
    // Known before any job of the store runs.
    let steps = match resume(&statements, &kept.await?) {
        Ok(steps) => steps,
        Err(error) => return Ok(ScriptRun::failed(error)),
    };
    let config = DurableConfig {
        defaults: options.job.clone(),
        memory: room.memory,
        scratch: room.scratch,
        // Nothing listens: nobody shows it.
        token: Token::new(&random_token()?),
        address: String::new(),
    };
    let durable = Durable::start(opened, config).await?;
    observe_state_node(durable.state_node().clone());
    let jobs = durable.leading.jobs.clone();
    let clock = SystemClock::default();
    let observed = jobs.clone();
    observe_jobs(move || Some(observed.clone()), move || clock.wall_ms());
    let run = async {
        if let Err(error) = forget_selects(&jobs).await {
            return ScriptRun::failed(error.into());
        }
        let kept = Kept::new(steps);
        run_script_over(&jobs, Some(kept), script, options, out, interrupted).await
    };
    let ran = tokio::select! {
        ran = run => Ok(ran),
        why = durable.cannot_go_on() => Err(why),
    };
    durable.stop().await;
    match ran {
        Ok(ran) => Ok(ran),
        Err(why) => bail!("{why}"),
    }
}

/// SELECTs of earlier runs were for readers who have gone; those that ran are being cancelled.
async fn forget_selects(jobs: &Jobs) -> Result<(), JobsError> {
    for entry in jobs.list() {
        if entry.spec.select.is_some() {
            entry.ended().await;
            jobs.delete(entry.id).await?;
        }
    }
    Ok(())
}
