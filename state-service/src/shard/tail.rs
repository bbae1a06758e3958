//! The tail: committed rows that no flush has taken yet. Taking a section in costs a step per block,
//! none per row.

use std::{collections::BTreeMap, sync::Arc};

use proto::types::{Epoch, KeyGroup, TableId};
use state_client::{
    Section, SectionError,
    page::{Run, RunError},
};

use super::runs::Runs;

/// First open namespaces.
pub(super) type Marks = BTreeMap<(KeyGroup, TableId), i64>;

/// Committed rows of some epochs.
#[derive(Default, Debug)]
pub(super) struct Tail {
    groups: BTreeMap<(KeyGroup, TableId), BTreeMap<i64, Arc<Runs>>>,
    /// First open namespaces that moved.
    moved: Marks,
    bytes: usize,
    /// The first and the last epoch that it has sections of.
    epochs: Option<(Epoch, Epoch)>,
    /// Commits that the shard had heard of before the first of these.
    commits_before: u64,
}

/// What lies over the pages, and from where on namespaces are open.
pub(super) struct Layers<'a> {
    pub(super) marks: &'a Marks,
    /// Older ones first.
    pub(super) tails: Vec<&'a Tail>,
}

/// A section, its runs opened.
#[derive(Debug)]
pub(super) struct OpenSection {
    blocks: Vec<(KeyGroup, TableId, i64, Run)>,
    marks: Vec<(KeyGroup, TableId, i64)>,
}

impl OpenSection {
    pub(super) fn new(section: &Section) -> Result<Self, SectionError> {
        let open = |block: &state_client::Block| -> Result<_, RunError> {
            let run = Run::open(block.run.clone())?;
            Ok((block.key_group, block.table, block.namespace, run))
        };
        let blocks: Result<_, RunError> = section.blocks.iter().map(open).collect();
        let mark = |(table, key_group, open_from): &_| (*key_group, *table, *open_from);
        Ok(OpenSection {
            blocks: blocks?,
            marks: section.low_water_marks.iter().map(mark).collect(),
        })
    }
}

impl Tail {
    /// Takes in all sections of one epoch; `marks` are those of the shard.
    pub(super) fn apply(
        &mut self,
        epoch: Epoch,
        commits: u64,
        sections: Vec<OpenSection>,
        marks: &mut Marks,
    ) {
        match &mut self.epochs {
            Some((_, last)) => *last = epoch,
            None => {
                self.epochs = Some((epoch, epoch));
                self.commits_before = commits;
            }
        }
        let mut closed = Vec::new();
        for section in sections {
            for (key_group, table, namespace, run) in section.blocks {
                self.push(key_group, table, namespace, run, marks);
            }
            closed.extend(section.marks);
        }
        for (key_group, table, open_from) in closed {
            self.close(key_group, table, open_from, marks);
        }
    }

    fn push(
        &mut self,
        key_group: KeyGroup,
        table: TableId,
        namespace: i64,
        run: Run,
        marks: &Marks,
    ) {
        let of_group = (key_group, table);
        let closed = marks.get(&of_group).is_some_and(|mark| namespace < *mark);
        if closed || run.is_empty() {
            return;
        }
        self.bytes += run.encoded_len();
        let namespaces = self.groups.entry(of_group).or_default();
        match namespaces.get_mut(&namespace) {
            None => drop(namespaces.insert(namespace, Arc::new(Runs::new(run)))),
            Some(runs) => match Arc::get_mut(runs) {
                Some(runs) => runs.push(run),
                None => *runs = Arc::new(runs.with(run)),
            },
        }
    }

    fn close(&mut self, key_group: KeyGroup, table: TableId, open_from: i64, marks: &mut Marks) {
        let of_group = (key_group, table);
        let mark = marks.entry(of_group).or_insert(i64::MIN);
        if open_from <= *mark {
            return;
        }
        *mark = open_from;
        self.moved.insert(of_group, open_from);
        if let Some(namespaces) = self.groups.get_mut(&of_group) {
            let open = namespaces.split_off(&open_from);
            let closed = std::mem::replace(namespaces, open);
            let bytes: usize = closed.values().map(|runs| runs.bytes()).sum();
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// Runs of one namespace.
    pub(super) fn runs(
        &self,
        key_group: KeyGroup,
        table: TableId,
        namespace: i64,
    ) -> Option<&Arc<Runs>> {
        self.groups.get(&(key_group, table))?.get(&namespace)
    }

    /// Namespaces of a table in a key group, from `from` on.
    pub(super) fn namespaces(
        &self,
        key_group: KeyGroup,
        table: TableId,
        from: i64,
    ) -> impl Iterator<Item = (i64, &Arc<Runs>)> {
        let namespaces = self.groups.get(&(key_group, table));
        let from_there = namespaces.map(|namespaces| namespaces.range(from..));
        from_there
            .into_iter()
            .flatten()
            .map(|(at, runs)| (*at, runs))
    }

    /// Everything, in (key group, table, namespace) order.
    pub(super) fn all(&self) -> impl Iterator<Item = (KeyGroup, TableId, i64, &Arc<Runs>)> {
        self.groups
            .iter()
            .flat_map(|((key_group, table), namespaces)| {
                let namespaces = namespaces.iter();
                namespaces.map(|(namespace, runs)| (*key_group, *table, *namespace, runs))
            })
    }

    /// First open namespaces that moved.
    pub(super) fn moved(&self) -> impl Iterator<Item = (TableId, KeyGroup, i64)> {
        let mark = |(of_group, mark): (&(KeyGroup, TableId), &i64)| (of_group.1, of_group.0, *mark);
        self.moved.iter().map(mark)
    }

    /// Bytes of rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// First and last epoch that it has sections of; `None`: it has none.
    pub(super) fn epochs(&self) -> Option<(Epoch, Epoch)> {
        self.epochs
    }

    /// How many commits ago its first section was.
    pub(super) fn age(&self, commits: u64) -> u64 {
        match self.epochs {
            Some(_) => commits - self.commits_before,
            None => 0,
        }
    }
}
