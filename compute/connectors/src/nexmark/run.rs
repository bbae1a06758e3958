//! Which events make the next batch: a walk over the epochs of one split that stops only at
//! wanted events.

use super::config::{Config, Kind};

/// Consecutive events of one type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) kind: Kind,
    pub(super) epoch: u64,
    /// Number of the first event, and its place in the epoch.
    pub(super) first: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Run {
    /// Numbers of the events.
    pub(super) fn events(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.length
    }
}

/// A place in a split. Split `index` of `count` has every `count`-th epoch, so that event time
/// goes on alike in all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Walk {
    pub(super) index: u64,
    pub(super) count: u64,
    /// Events before this one are done with.
    pub(super) next: u64,
}

impl Walk {
    /// Collects runs of up to `max_rows` wanted events before event `end`. Fewer only if there
    /// are no more.
    pub(super) fn advance(
        &mut self,
        config: &Config,
        end: u64,
        max_rows: u64,
        runs: &mut Vec<Run>,
    ) -> u64 {
        let per_epoch = config.epoch_events();
        let kinds = [
            (Kind::Person, 0, config.person),
            (Kind::Auction, config.person, config.person + config.auction),
            (Kind::Bid, config.person + config.auction, per_epoch),
        ];
        let mut rows = 0;
        loop {
            let epoch = self.own_epoch(self.next / per_epoch);
            let start = epoch * per_epoch;
            self.next = self.next.max(start);
            if self.next >= end {
                // The same place whatever the batches were.
                self.next = end.max(self.next);
                return rows;
            }
            for (kind, from, to) in kinds {
                let first = self.next.max(start + from);
                let last = (start + to).min(end);
                if !config.wants(kind) || first >= last {
                    continue;
                }
                if rows == max_rows {
                    return rows;
                }
                let length = (last - first).min(max_rows - rows);
                runs.push(Run {
                    kind,
                    epoch,
                    first,
                    offset: first - start,
                    length,
                });
                rows += length;
                self.next = first + length;
                if self.next < last {
                    return rows;
                }
            }
            if start + per_epoch > end {
                self.next = end;
                return rows;
            }
            self.next = self.own_epoch(epoch + 1) * per_epoch;
        }
    }

    /// The next wanted event at or after the current place, if it comes before `end`.
    pub(super) fn peek(&self, config: &Config, end: u64) -> Option<u64> {
        let mut ahead = *self;
        let mut runs = Vec::new();
        ahead.advance(config, end, 1, &mut runs);
        runs.first().map(|run| run.first)
    }

    /// The first epoch of this split at or after `epoch`.
    fn own_epoch(&self, epoch: u64) -> u64 {
        let behind = (epoch + self.count - self.index % self.count) % self.count;
        epoch + (self.count - behind) % self.count
    }
}
