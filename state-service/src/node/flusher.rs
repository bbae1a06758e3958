//! When which shard is flushed. Flushes and maintenance run beside all else, few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{NodeLimits, node::NodeShared};
use crate::shard::{Load, Shard};

/// Flushes shards as they become due, until the node stops.
pub(super) async fn run(node: Arc<NodeShared>) {
    let limits = node.context.config.limits.clone();
    let flushes = Arc::new(Semaphore::new(limits.flushes_max));
    let maintenance = Arc::new(Semaphore::new(limits.maintenance_max));
    while !node.is_stopped() {
        // The semaphore is never closed.
        let Ok(permit) = flushes.clone().acquire_owned().await else {
            return;
        };
        let Some(shard) = due_shard(&node, &limits) else {
            drop(permit);
            node.context.grown.notified().await;
            continue;
        };
        let (done, maintenance) = (node.clone(), maintenance.clone());
        let flush = async move {
            shard.flush().await;
            drop(permit);
            done.context.flushed.send_replace(());
            // Another may be due that had to wait.
            done.context.grown.notify_one();
            shard.maintain(&maintenance).await;
        };
        node.context.tasks.spawn(flush);
    }
}

fn due_shard(node: &NodeShared, limits: &NodeLimits) -> Option<Arc<Shard>> {
    let shards: Vec<Arc<Shard>> = (node.all_jobs().iter())
        .flat_map(|job| job.look_shards())
        .collect();
    let loads: Vec<Load> = shards.iter().map(|shard| shard.load()).collect();
    due(&loads, limits).map(|index| shards[index].clone())
}

/// The shard to flush next: one whose rows are old, else the largest if it, or all of them together,
/// have too much.
fn due(loads: &[Load], limits: &NodeLimits) -> Option<usize> {
    let idle = loads.iter().enumerate().filter(|(_, load)| load.can_flush);
    let oldest = idle.clone().max_by_key(|(_, load)| load.age);
    if let Some((index, load)) = oldest
        && load.age >= limits.flush_epochs
    {
        return Some(index);
    }
    let (index, largest) = idle.max_by_key(|(_, load)| load.tail_bytes)?;
    let total: usize = loads.iter().map(|load| load.tail_bytes).sum();
    let due = largest.tail_bytes > limits.shard_tail_bytes || total > limits.tail_bytes;
    due.then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(tail_bytes: usize, age: u64) -> Load {
        Load {
            tail_bytes,
            frozen_bytes: 0,
            age,
            can_flush: true,
        }
    }

    #[test]
    fn old_rows_go_first_then_the_largest_shard() {
        let limits = NodeLimits {
            tail_bytes: 100,
            shard_tail_bytes: 60,
            flush_epochs: 64,
            ..NodeLimits::default()
        };
        let due = |loads: &[Load]| due(loads, &limits);
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[load(40, 1), load(50, 2)]), None);
        assert_eq!(due(&[load(40, 1), load(61, 2)]), Some(1));
        assert_eq!(due(&[load(50, 1), load(51, 1)]), Some(1));
        assert_eq!(due(&[load(1, 64), load(61, 2)]), Some(0));
        let flushing = Load {
            can_flush: false,
            ..load(61, 99)
        };
        assert_eq!(due(&[load(1, 1), flushing]), None);
        assert_eq!(due(&[load(50, 1), flushing]), Some(0));
    }
}
