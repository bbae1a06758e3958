//! How well the object store is: what becomes of each request.

use std::time::Duration;

use rand::{Rng as _, rngs::SmallRng};

/// What a request takes at most when all is well.
const SHORT: Duration = Duration::from_millis(8);

/// What can be wrong with the store for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFault {
    /// Most requests are refused: 503.
    Unavailable,
    /// Many requests are refused: 429.
    TooMany,
    /// Hardly anything is answered; some requests are carried out much later.
    BrownOut,
    /// Requests are carried out, and their answers are lost.
    LostAnswers,
    /// Bodies end before they are whole.
    CutBodies,
    /// Lists take seconds, and are as old as that when they come.
    SlowLists,
    /// Everything takes its time.
    Slow,
}

impl StoreFault {
    /// All of them.
    pub const ALL: [StoreFault; 7] = [
        StoreFault::Unavailable,
        StoreFault::TooMany,
        StoreFault::BrownOut,
        StoreFault::LostAnswers,
        StoreFault::CutBodies,
        StoreFault::SlowLists,
        StoreFault::Slow,
    ];
}

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Writes.
    Put,
    /// Reads.
    Get,
    /// Deletes.
    Delete,
    /// Lists.
    List,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// How long it is on its way.
    pub there: Duration,
    /// Whether it is carried out.
    pub fate: Fate,
    /// How long its answer is.
    pub back: Duration,
}

/// Whether and how a request is carried out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fate {
    /// It is.
    Done,
    /// It is, and its answer is lost.
    Unheard,
    /// It is, and its body ends after this part of it.
    Cut(f64),
    /// It is not.
    Refused(&'static str),
}

/// The faults of the moment.
#[derive(Debug)]
pub struct Weather {
    random: SmallRng,
    faults: Vec<(StoreFault, Duration)>,
    /// What is held up is there by then.
    clears: Duration,
}

impl Weather {
    /// Nothing is wrong yet, and nothing is any more when it `clears`.
    #[must_use]
    pub fn new(random: SmallRng, clears: Duration) -> Weather {
        Weather {
            random,
            clears,
            faults: Vec::new(),
        }
    }

    /// This is wrong until then.
    pub fn begin(&mut self, fault: StoreFault, until: Duration) {
        self.faults.push((fault, until));
    }

    /// What becomes of a request that is made now.
    pub fn judge(&mut self, kind: Kind, now: Duration) -> Verdict {
        self.faults.retain(|(_, until)| *until > now);
        let mut verdict = Verdict {
            there: self.between(1, 8),
            fate: Fate::Done,
            back: self.between(1, 8),
        };
        for at in 0..self.faults.len() {
            let fault = self.faults[at].0;
            self.spoil(fault, kind, &mut verdict);
        }
        let left = self.clears.saturating_sub(now).max(SHORT);
        verdict.there = verdict.there.min(left);
        verdict
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least_ms..=most_ms))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn spoil(&mut self, fault: StoreFault, kind: Kind, verdict: &mut Verdict) {
        match fault {
            StoreFault::Unavailable if self.chance(80) => {
                verdict.fate = Fate::Refused("503 Service Unavailable");
            }
            StoreFault::TooMany if self.chance(40) => {
                verdict.fate = Fate::Refused("429 Too Many Requests");
            }
            StoreFault::LostAnswers if self.chance(30) => {
                verdict.fate = Fate::Unheard;
                verdict.back = self.between(100, 3_000);
            }
            StoreFault::CutBodies if kind == Kind::Get && self.chance(30) => {
                verdict.fate = Fate::Cut(self.random.random_range(0.0..1.0));
            }
            StoreFault::SlowLists if kind == Kind::List => verdict.back = self.between(500, 6_000),
            StoreFault::Slow => {
                verdict.there = self.between(20, 400);
                verdict.back = self.between(20, 400);
            }
            StoreFault::BrownOut => match self.random.random_range(0..10) {
                0..=4 => verdict.there = self.between(10_000, 60_000),
                5..=7 => {
                    verdict.there = self.between(500, 5_000);
                    verdict.fate = Fate::Refused("503 Service Unavailable");
                }
                _ => verdict.there = self.between(500, 3_000),
            },
            _ => {}
        }
    }
}
