//! From one routing of a generation to the next.

use std::collections::BTreeSet;

use engine::{
    Barrier,
    task::{NewPlace, Reroute, TaskCommand},
};
use proto::{
    control::{Deployment, Retry, TaskSpec},
    types::{SinkId, TaskId},
};

use super::{
    links::RoutingLinks,
    running::{Leaving, RunningGeneration},
};
use crate::{
    build::{BuildError, Builder, OpenPublisher, new_place, sinks},
    wiring::Wiring,
};

/// A routing that is prepared.
pub(super) struct Next {
    deployment: Deployment,
    wiring: Wiring,
    links: RoutingLinks,
    /// Tasks that start here.
    new_tasks: Vec<TaskSpec>,
    /// Tasks that end here.
    old_tasks: Vec<TaskId>,
    publishers: Vec<SinkId>,
    new_publishers: Vec<OpenPublisher>,
}

impl RunningGeneration {
    /// Makes ready for another routing. Nothing that runs changes before the barrier that carries it.
    pub(crate) async fn prepare(&mut self, mut next: Deployment) -> Result<(), BuildError> {
        self.keep_routing(u32::MAX);
        // Splits are known from the state by now.
        next.splits = Some(Vec::new());
        let here = next.tasks_here();
        let is_new = |spec: &&TaskSpec| !self.tasks.contains_key(&spec.task);
        let new_tasks: Vec<TaskSpec> = here.iter().filter(is_new).copied().collect();
        let stays: BTreeSet<TaskId> = here.iter().map(|spec| spec.task).collect();
        let old_tasks = self.tasks.keys().filter(|task| !stays.contains(task));
        let old_tasks: Vec<TaskId> = old_tasks.copied().collect();

        let changed = self.changed_exchanges(&next);
        let (mut wiring, links) = Wiring::new(&next, |exchange| changed.contains(&exchange))?;
        let exchange = self.config.exchange.clone();
        let links = RoutingLinks::start(
            exchange.as_ref(),
            &next,
            links,
            false,
            &mut self.futures,
            &self.reporter,
        )?;
        let prepared = self.open(&next, &new_tasks).await;
        let opened = match prepared {
            Ok(opened) => opened,
            Err(error) => {
                links.abandon();
                return Err(error);
            }
        };
        let kept = here.iter().filter(|spec| !new_tasks.contains(spec));
        let place = |spec: &TaskSpec| {
            let place = new_place(&self.deployment, &next, *spec, &changed, &mut wiring);
            place.map(|place| (spec.task, place))
        };
        let places: Vec<(TaskId, NewPlace)> = match kept.map(place).collect() {
            Ok(places) => places,
            Err(error) => {
                links.abandon();
                return Err(error);
            }
        };
        for (task, place) in places {
            self.tell(task, next.routing, Some(place));
        }
        for task in &old_tasks {
            self.tell(*task, next.routing, None);
        }
        let (publishers, new_publishers) = self.publishers_that_move(&next, opened);
        self.next = Some(Next {
            deployment: next,
            wiring,
            links,
            new_tasks,
            old_tasks,
            publishers,
            new_publishers,
        });
        Ok(())
    }

    /// Opens what new tasks need, and tries whether they can be built.
    async fn open(
        &mut self,
        next: &Deployment,
        new_tasks: &[TaskSpec],
    ) -> Result<Vec<OpenPublisher>, BuildError> {
        let config = self.config.clone();
        let builder = Builder::new(&config, next);
        let publishers = builder.connect(&mut self.connected, new_tasks).await?;
        builder.build(&self.connected, new_tasks, &mut Wiring::default())?;
        Ok(publishers)
    }

    fn changed_exchanges(&self, next: &Deployment) -> BTreeSet<u32> {
        let agrees = |fragment: u32| self.deployment.agrees(next, fragment);
        let exchanges = next.plan.exchanges.iter();
        let changed = exchanges
            .filter(|exchange| !agrees(exchange.from_fragment) || !agrees(exchange.to_fragment));
        changed.map(|exchange| exchange.id).collect()
    }

    /// Sinks that another worker publishes after the change, and those that this one does.
    fn publishers_that_move(
        &self,
        next: &Deployment,
        opened: Vec<OpenPublisher>,
    ) -> (Vec<SinkId>, Vec<OpenPublisher>) {
        let leaves = |(_, fragment): &(SinkId, u32)| {
            self.deployment.is_here(*fragment, 0) && !next.is_here(*fragment, 0)
        };
        let leaving = sinks(&next.plan).filter(leaves);
        (leaving.map(|(sink, _)| sink).collect(), opened)
    }

    fn tell(&mut self, task: TaskId, routing: u32, place: Option<NewPlace>) {
        let reroute = Box::new(Reroute { routing, place });
        if let Some(task) = self.tasks.get_mut(&task)
            && let Err(error) = task.commands.try_send(TaskCommand::Reroute(reroute))
        {
            tracing::debug!(%error, "a task did not take its place in a routing");
        }
    }

    /// The routing that is prepared is given up, if it is not newer than `routing`.
    pub(crate) fn keep_routing(&mut self, routing: u32) {
        let given_up = |next: &mut Next| next.deployment.routing <= routing;
        let Some(next) = self.next.take_if(given_up) else {
            return;
        };
        next.links.abandon();
        for task in self.tasks.values_mut() {
            // One that takes no command has failed.
            drop(task.commands.try_send(TaskCommand::KeepRouting));
        }
    }

    /// Whether a routing is prepared, this one or an older one.
    pub(super) fn is_prepared_by(&self, routing: u32) -> bool {
        let next = self.next.as_ref();
        next.is_some_and(|next| next.deployment.routing <= routing)
    }

    /// A barrier with the routing that is prepared is on its way: new tasks start from its epoch.
    pub(super) fn change_routing(&mut self, barrier: Barrier) {
        let prepared = self.next.take();
        let prepared = prepared.filter(|next| next.deployment.routing == barrier.routing);
        let Some(mut next) = prepared else {
            let error = format!("routing {} was not prepared", barrier.routing);
            return self.reporter.fail(TaskId(0), error, Retry::Platform);
        };
        next.links.count();
        self.links.push(next.links);
        next.deployment.restored = barrier.epoch;
        // A barrier that changes the routing overtakes nothing.
        next.deployment.has_overtaken = false;
        // What is there to be read is in the state by now.
        next.deployment.new_sources.clear();
        let old = next.old_tasks.iter();
        let leaving = Leaving {
            epoch: barrier.epoch,
            tasks: old.filter_map(|task| self.tasks.remove(task)).collect(),
            publishers: next.publishers,
            new_publishers: next.new_publishers,
        };
        self.leaving.push(leaving);
        let builder = Builder::new(&self.config, &next.deployment);
        let built = builder.build(&self.connected, &next.new_tasks, &mut next.wiring);
        match built {
            Ok(built) => {
                for task in built {
                    self.start_task(&next.deployment, task, None);
                }
            }
            Err(error) => self
                .reporter
                .fail(TaskId(0), error.to_string(), error.retry()),
        }
        self.deployment = next.deployment;
    }
}
