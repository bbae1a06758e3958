//! Rows of a join that go by times of their own: when the watermark is at such a time, no row of the
//! other side can come any more that meets the row, and it goes without a word.
//!
//! Both sides only grow otherwise, so nothing that was put out depends on a row that goes. But whether
//! a row of an outer side has met others is counted from those that are there, whenever its key is read
//! again: the rows that it may have met stay as long as it does. Late rows meet what is still there.
//! (Where a condition bounds how long a row is of use: Srivastava and Widom, "Flexible Time Management
//! in Data Stream Systems", PODS 2004; "punctuations" of Tucker et al., TKDE 2003.)

use engine::{
    ChangeBatch, TIMESTAMP_MAX, TIMESTAMP_MIN, Timestamp,
    key::KeyBatch,
    operator::OperatorError,
    state::{NO_SLOT, StateTtl, TimeDomain, Ttl},
};
use proto::{plan, types::Field};

use super::{
    expire::Ages,
    shape::{LEFT, RIGHT},
    state::JoinState,
    updating::JoinOperator,
};
use crate::{CompiledExpr, EvalContext, rows::milliseconds};

/// Rows go a 64th of this late, in milliseconds of event time.
const SPAN_MS: i64 = 64_000;

/// The times of a side's rows.
#[derive(Debug)]
pub(super) struct Until {
    /// And milliseconds to add.
    times: Vec<(CompiledExpr, i64)>,
}

impl Until {
    /// `None`: rows stay.
    pub(super) fn compile(
        times: &[plan::RowTime],
        input: &[Field],
    ) -> Result<Option<Until>, OperatorError> {
        let compile = |time: &plan::RowTime| {
            let expr = time.time.as_ref().ok_or_else(|| {
                OperatorError::Plan("a time of a join's rows is not given".to_owned())
            })?;
            let expr = CompiledExpr::compile(expr, input)
                .map_err(|error| OperatorError::Plan(error.to_string()))?;
            Ok::<_, OperatorError>((expr, time.plus_ms))
        };
        let times: Vec<_> = times.iter().map(compile).collect::<Result<_, _>>()?;
        Ok((!times.is_empty()).then_some(Until { times }))
    }

    /// Per row: when it goes; [`TIMESTAMP_MIN`]: it meets nothing at all.
    fn of(&self, rows: &ChangeBatch, eval: &EvalContext) -> Result<Vec<Timestamp>, OperatorError> {
        let mut least = vec![Timestamp::MAX; rows.num_rows()];
        for (expr, plus_ms) in &self.times {
            let times = expr
                .evaluate(&rows.rows, eval)
                .map_err(|error| OperatorError::Evaluate(error.to_string()))?;
            for (least, time) in least.iter_mut().zip(milliseconds(&times)?.iter()) {
                *least = (*least).min(match *time {
                    TIMESTAMP_MIN => TIMESTAMP_MIN,
                    time => time.saturating_add(*plus_ms).max(TIMESTAMP_MIN + 1),
                });
            }
        }
        Ok(least)
    }
}

/// How long rows of each side live, after their own times where they have such.
pub(super) fn lifetimes(
    until: &[Option<Until>; 2],
    append_only: [bool; 2],
    ttl: &StateTtl,
) -> Result<[Option<Ttl>; 2], OperatorError> {
    let by_age = [LEFT, RIGHT].map(|side| ttl.of_input(side));
    if until.iter().all(Option::is_none) {
        return Ok(by_age);
    }
    if append_only != [true; 2] || by_age.iter().any(Option::is_some) {
        let message = "rows of a join go by times of their own though they are taken back or age";
        return Err(OperatorError::Plan(message.to_owned()));
    }
    Ok(at_their_times(until))
}

fn at_their_times(until: &[Option<Until>; 2]) -> [Option<Ttl>; 2] {
    let ttl = Ttl {
        ms: 0,
        domain: TimeDomain::Event,
    };
    until.each_ref().map(|until| until.as_ref().map(|_| ttl))
}

/// When rows with such times go.
pub(super) fn ages(until: &[Option<Until>; 2]) -> Option<Ages> {
    let has_any = until.iter().any(Option::is_some);
    has_any.then(|| Ages::within(at_their_times(until), SPAN_MS))
}

/// When the first and the last row of a key's side go.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Timestamp,
    last: Timestamp,
}

impl Span {
    const EMPTY: Span = Span {
        first: Timestamp::MAX,
        last: TIMESTAMP_MIN,
    };
}

impl JoinState {
    /// Takes away the rows of a key that meet nothing any more. `tracks`: whether it is known, per side,
    /// how many rows one has met. The rest is due again when something of it may go.
    fn let_go(&mut self, key_slot: u32, tracks: [bool; 2]) {
        let spans = [LEFT, RIGHT].map(|side| self.span(key_slot, side));
        let Some(ages) = &mut self.ages else {
            return;
        };
        let now = ages.now();
        let heads = &mut self.heads[key_slot as usize];
        let mut next = Timestamp::MAX;
        for side in [LEFT, RIGHT] {
            let (own, other) = (spans[side], spans[1 - side]);
            // Both go at once where each holds the other.
            let holds_other = tracks[side];
            let other_goes = other.last <= now && (!holds_other || own.last <= now);
            if tracks[1 - side] && heads[1 - side] != NO_SLOT && !other_goes {
                let last = if holds_other { own.last } else { own.first };
                next = next.min(last.max(other.last));
                continue;
            }
            let Some(ttl) = ages.ttl[side] else {
                continue;
            };
            let mut slot = heads[side];
            while slot != NO_SLOT {
                let after = self.sides[side].next(slot);
                let due = ttl.due(self.sides[side].rows.stamp(slot));
                if due <= now {
                    self.sides[side].unlink(slot, &mut heads[side]);
                    self.sides[side].rows.remove(slot);
                } else {
                    next = next.min(due);
                }
                slot = after;
            }
        }
        ages.slots.set(key_slot, next);
        self.index.touch(key_slot);
        if *heads == [NO_SLOT; 2] {
            self.forget_best(key_slot);
            self.index.remove(key_slot);
        }
    }

    fn span(&self, key_slot: u32, side: usize) -> Span {
        let ttl = self.ages.as_ref().and_then(|ages| ages.ttl[side]);
        let (mut span, mut slot) = (Span::EMPTY, self.head(key_slot, side));
        while slot != NO_SLOT {
            let stamp = || self.sides[side].rows.stamp(slot);
            let due = ttl.map_or(Timestamp::MAX, |ttl| ttl.due(stamp()));
            span.first = span.first.min(due);
            span.last = span.last.max(due);
            slot = self.sides[side].next(slot);
        }
        span
    }
}

impl JoinOperator {
    /// Whether rows go by times of their own.
    pub(super) fn goes_by_time(&self) -> bool {
        self.until.iter().any(Option::is_some)
    }

    /// When the rows of a batch go; `None`: they stay.
    pub(super) fn until_of(
        &self,
        side: usize,
        batch: &ChangeBatch,
    ) -> Result<Option<Vec<Timestamp>>, OperatorError> {
        let until = self.until[side].as_ref();
        until.map(|until| until.of(batch, &self.eval)).transpose()
    }

    /// Whether a row that comes need not be kept: none is to come that it meets, and no row that is
    /// there counts it.
    pub(super) fn is_over(
        &self,
        side: usize,
        until: Timestamp,
        (keys, row): (&KeyBatch, usize),
    ) -> bool {
        let now = self.state.ages.as_ref().map_or(TIMESTAMP_MIN, Ages::now);
        if now == TIMESTAMP_MIN || until > now {
            return false;
        }
        let is_counted = || {
            let index = &self.state.index;
            let key_slot = index.find_row(&keys.keys, row, keys.hashes[row]);
            key_slot != NO_SLOT && self.state.head(key_slot, 1 - side) != NO_SLOT
        };
        !self.shape.tracks(1 - side) || !is_counted()
    }

    /// Lets go what is due of about `keys_max` keys; `true`: there may be more. No pair may be on its way.
    pub(super) fn let_go(&mut self, keys_max: usize) -> bool {
        let tracks = [LEFT, RIGHT].map(|side| self.shape.tracks(side));
        let Some(ages) = &mut self.state.ages else {
            return false;
        };
        let (now, mut due) = (ages.now(), Vec::new());
        // With the end of the input all would go, row by row, when the state is as good as gone already.
        if now == TIMESTAMP_MAX {
            return false;
        }
        let more = ages.slots.take_due(now, keys_max, &mut due);
        for key_slot in due {
            if !self.state.index.holds(key_slot) {
                continue;
            }
            let hash = self.state.index.hash(key_slot);
            // The other side may come yet: looked at again when it has.
            if !self.half_loaded.contains_key(&hash) {
                self.state.let_go(key_slot, tracks);
            }
        }
        more
    }

    /// A key is there as a whole: what of it went by while it was not is due.
    pub(super) fn queue_loaded(&mut self, key_slot: u32) {
        let spans = [LEFT, RIGHT].map(|side| self.state.span(key_slot, side));
        if let Some(ages) = &mut self.state.ages {
            let first = spans[LEFT].first.min(spans[RIGHT].first);
            ages.slots.set(key_slot, first);
        }
    }
}

/// What is looked at how often.
pub(super) const LOOKS: Ttl = Ttl {
    ms: SPAN_MS,
    domain: TimeDomain::Event,
};
