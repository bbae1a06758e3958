//! A plan's generator settings, checked, and what follows from them for every event: its type,
//! its time, and the ids that exist when it happens.

use std::f64::consts::TAU;

use proto::plan::{NexmarkSpec, RateShape};

use crate::random::{Field, below};

/// Ids start here, so that queries do not confuse them with small numbers.
pub(super) const FIRST_ID: u64 = 1000;
/// Ids this far beyond the newest are referred to: joins must cope with what does not exist yet.
const ID_LEAD: u64 = 10;
/// Every so many ids one is hot.
pub(super) const HOT_ID_STEP: u64 = 100;
/// Steps in which a sine's rate changes.
const SINE_STEPS: u32 = 10;

/// Types of events, in the order in which they come within an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// The generator's settings.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) spec: NexmarkSpec,
    pub(super) base_time_ms: i64,
    /// Persons, auctions and bids per epoch.
    pub(super) person: u64,
    pub(super) auction: u64,
    pub(super) bid: u64,
    pub(super) events: u64,
    wanted: [bool; 3],
    rate: Rate,
    jitter: Field,
}

/// When events happen.
#[derive(Debug)]
struct Rate {
    /// Microseconds between events, and events until the next step's delay applies.
    steps: Vec<(f64, u64)>,
    events_per_cycle: u64,
    cycle_ms: i64,
}

impl Config {
    pub(super) fn new(spec: &NexmarkSpec, fallback_base_time_ms: u64) -> Result<Config, String> {
        let (person, auction, bid) = (
            u64::from(spec.person_proportion),
            u64::from(spec.auction_proportion),
            u64::from(spec.bid_proportion),
        );
        if person + auction + bid == 0 {
            return Err("nexmark needs a proportion above 0".to_owned());
        }
        let mut wanted = [spec.event_types.is_empty(); 3];
        for event_type in &spec.event_types {
            *wanted
                .get_mut(*event_type as usize)
                .ok_or_else(|| format!("nexmark has no event type {event_type}"))? = true;
        }
        let base_time_ms = match spec.base_time_ms {
            0 => fallback_base_time_ms,
            set => set,
        };
        Ok(Config {
            rate: Rate::new(spec)?,
            base_time_ms: base_time_ms as i64,
            person,
            auction,
            bid,
            events: match spec.events {
                // No job lives to see it.
                0 => 1 << 60,
                events => events.min(1 << 60),
            },
            wanted,
            jitter: Field::new(spec.seed, 0),
            spec: spec.clone(),
        })
    }

    /// Events per epoch.
    pub(super) fn epoch_events(&self) -> u64 {
        self.person + self.auction + self.bid
    }

    /// Events per epoch that are to be made.
    pub(super) fn wanted_events(&self) -> u64 {
        let kinds = [
            (Kind::Person, self.person),
            (Kind::Auction, self.auction),
            (Kind::Bid, self.bid),
        ];
        let wanted = kinds.iter().filter(|(kind, _)| self.wants(*kind));
        wanted.map(|(_, events)| events).sum()
    }

    /// Whether events of this type are to be made.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.wanted[kind as usize]
    }

    /// Event time, in order.
    #[inline(always)]
    pub(super) fn time_in_order(&self, event: u64) -> i64 {
        // Nobody waits for an event beyond the end of time, but the search for what is due looks.
        self.base_time_ms.saturating_add(self.rate.offset_ms(event))
    }

    /// Event time as the event carries it: up to the configured time earlier.
    #[inline(always)]
    pub(super) fn time(&self, event: u64) -> i64 {
        let time = self.time_in_order(event);
        match self.spec.out_of_order_ms {
            0 => time,
            most => time - below(self.jitter.word(event), most + 1) as i64,
        }
    }

    /// Number (from 0) of the newest person when event `offset` of `epoch` happens.
    pub(super) fn newest_person(&self, epoch: u64, offset: u64) -> u64 {
        epoch * self.person + offset.min(self.person.saturating_sub(1))
    }

    /// Number (from 0) of the newest auction when event `offset` of `epoch` happens.
    pub(super) fn newest_auction(&self, epoch: u64, offset: u64) -> u64 {
        match offset.checked_sub(self.person) {
            // None in this epoch yet.
            None => (epoch * self.auction).saturating_sub(1),
            Some(nth) => epoch * self.auction + nth.min(self.auction.saturating_sub(1)),
        }
    }

    /// The oldest auction that is still bid on, and how many there are from it on.
    pub(super) fn open_auctions(&self, newest: u64) -> (u64, u64) {
        let oldest = newest.saturating_sub(u64::from(self.spec.in_flight_auctions));
        (oldest, newest - oldest + 1 + ID_LEAD)
    }

    /// The oldest active person, and how many there are from it on.
    pub(super) fn active_people(&self, newest: u64) -> (u64, u64) {
        let active = (newest + 1).min(u64::from(self.spec.active_people));
        (newest + 1 - active, active + ID_LEAD)
    }
}

impl Rate {
    fn new(spec: &NexmarkSpec) -> Result<Rate, String> {
        let (first, next) = (spec.first_event_rate, spec.next_event_rate);
        let positive = |rate: f64| rate.is_finite() && rate > 0.0;
        if !positive(first) || !positive(next) {
            return Err("nexmark's event rates must be above 0".to_owned());
        }
        let delay = |rate: f64| 1_000_000.0 / rate;
        if first == next {
            return Ok(Rate {
                steps: vec![(delay(first), u64::MAX)],
                events_per_cycle: u64::MAX,
                cycle_ms: 0,
            });
        }
        let rates: Vec<f64> = match spec.rate_shape() {
            RateShape::Sine => (0..SINE_STEPS)
                .map(|step| {
                    let angle = TAU * f64::from(step) / f64::from(SINE_STEPS);
                    f64::midpoint(first, next) + (first - next) / 2.0 * angle.cos()
                })
                .collect(),
            RateShape::Square | RateShape::Unspecified => vec![first, next],
        };
        let step_us = f64::from(spec.rate_period_s.max(1)) * 1e6 / rates.len() as f64;
        let steps: Vec<(f64, u64)> = rates
            .iter()
            .map(|rate| (delay(*rate), ((step_us / delay(*rate)) as u64).max(1)))
            .collect();
        Ok(Rate {
            events_per_cycle: steps
                .iter()
                .fold(0, |sum, step| u64::saturating_add(sum, step.1)),
            cycle_ms: steps
                .iter()
                .fold(0, |sum, step| i64::saturating_add(sum, step_ms(*step))),
            steps,
        })
    }

    #[inline(always)]
    fn offset_ms(&self, event: u64) -> i64 {
        match self.steps.as_slice() {
            [(delay, _)] => (event as i64 as f64 * delay) as i64 / 1000,
            steps => self.offset_in_cycles_ms(steps, event),
        }
    }

    fn offset_in_cycles_ms(&self, steps: &[(f64, u64)], event: u64) -> i64 {
        let cycles = (event / self.events_per_cycle) as i64;
        let mut offset_ms = cycles.saturating_mul(self.cycle_ms);
        let mut rest = event % self.events_per_cycle;
        for step in steps {
            if rest < step.1 {
                let in_step_ms = (rest as f64 * step.0) as i64 / 1000;
                offset_ms = offset_ms.saturating_add(in_step_ms);
                break;
            }
            rest -= step.1;
            offset_ms = offset_ms.saturating_add(step_ms(*step));
        }
        offset_ms
    }
}

fn step_ms((delay, events): (f64, u64)) -> i64 {
    (events as f64 * delay) as i64 / 1000
}
