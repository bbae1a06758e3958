//! Who owns key groups: sets of them, and maps from key group to task.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{KeyGroup, KeyGroupCount};

/// Some of a job's key groups. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyGroupSet {
    /// A bit per key group.
    words: Arc<[u64]>,
    len: u32,
}

impl KeyGroupSet {
    /// All of them.
    #[must_use]
    pub fn all(groups: KeyGroupCount) -> KeyGroupSet {
        groups.iter().collect()
    }

    /// Whether `group` is among them.
    #[inline]
    #[must_use]
    pub fn contains(&self, group: KeyGroup) -> bool {
        let word = self.words.get(usize::from(group.0) / 64);
        word.is_some_and(|word| word >> (group.0 % 64) & 1 == 1)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key groups, in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyGroup> + '_ {
        let words = (0_u16..).zip(self.words.iter().copied());
        words.flat_map(|(at, word)| {
            let set = (0..64).filter(move |bit| word >> bit & 1 == 1);
            set.map(move |bit| KeyGroup(at * 64 + bit))
        })
    }

    /// Those that `other` does not have.
    #[must_use]
    pub fn minus(&self, other: &KeyGroupSet) -> KeyGroupSet {
        self.iter()
            .filter(|group| !other.contains(*group))
            .collect()
    }
}

impl FromIterator<KeyGroup> for KeyGroupSet {
    fn from_iter<I: IntoIterator<Item = KeyGroup>>(groups: I) -> KeyGroupSet {
        let mut words: Vec<u64> = Vec::new();
        let mut len = 0;
        for group in groups {
            let at = usize::from(group.0) / 64;
            if words.len() <= at {
                words.resize(at + 1, 0);
            }
            let bit = 1 << (group.0 % 64);
            len += u32::from(words[at] & bit == 0);
            words[at] |= bit;
        }
        let words = words.into();
        KeyGroupSet { words, len }
    }
}

impl fmt::Debug for KeyGroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key groups", self.len)
    }
}

/// Which task of a fragment owns each key group. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "Runs", try_from = "Runs")]
pub struct KeyGroupMap {
    /// By key group: index of the task.
    owners: Arc<[u32]>,
    tasks: u32,
}

/// A [`KeyGroupMap`] as it is written: neighbours mostly belong to one task.
#[derive(Serialize, Deserialize)]
struct Runs {
    tasks: u32,
    /// (index of the task, number of key groups)
    runs: Vec<(u32, u32)>,
}

impl KeyGroupMap {
    /// Each of `tasks` tasks owns a range; ranges differ in size by at most one.
    #[must_use]
    pub fn even(groups: KeyGroupCount, tasks: u32) -> KeyGroupMap {
        let (count, tasks) = (u64::from(groups.count()), tasks.max(1));
        let owner = |group: u64| (((group + 1) * u64::from(tasks) - 1) / count) as u32;
        KeyGroupMap {
            owners: (0..count).map(owner).collect(),
            tasks,
        }
    }

    /// As even as it can be over another number of tasks, and no key group moves without need.
    #[must_use]
    pub fn rescaled(&self, tasks: u32) -> KeyGroupMap {
        let tasks = tasks.max(1);
        let groups = self.owners.len() as u32;
        let mut sizes = vec![0_u32; tasks as usize];
        for owner in self.owners.iter().filter(|owner| **owner < tasks) {
            sizes[*owner as usize] += 1;
        }
        // Those that have most may keep the one more that does not go round.
        let mut by_size: Vec<u32> = (0..tasks).collect();
        by_size.sort_by_key(|task| std::cmp::Reverse(sizes[*task as usize]));
        let mut room = vec![groups / tasks; tasks as usize];
        for task in by_size.into_iter().take((groups % tasks) as usize) {
            room[task as usize] += 1;
        }
        let mut owners = self.owners.to_vec();
        let mut homeless = Vec::new();
        for (group, owner) in owners.iter().enumerate() {
            match room.get_mut(*owner as usize) {
                Some(room) if *room > 0 => *room -= 1,
                _ => homeless.push(group),
            }
        }
        let free = (0..).zip(&room);
        let free = free.flat_map(|(task, room)| std::iter::repeat_n(task, *room as usize));
        for (group, task) in homeless.into_iter().zip(free) {
            owners[group] = task;
        }
        KeyGroupMap {
            owners: owners.into(),
            tasks,
        }
    }

    /// The task that owns a key group.
    #[inline]
    #[must_use]
    pub fn owner(&self, group: KeyGroup) -> u32 {
        self.owners[usize::from(group.0)]
    }

    /// Number of tasks.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.tasks
    }

    /// The key groups of a task.
    #[must_use]
    pub fn owned_by(&self, task: u32) -> KeyGroupSet {
        let owners = (0_u16..).zip(self.owners.iter());
        let of_task = owners.filter(|(_, owner)| **owner == task);
        of_task.map(|(group, _)| KeyGroup(group)).collect()
    }

    /// How many key groups another map gives to other tasks.
    #[must_use]
    pub fn moved(&self, other: &KeyGroupMap) -> usize {
        let pairs = self.owners.iter().zip(other.owners.iter());
        pairs.filter(|(before, after)| before != after).count()
    }
}

impl From<KeyGroupMap> for Runs {
    fn from(map: KeyGroupMap) -> Runs {
        let runs = map.owners.chunk_by(|a, b| a == b);
        Runs {
            tasks: map.tasks,
            runs: runs.map(|run| (run[0], run.len() as u32)).collect(),
        }
    }
}

impl TryFrom<Runs> for KeyGroupMap {
    type Error = String;

    fn try_from(runs: Runs) -> Result<KeyGroupMap, String> {
        let tasks = runs.tasks;
        let count: u64 = runs.runs.iter().map(|(_, length)| u64::from(*length)).sum();
        let groups = u32::try_from(count).ok().and_then(KeyGroupCount::new);
        groups.ok_or_else(|| format!("{count} key groups are not a power of two up to 32768"))?;
        if let Some((task, _)) = runs.runs.iter().find(|(task, _)| *task >= tasks) {
            return Err(format!("task {task} of {tasks} owns key groups"));
        }
        let runs = runs.runs.into_iter();
        let owners = runs.flat_map(|(task, length)| std::iter::repeat_n(task, length as usize));
        Ok(KeyGroupMap {
            owners: owners.collect(),
            tasks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(map: &KeyGroupMap) -> Vec<usize> {
        (0..map.tasks())
            .map(|task| map.owned_by(task).len())
            .collect()
    }

    #[test]
    fn even_maps_are_ranges() {
        let map = KeyGroupMap::even(KeyGroupCount::DEFAULT, 3);
        assert_eq!(sizes(&map), [85, 85, 86]);
        let json = serde_json::to_string(&map).expect("json");
        assert_eq!(json, r#"{"tasks":3,"runs":[[0,85],[1,85],[2,86]]}"#);
        assert_eq!(
            serde_json::from_str::<KeyGroupMap>(&json).expect("a map"),
            map
        );
        for json in [
            r#"{"tasks":1,"runs":[[0,3]]}"#,
            r#"{"tasks":1,"runs":[[1,4]]}"#,
        ] {
            assert!(serde_json::from_str::<KeyGroupMap>(json).is_err(), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn rescaling_is_even_and_moves_no_more_than_it_must(
            steps in proptest::collection::vec(1_u32..40, 1..6),
        ) {
            let mut map = KeyGroupMap::even(KeyGroupCount::DEFAULT, 1);
            for tasks in steps {
                let next = map.rescaled(tasks);
                let (before, after) = (sizes(&map), sizes(&next));
                proptest::prop_assert_eq!(after.iter().sum::<usize>(), 256);
                let (least, most) = (after.iter().min(), after.iter().max());
                proptest::prop_assert!(most.zip(least).is_some_and(|(m, l)| m - l <= 1));
                // Only what a task has too much of moves, and all of a task that goes.
                let surplus = |(task, size): (usize, &usize)| {
                    size.saturating_sub(after.get(task).copied().unwrap_or_default())
                };
                let must: usize = before.iter().enumerate().map(surplus).sum();
                proptest::prop_assert_eq!(map.moved(&next), must);
                map = next;
            }
        }
    }

    #[test]
    fn sets_are_what_was_put_in() {
        let groups: Vec<KeyGroup> = [0, 63, 64, 300].map(KeyGroup).into();
        let set: KeyGroupSet = groups.iter().copied().chain([KeyGroup(0)]).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), groups);
        assert_eq!(set.len(), 4);
        assert!(set.contains(KeyGroup(64)) && !set.contains(KeyGroup(65)));
        assert!(!set.contains(KeyGroup(30_000)));
        let rest = set.minus(&[KeyGroup(63)].into_iter().collect());
        assert_eq!(rest.len(), 3);
        assert_eq!(KeyGroupSet::all(KeyGroupCount::DEFAULT).len(), 256);
    }
}
