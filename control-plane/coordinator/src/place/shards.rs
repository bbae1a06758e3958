//! Which state node serves which shard: nothing moves without need, and what must be placed goes
//! where the least is.

use std::collections::BTreeMap;

use proto::types::{ShardId, StateNodeId};

/// The owners of a job's `shards`. `nodes` are those that can take shards, each with the number of
/// shards of other jobs that it has; `previous` are the owners until now. A shard stays where it is
/// as long as its owner is among the nodes. Without nodes there are no owners.
///
/// The same input gives the same owners.
#[must_use]
pub fn shards(
    previous: &BTreeMap<ShardId, StateNodeId>,
    shards: impl IntoIterator<Item = ShardId>,
    nodes: &BTreeMap<StateNodeId, usize>,
) -> BTreeMap<ShardId, StateNodeId> {
    // By node: shards of all jobs, shards of this one. The second makes jobs spread, so that the
    // death of a node is felt a little by many and not all by one.
    let mut loads: BTreeMap<StateNodeId, (usize, usize)> = nodes
        .iter()
        .map(|(node, others)| (*node, (*others, 0)))
        .collect();
    let mut owners = BTreeMap::new();
    let mut homeless = Vec::new();
    for shard in shards {
        let owner = previous.get(&shard).copied();
        let stays = owner.and_then(|owner| loads.get_mut(&owner).map(|load| (owner, load)));
        match stays {
            Some((owner, load)) => {
                *load = (load.0 + 1, load.1 + 1);
                owners.insert(shard, owner);
            }
            None => homeless.push(shard),
        }
    }
    for shard in homeless {
        let least = loads.iter_mut().min_by_key(|(node, load)| (**load, **node));
        let Some((node, load)) = least else {
            break;
        };
        *load = (load.0 + 1, load.1 + 1);
        owners.insert(shard, *node);
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn ids(count: u32) -> impl Iterator<Item = ShardId> + Clone {
        (0..count).map(ShardId)
    }

    fn nodes(loads: &[(u64, usize)]) -> BTreeMap<StateNodeId, usize> {
        let node = |(node, load): &(u64, usize)| (StateNodeId(*node), *load);
        loads.iter().map(node).collect()
    }

    fn shown(owners: &BTreeMap<ShardId, StateNodeId>) -> String {
        let pairs = owners.iter().map(|(shard, node)| (shard.0, node.0));
        format!("{:?}", pairs.collect::<Vec<_>>())
    }

    #[test]
    fn shards_spread_over_nodes_by_what_these_have() {
        let placed = |loads| shown(&shards(&BTreeMap::new(), ids(4), &nodes(loads)));
        assert_eq!(placed(&[]), "[]");
        assert_eq!(placed(&[(7, 9)]), "[(0, 7), (1, 7), (2, 7), (3, 7)]");
        assert_eq!(
            placed(&[(1, 0), (2, 0)]),
            "[(0, 1), (1, 2), (2, 1), (3, 2)]"
        );
        assert_eq!(
            placed(&[(1, 3), (2, 0)]),
            "[(0, 2), (1, 2), (2, 2), (3, 1)]"
        );
        assert_eq!(
            placed(&[(1, 1), (2, 0), (3, 4)]),
            "[(0, 2), (1, 1), (2, 2), (3, 1)]"
        );
    }

    #[test]
    fn only_shards_of_nodes_that_are_gone_move() {
        let (one, two, three) = (StateNodeId(1), StateNodeId(2), StateNodeId(3));
        let previous = [(0, one), (1, two), (2, three), (3, one)];
        let previous = previous.map(|(shard, node)| (ShardId(shard), node)).into();
        let left = nodes(&[(2, 0), (3, 0)]);
        assert_eq!(
            shown(&shards(&previous, ids(4), &left)),
            "[(0, 2), (1, 2), (2, 3), (3, 3)]"
        );
        // A node that has come is no reason to move anything.
        let more = nodes(&[(1, 0), (2, 0), (3, 0), (4, 0)]);
        assert_eq!(shards(&previous, ids(4), &more), previous);
    }

    fn previous() -> impl Strategy<Value = BTreeMap<ShardId, StateNodeId>> {
        btree_map(
            (0..40_u32).prop_map(ShardId),
            (0..8_u64).prop_map(StateNodeId),
            0..40,
        )
    }

    fn some_nodes() -> impl Strategy<Value = BTreeMap<StateNodeId, usize>> {
        btree_map((0..8_u64).prop_map(StateNodeId), 0..30_usize, 0..8)
    }

    proptest! {
        #[test]
        fn every_shard_has_a_node_and_moves_only_if_it_must(
            previous in previous(),
            count in 0..40_u32,
            nodes in some_nodes(),
        ) {
            let owners = shards(&previous, ids(count), &nodes);
            prop_assert_eq!(&owners, &shards(&previous, ids(count), &nodes));
            let placed: BTreeSet<ShardId> = owners.keys().copied().collect();
            let wanted = if nodes.is_empty() { 0 } else { count };
            prop_assert_eq!(placed, ids(wanted).collect::<BTreeSet<_>>());
            for (shard, owner) in &owners {
                prop_assert!(nodes.contains_key(owner));
                let before = previous.get(shard).filter(|node| nodes.contains_key(*node));
                prop_assert!(before.is_none_or(|before| before == owner));
            }
        }

        #[test]
        fn loads_are_as_even_as_can_be_without_moving(
            previous in previous(),
            count in 0..40_u32,
            nodes in some_nodes(),
        ) {
            let owners = shards(&previous, ids(count), &nodes);
            let total = |node: &StateNodeId| {
                nodes[node] + owners.values().filter(|owner| *owner == node).count()
            };
            let least = nodes.keys().map(total).min().unwrap_or_default();
            // Whoever was given something has at most one more than whoever has least.
            for (shard, owner) in &owners {
                if previous.get(shard) != Some(owner) {
                    prop_assert!(total(owner) <= least + 1, "{} has {}", owner, total(owner));
                }
            }
        }
    }
}
