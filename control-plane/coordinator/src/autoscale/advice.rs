//! What more tasks do not help against: said once when it has lasted, and kept as long as it is so.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    demand::{Bound, Need},
    figures::FragmentFigures,
    text,
};
use crate::caps::{AUTOSCALE_DOWN_WINDOWS, AUTOSCALE_UP_WINDOWS};

/// What it is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    /// It needs memory.
    Memory,
    /// One key has too many rows.
    HotKey,
    /// There may be no more tasks.
    Limit,
    /// More tasks were tried and did not help.
    Tried,
}

/// What is so now, by fragment.
#[derive(Clone, Debug, Default)]
pub(super) struct Advice(BTreeMap<(u32, Subject), Said>);

#[derive(Clone, Debug, Default)]
struct Said {
    /// Windows in a row in which it was so.
    windows: usize,
    /// Windows in a row in which it was not.
    quiet: usize,
    /// The newest words for it, once it was said.
    text: Option<String>,
}

impl Advice {
    /// All that is so, for people.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let said = self.0.values();
        said.filter_map(|said| said.text.as_deref())
    }

    /// Takes what a window says; what is to be said now and was not before.
    pub(super) fn update(&mut self, mut now: BTreeMap<(u32, Subject), String>) -> Vec<String> {
        let known: BTreeSet<(u32, Subject)> = self.0.keys().chain(now.keys()).copied().collect();
        let mut new = Vec::new();
        for key in known {
            let said = self.0.entry(key).or_default();
            let Some(text) = now.remove(&key) else {
                said.quiet += 1;
                said.windows = 0;
                if said.quiet >= AUTOSCALE_DOWN_WINDOWS {
                    self.0.remove(&key);
                }
                continue;
            };
            said.quiet = 0;
            said.windows += 1;
            let lasting = said.windows >= AUTOSCALE_UP_WINDOWS;
            if (lasting || said.text.is_some()) && said.text.replace(text.clone()).is_none() {
                new.push(text);
            }
        }
        new
    }
}

/// What more tasks do not help a fragment against, if there is something. It may have `limit`;
/// more than `ceiling` did not help.
pub(super) fn advice(
    fragment: &FragmentFigures,
    need: Need,
    limit: u32,
    ceiling: Option<u32>,
) -> Option<(Subject, String)> {
    match need.bound {
        Some(Bound::State) => return Some((Subject::Memory, text::state_bound(fragment))),
        Some(Bound::HotKey) => return Some((Subject::HotKey, text::hot_key(fragment))),
        Some(Bound::Unknown) => return None,
        None => {}
    }
    if let Some(ceiling) = ceiling.filter(|ceiling| fragment.needed > *ceiling) {
        return Some((Subject::Tried, text::tried(fragment, ceiling)));
    }
    (fragment.needed > limit).then(|| (Subject::Limit, text::limited(fragment, limit)))
}
