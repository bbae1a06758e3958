//! The streams to and from other workers that one routing of a generation has.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::FutureExt as _;
use proto::{
    control::{Deployment, Retry, WorkerEventKind},
    types::TaskId,
};
use state_client::Incarnation;
use tokio::task::{AbortHandle, JoinSet};

use super::events::{error_text, panic_text};
use crate::{
    build::BuildError,
    exchange::{ExchangeConfig, Expected, LinkError, Links, ReceiveLink, SendLink},
    report::Reporter,
};

/// What runs the streams of a routing. They end by themselves with their channels.
pub(super) struct RoutingLinks {
    /// Streams of other workers that are waited for.
    _expected: Option<Expected>,
    links: Vec<AbortHandle>,
    /// Whether the routing counts: until then a link that fails harms nothing.
    counts: Arc<AtomicBool>,
}

/// Where what happens to links is told.
#[derive(Clone)]
struct Told {
    reporter: Reporter,
    routing: u32,
    counts: Arc<AtomicBool>,
}

impl RoutingLinks {
    /// Starts the links of a routing.
    pub(super) fn start(
        exchange: Option<&ExchangeConfig>,
        deployment: &Deployment,
        links: Links,
        counts: bool,
        futures: &mut JoinSet<()>,
        reporter: &Reporter,
    ) -> Result<RoutingLinks, BuildError> {
        let told = Told {
            reporter: reporter.clone(),
            routing: deployment.routing,
            counts: Arc::new(AtomicBool::new(counts)),
        };
        let mut started = RoutingLinks {
            _expected: None,
            links: Vec::new(),
            counts: Arc::clone(&told.counts),
        };
        let Some(exchange) = exchange else {
            let alone = links.is_empty();
            return alone.then_some(started).ok_or(BuildError::NoExchange);
        };
        let who = Incarnation {
            job: deployment.job,
            generation: deployment.generation,
        };
        let (here, routing) = (deployment.exchange.here, deployment.routing);
        let mut expected = exchange.server.begin(who, routing, here, &links);
        for (from, incoming) in links.incoming {
            let task = incoming.task;
            let mut link = ReceiveLink::new(incoming, &mut expected, from, exchange.clone());
            let link = async move { (link.run().await, link) };
            let what = format!("receiving from {from}");
            started
                .links
                .push(run(task, what, link, told.clone(), futures));
        }
        for (to, outgoing) in links.outgoing {
            let task = outgoing.task;
            let link = SendLink {
                who,
                routing,
                here,
                to,
                outgoing,
                config: exchange.clone(),
            };
            let link = async move { (link.run().await, link) };
            let what = format!("sending to {to}");
            started
                .links
                .push(run(task, what, link, told.clone(), futures));
        }
        started._expected = Some(expected);
        Ok(started)
    }

    /// The routing counts from now on: a link that fails fails the generation.
    pub(super) fn count(&self) {
        self.counts.store(true, Ordering::Release);
    }

    /// The routing is given up.
    pub(super) fn abandon(self) {
        self.links.iter().for_each(AbortHandle::abort);
    }
}

/// Runs a link. `L` is what is left of it, and outlives a failure: nothing is lost while the job is
/// being stopped that a task believes to be sent.
fn run<L: Send + 'static>(
    task: TaskId,
    what: String,
    link: impl Future<Output = (Result<(), LinkError>, L)> + Send + 'static,
    told: Told,
    futures: &mut JoinSet<()>,
) -> AbortHandle {
    futures.spawn(async move {
        let _link = match AssertUnwindSafe(link).catch_unwind().await {
            Ok((Ok(()), _)) => return,
            Ok((Err(error), link)) => {
                told.fail(task, format!("{what}: {}", error_text(&error)));
                Some(link)
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                told.fail(task, format!("{what} panicked: {text}"));
                None
            }
        };
        std::future::pending::<()>().await;
    })
}

impl Told {
    fn fail(&self, task: TaskId, error: String) {
        if self.counts.load(Ordering::Acquire) {
            self.reporter.fail(task, error, Retry::Always);
        } else {
            let routing = self.routing;
            self.reporter
                .send(WorkerEventKind::NotPrepared { routing, error });
        }
    }
}
