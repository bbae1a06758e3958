//! Any processes at any time: killed, held up, started, several of them at once.

use std::{
    hash::{BuildHasher as _, RandomState},
    thread,
    time::Duration,
};

use tests::{Cluster, Member};

use super::{load::Load, start};

/// Things that happen.
const STEPS: u32 = 16;
/// Longest time between two of them.
const PAUSE_MAX_MS: u64 = 1200;

/// Numbers that nobody has chosen.
struct Chance {
    state: RandomState,
    drawn: u64,
}

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        self.state.hash_one(self.drawn) % bound
    }
}

/// The next thing that happens to a process.
fn disturb(member: &mut Member, chance: &mut Chance) -> &'static str {
    if member.is_held() {
        member.release();
        "goes on"
    } else if !member.is_up() {
        member.start_again();
        "is started"
    } else if chance.below(5) < 3 {
        member.kill();
        "is killed"
    } else {
        member.hold();
        "is held up"
    }
}

fn end(cluster: &mut Cluster) {
    for member in cluster.members() {
        if member.is_held() {
            member.release();
        } else if !member.is_up() {
            member.start_again();
        }
    }
    cluster.wait_whole();
}

#[test]
fn a_storm_of_kills_and_pauses_changes_nothing() {
    let mut cluster = start();
    let load = Load::start(&cluster, 12, 4);
    cluster.wait_progress(&load.job);
    let mut chance = Chance {
        state: RandomState::new(),
        drawn: 0,
    };
    // Shown when the test fails.
    eprintln!("{} is disturbed", load.job);
    for _ in 0..STEPS {
        let pause = Duration::from_millis(chance.below(PAUSE_MAX_MS));
        thread::sleep(pause);
        let mut members = cluster.members();
        let index = chance.below(members.len() as u64) as usize;
        let done = disturb(members[index], &mut chance);
        eprintln!("after {pause:?} {} {done}", members[index].name());
    }
    end(&mut cluster);
    load.finish(&cluster);
}
