//! What a worker says and hears when another leader takes it.

use std::{sync::Arc, time::Duration};

use control_stream::{Dialer, FormerId, Purpose, Session, WorkerHears, WorkerSays};
use coordinator::JobState;
use proto::{
    control::{WorkerCommand, WorkerEvent, WorkerEventKind},
    running::RunningJobs,
    types::{Generation, WorkerId},
};
use tokio::time::timeout;

use super::streams_test::{
    PATIENCE, config, dial, leader, leading_over, node, spec, state_node, workers,
};
use crate::{leader::Role, metadata::LocalMetadata};

/// What a worker was called on its stream.
fn name(session: &Session<WorkerSays, WorkerHears>) -> FormerId {
    FormerId {
        id: session.welcome.id,
        leadership: session.welcome.leadership,
    }
}

#[tokio::test]
async fn a_worker_keeps_its_name_where_another_leadership_takes_it() {
    let (node, _leading) = leader().await;
    let mut dialer = Dialer::new(config(&node, 1)).expect("an address");
    let session = dial(&mut dialer).await.expect("greeted");
    let first = name(&session);
    dialer.set_former(Some(first));
    let session = dial(&mut dialer).await.expect("greeted");
    let second = name(&session);
    assert_eq!(second.leadership, first.leadership);
    assert_ne!(
        second.id, first.id,
        "the same leadership knows it to be gone"
    );

    let other = leading_over(LocalMetadata::default(), Duration::ZERO, 8).await;
    node.roles.send_replace(Role::Leader(Arc::clone(&other)));
    dialer.set_former(Some(second));
    let session = dial(&mut dialer).await.expect("greeted");
    let third = name(&session);
    assert_ne!(third.leadership, second.leadership);
    assert_eq!(third.id, second.id);
    assert_eq!(workers(&other, 1).await[0].id, WorkerId(third.id));
    // It is held up before it hears that it was taken, and comes again.
    let session = dial(&mut dialer).await.expect("greeted");
    let fourth = name(&session);
    assert_ne!(fourth.id, third.id);
}

/// What a worker is told of a job, until it is told this.
async fn until<T>(
    session: &mut Session<WorkerSays, WorkerHears>,
    running: &mut RunningJobs,
    found: impl Fn(&WorkerCommand) -> Option<T>,
) -> T {
    loop {
        match timeout(PATIENCE, session.hear()).await.expect("in time") {
            Some(WorkerHears::Command(command)) => {
                running.heard(&command);
                if let Some(found) = found(&command) {
                    return found;
                }
            }
            Some(_) => {}
            None => panic!("the stream has ended"),
        }
    }
}

/// The generation that a command deploys.
fn deployed(command: &WorkerCommand) -> Option<Generation> {
    match command {
        WorkerCommand::Deploy(deployment) => Some(deployment.generation),
        _ => None,
    }
}

/// The generation whose epoch a command ends.
fn ended(command: &WorkerCommand) -> Option<Generation> {
    match command {
        WorkerCommand::Barrier { generation, .. } => Some(*generation),
        _ => None,
    }
}

/// Says what has happened.
fn say(session: &Session<WorkerSays, WorkerHears>, running: &mut RunningJobs, event: WorkerEvent) {
    running.said(&event);
    assert!(session.say(WorkerSays::Event(event)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_on_under_the_next_leader_if_its_worker_tells_of_it() {
    let metadata = LocalMetadata::default();
    let grace = Duration::from_millis(300);
    let lead = async |seed| leading_over(metadata.clone(), grace, seed).await;
    let (node, leading) = (node().await, lead(7).await);
    node.roles.send_replace(Role::Leader(Arc::clone(&leading)));
    let _state = state_node(&node, 3, Some("s1")).await.expect("greeted");
    let mut spec = spec();
    spec.select = None;
    let job = leading.jobs.submit(spec).await.expect("accepted").id;
    let mut dialer = Dialer::new(config(&node, 1)).expect("an address");
    let mut session = dial(&mut dialer).await.expect("greeted");
    let mut running = RunningJobs::default();
    let generation = until(&mut session, &mut running, deployed).await;
    let runs = WorkerEvent {
        job,
        generation,
        kind: WorkerEventKind::Running,
    };
    say(&session, &mut running, runs);
    assert_eq!(until(&mut session, &mut running, ended).await, generation);

    // The next leader repeats the barrier, which this one may have kept to itself.
    let next = lead(8).await;
    node.roles.send_replace(Role::Leader(Arc::clone(&next)));
    leading.stop();
    let former = name(&session);
    dialer.set_former(Some(former));
    let again = timeout(PATIENCE, dialer.dial(Purpose::Worker)).await;
    let mut session: Session<WorkerSays, WorkerHears> = again.expect("in time").expect("greeted");
    assert_eq!(session.welcome.id, former.id);
    for part in running.parts() {
        assert!(session.say(WorkerSays::Runs(Box::new(part.clone()))));
    }
    assert!(session.say(WorkerSays::Told));
    let told = until(&mut session, &mut running, |command| {
        assert_eq!(deployed(command), None, "it runs");
        ended(command)
    });
    assert_eq!(told.await, generation);
    let entry = next.jobs.get(job).expect("it is known");
    assert_eq!(
        (entry.state(), entry.generation()),
        (JobState::Running, generation)
    );

    // One that tells of nothing is given the next generation.
    let last = lead(9).await;
    node.roles.send_replace(Role::Leader(Arc::clone(&last)));
    next.stop();
    let _state = state_node(&node, 3, Some("s1")).await.expect("greeted");
    let mut session = dial(&mut dialer).await.expect("greeted");
    let mut nothing = RunningJobs::default();
    let generation_now = until(&mut session, &mut nothing, deployed).await;
    assert_eq!(generation_now, generation.next());
}
