//! Random histories: nodes come and go, answers get lost, generations and commits meet.

use std::time::Duration;

use proto::types::Epoch;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{
    metadata::{Door, Fault},
    setup::{Bed, FakeNode, JOB, objects, pass, settle},
};
use crate::caps::STATE_NODE_CONNECT;

const DOORS: [Door; 5] = [
    Door::Open,
    Door::BeforeChange,
    Door::AfterChange,
    Door::BeforeLook,
    Door::AfterLook,
];
const FAULTS: [Fault; 4] = [
    Fault::AnswerLost,
    Fault::AnswerForgotten,
    Fault::Lost,
    Fault::NoQuorum,
];

struct History {
    bed: Bed,
    nodes: Vec<FakeNode>,
    random: SmallRng,
    generation: u64,
    epoch: u64,
    /// Epochs that whoever asked was told are committed.
    acknowledged: Vec<u64>,
}

impl History {
    async fn begin(&mut self) {
        self.generation += 1;
        if let Ok(begun) = self.bed.begin(self.generation).await {
            self.epoch = begun.first.0;
        }
    }

    async fn step(&mut self) {
        let node = self.nodes[self.random.random_range(0..self.nodes.len())].clone();
        let up = node.seen().session.is_some();
        match self.random.random_range(0..10) {
            0 if up => {
                node.miss(self.random.random_range(0..4));
                self.bed.leave(&node).await;
            }
            1 if up => self.bed.kill(&node).await,
            2 if up => node.die_silently(),
            0..=3 if !up => drop(self.bed.join(&node).await),
            4 => self
                .bed
                .metadata
                .close(DOORS[self.random.random_range(0..5)]),
            5 => self
                .bed
                .metadata
                .fail([FAULTS[self.random.random_range(0..4)]]),
            6 => {
                self.bed.metadata.open();
                self.begin().await;
            }
            7 => pass(Duration::from_millis(self.random.random_range(1..700))).await,
            _ => {
                let waits = Duration::from_millis(self.random.random_range(1..200));
                let commit = self.bed.commit(self.generation, self.epoch);
                let epoch = self.epoch;
                self.epoch += 1;
                if let Ok(Ok(())) = tokio::time::timeout(waits, commit).await {
                    self.acknowledged.push(epoch);
                }
            }
        }
    }
}

async fn play(seed: u64) -> u64 {
    let bed = Bed::new(3).await;
    let nodes = [1, 2, 3].map(FakeNode::new).to_vec();
    let mut history = History {
        bed,
        nodes,
        random: SmallRng::seed_from_u64(seed),
        generation: 0,
        epoch: 0,
        acknowledged: Vec::new(),
    };
    history.bed.join(&history.nodes[0]).await;
    history.begin().await;
    for _ in 0..120 {
        history.step().await;
    }
    history.bed.metadata.open();
    for node in &history.nodes {
        // A stream that has failed silently is ended by its node.
        if node.seen().session.is_some() && !node.seen().up {
            history.bed.leave(node).await;
        }
    }
    if history.nodes.iter().all(|node| !node.seen().up) {
        history.bed.join(&history.nodes[0]).await;
    }
    pass(STATE_NODE_CONNECT * 2).await;
    settle().await;
    for node in &history.nodes {
        node.take();
    }
    let nodes: Vec<&FakeNode> = history.nodes.iter().collect();
    history.bed.check_knowledge(&nodes).await;
    let record = history.bed.record(JOB).await.expect("the job");
    for epoch in &history.acknowledged {
        let rows = &record.log[&Epoch(*epoch)];
        assert_eq!(rows, &objects(*epoch)[..1], "seed {seed}");
    }
    for owner in record.owners.values() {
        let owner = nodes.iter().find(|node| node.id == *owner).expect("a node");
        assert!(
            owner.seen().up,
            "seed {seed}: {} owns and is gone",
            owner.id
        );
    }
    record.log.len() as u64
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_connected_owners_know_what_is_committed() {
    let mut committed = 0;
    for seed in 0..150 {
        committed += play(seed).await;
    }
    assert!(committed > 500, "{committed} commits are no test");
}
