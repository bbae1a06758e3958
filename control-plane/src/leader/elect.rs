//! Leads while this node is the elected one.

use std::{sync::Arc, time::Duration};

use consensus::{Consensus, Leadership, Machine};
use tokio::sync::watch;

use super::{LeaderConfig, Leading};
use crate::{forward::Answerer, metadata::leader_of};

/// Pause before a leader that could not start tries again.
const RETRY: Duration = Duration::from_millis(500);

/// Who leads, and what this node leads with if it is the one.
#[derive(Clone)]
pub enum Role {
    /// This node.
    Leader(Arc<Leading>),
    /// The node at this address, if one is known.
    Follower(Option<String>),
}

/// Follows elections until the node stops. `seeds` gives another number at every call; `roles` and
/// `answerer` are told what this node is.
pub async fn elect<M: Machine>(
    consensus: Consensus<M>,
    config: LeaderConfig,
    mut seeds: impl FnMut() -> u64,
    roles: watch::Sender<Role>,
    answerer: watch::Sender<Answerer>,
) {
    let mut leadership = consensus.leadership();
    let mut stopped = consensus.stopped();
    loop {
        let now = leadership.borrow_and_update().clone();
        if !matches!(now, Leadership::Leader { .. }) {
            let leader = leader_of(&now);
            roles.send_replace(Role::Follower(leader.clone()));
            answerer.send_replace(Answerer::Elsewhere(leader));
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                _ = stopped.wait_for(Option::is_some) => return,
            }
            continue;
        }
        tracing::info!("this node leads");
        match Leading::start(config.clone(), seeds()).await {
            Ok(leading) => {
                let leading = Arc::new(leading);
                answerer.send_replace(Answerer::Here(leading.app.clone()));
                roles.send_replace(Role::Leader(Arc::clone(&leading)));
                tokio::select! {
                    changed = leadership.changed() => if changed.is_err() { return },
                    () = leading.ended() => {}
                    _ = stopped.wait_for(Option::is_some) => return,
                }
                tracing::info!("this node does not lead any more");
                leading.stop();
            }
            Err(error) => {
                tracing::error!(%error, "failed to lead");
                tokio::time::sleep(RETRY).await;
            }
        }
        roles.send_replace(Role::Follower(None));
        answerer.send_replace(Answerer::Elsewhere(None));
    }
}
