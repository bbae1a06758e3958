//! Which sessions a key has: in memory only, made again from the sessions' own rows.

use std::collections::{BTreeMap, BTreeSet};

use engine::{
    key::{KeyBatch, KeyWidth},
    operator::{Reassigned, TaskScope},
    state::KeyIndex,
};

/// Sessions by key and by end.
#[derive(Debug)]
pub(super) struct SessionIndex {
    keys: KeyIndex,
    /// By key: its sessions.
    live_of_key: Vec<u32>,
    /// (key, first time) to session.
    sessions: BTreeMap<(u32, i64), u32>,
    /// By session: its key, and when it is looked at.
    key_of: Vec<u32>,
    alarm_of: Vec<i64>,
    alarms: BTreeSet<(i64, u32)>,
}

impl SessionIndex {
    /// Of no sessions.
    pub(super) fn new(width: KeyWidth, scope: &TaskScope) -> Self {
        SessionIndex {
            keys: KeyIndex::new(width, scope.key_groups, &scope.owned, false),
            live_of_key: Vec::new(),
            sessions: BTreeMap::new(),
            key_of: Vec::new(),
            alarm_of: Vec::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// The numbers of a batch's keys.
    pub(super) fn keys(&mut self, keys: &KeyBatch, numbers: &mut Vec<u32>) {
        self.keys.find_or_insert(keys, numbers, |_| {});
        self.live_of_key.resize(self.keys.slots(), 0);
    }

    /// Forgets those of the keys that have no session.
    pub(super) fn forget_idle(&mut self, numbers: &[u32]) {
        for key in numbers {
            // A number that is met again was removed the first time: removing is idempotent
            // until the next key takes it, which is not before the next batch.
            if self.live_of_key[*key as usize] == 0 {
                self.keys.remove(*key);
            }
        }
    }

    /// Sessions of a key that start at `to` or before and of which `reaches` says that they last
    /// long enough, latest first.
    pub(super) fn touching(
        &self,
        key: u32,
        to: i64,
        reaches: impl Fn(u32) -> bool,
        found: &mut Vec<u32>,
    ) {
        found.clear();
        let earlier = self.sessions.range((key, i64::MIN)..=(key, to)).rev();
        found.extend(
            earlier
                .map(|(_, session)| *session)
                .take_while(|session| reaches(*session)),
        );
    }

    /// Adds a session that is to be looked at when time reaches `alarm`.
    pub(super) fn insert(&mut self, key: u32, first: i64, session: u32, alarm: i64) {
        self.sessions.insert((key, first), session);
        self.live_of_key[key as usize] += 1;
        let slots = session as usize + 1;
        if self.key_of.len() < slots {
            self.key_of.resize(slots, 0);
            self.alarm_of.resize(slots, 0);
        }
        self.key_of[session as usize] = key;
        self.set_alarm(session, alarm);
    }

    /// A session starts earlier than thought.
    pub(super) fn restart(&mut self, session: u32, old_first: i64, first: i64) {
        let key = self.key_of[session as usize];
        self.sessions.remove(&(key, old_first));
        self.sessions.insert((key, first), session);
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, session: u32, first: i64) {
        let key = self.key_of[session as usize];
        self.sessions.remove(&(key, first));
        self.alarms
            .remove(&(self.alarm_of[session as usize], session));
        let live = &mut self.live_of_key[key as usize];
        *live -= 1;
        if *live == 0 {
            self.keys.remove(key);
        }
    }

    /// Other key groups are the task's from now on; no session of those that left is there any more.
    pub(super) fn reassign(&mut self, change: &Reassigned) {
        for key in self.keys.slots_of(&change.left) {
            self.keys.remove(key);
        }
        self.keys.reassign(&change.left, &change.came);
    }

    /// A session to be looked at, if time is at `now`; its alarm is off.
    pub(super) fn due(&mut self, now: i64) -> Option<u32> {
        let first = self.alarms.first().filter(|(alarm, _)| *alarm <= now)?;
        let session = first.1;
        self.alarms.pop_first();
        Some(session)
    }

    /// When to look at the first session.
    pub(super) fn first_alarm(&self) -> Option<i64> {
        self.alarms.first().map(|(alarm, _)| *alarm)
    }

    /// When to look at a session.
    pub(super) fn set_alarm(&mut self, session: u32, alarm: i64) {
        self.alarm_of[session as usize] = alarm;
        self.alarms.insert((alarm, session));
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        // A node of a B-tree is two thirds full.
        self.keys.memory()
            + self.sessions.len() * 36
            + self.alarms.len() * 24
            + self.key_of.capacity() * 12
    }
}
