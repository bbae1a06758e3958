//! Where the rows of a shard lie: depths of pages, hot keys, closed namespaces. Pure: from a
//! layout and a row follows its page. What is in SlateDB's records is loaded into one layout;
//! readers take it together with a snapshot.

use std::collections::BTreeMap;

use proto::types::{KeyGroup, TableId};

use super::kv::{DepthRecord, HOT_DEPTH, HotKey, HotSlot, LowWaterMarkRecord, PageKey, ShardScope};

/// Depths of the pages of a (table, namespace).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Depths {
    pub(super) min: u8,
    pub(super) max: u8,
}

/// Where the rows of a shard lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) scope: ShardScope,
    pub(super) depths: BTreeMap<(TableId, i64), Depths>,
    pub(super) hot: BTreeMap<HotSlot, HotKey>,
    pub(super) marks: BTreeMap<(TableId, KeyGroup), i64>,
}

impl Layout {
    pub(super) fn new(scope: ShardScope) -> Self {
        Layout {
            scope,
            depths: BTreeMap::new(),
            hot: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }

    pub(super) fn set_depths(&mut self, record: &DepthRecord) {
        let (min, max) = (record.min, record.max);
        self.depths
            .insert((record.table, record.namespace), Depths { min, max });
    }

    pub(super) fn set_mark(&mut self, record: &LowWaterMarkRecord) {
        let mark = self.marks.entry((record.table, record.key_group));
        let mark = mark.or_insert(i64::MIN);
        *mark = (*mark).max(record.open_from);
    }

    /// The hash bits below the key group's, those beyond `depth` zero.
    pub(super) fn prefix(&self, hash: u64, depth: u8) -> u32 {
        let bits = (hash << self.scope.bits() >> 32) as u32;
        bits & mask(depth)
    }

    /// One past the greatest hash of the page of `hash` at `depth`; `None`: the greatest there is.
    pub(super) fn end_hash(&self, hash: u64, depth: u8) -> Option<u64> {
        let bits = self.scope.bits() + u32::from(depth);
        if bits == 0 {
            return None;
        }
        let page = hash >> (64 - bits);
        (page + 1).checked_mul(1 << (64 - bits))
    }

    pub(super) fn depths_of(&self, table: TableId, namespace: i64) -> Option<Depths> {
        self.depths.get(&(table, namespace)).copied()
    }

    /// First open namespace.
    pub(super) fn open_from(&self, table: TableId, key_group: KeyGroup) -> i64 {
        let mark = self.marks.get(&(table, key_group)).copied();
        mark.unwrap_or(i64::MIN)
    }

    pub(super) fn is_closed(&self, table: TableId, key_group: KeyGroup, namespace: i64) -> bool {
        namespace < self.open_from(table, key_group)
    }

    pub(super) fn hot_slot(&self, table: TableId, namespace: i64, hash: u64) -> HotSlot {
        HotSlot {
            key_group: self.scope.key_groups.of_hash(hash),
            table,
            namespace,
            prefix: self.prefix(hash, 32),
        }
    }

    /// The chunks of a key, if it is hot.
    pub(super) fn hot(
        &self,
        table: TableId,
        namespace: i64,
        hash: u64,
    ) -> Option<(HotSlot, HotKey)> {
        if self.hot.is_empty() {
            return None;
        }
        let slot = self.hot_slot(table, namespace, hash);
        let hot = self.hot.get(&slot)?;
        (hot.hash == hash).then_some((slot, *hot))
    }

    /// Hot keys of a page's part of the hashes, in hash order.
    pub(super) fn hot_between(
        &self,
        first: PageKey,
        last_prefix: u32,
    ) -> impl Iterator<Item = (&HotSlot, &HotKey)> {
        let slot = |prefix| HotSlot {
            key_group: first.key_group,
            table: first.table,
            namespace: first.namespace,
            prefix,
        };
        self.hot.range(slot(first.prefix)..=slot(last_prefix))
    }

    /// All pages that may hold rows of a key, those of older rows first; of a hot key the chunk
    /// of rows that begin with `sub`, or all.
    pub(super) fn pages_of(
        &self,
        table: TableId,
        namespace: i64,
        hash: u64,
        sub: Option<u64>,
        mut page: impl FnMut(PageKey),
    ) {
        let key_group = self.scope.key_groups.of_hash(hash);
        let Some(depths) = self.depths_of(table, namespace) else {
            return;
        };
        if self.is_closed(table, key_group, namespace) {
            return;
        }
        let mut at = |depth| {
            page(PageKey {
                prefix: self.prefix(hash, depth),
                ..PageKey::first(key_group, table, namespace, depth)
            });
        };
        at(depths.min);
        if depths.max != depths.min {
            at(depths.max);
        }
        if let Some((slot, hot)) = self.hot(table, namespace, hash) {
            match sub {
                Some(sub) => page(slot.page(hot.chunk_of(sub))),
                None => hot.chunks().for_each(|chunk| page(slot.page(chunk))),
            }
        }
    }

    /// Whether no older rows of a page's keys lie in any other page.
    pub(super) fn is_lowest(&self, page: &PageKey) -> bool {
        let depths = self.depths_of(page.table, page.namespace);
        page.depth == HOT_DEPTH || depths.is_some_and(|depths| depths.min == page.depth)
    }

    /// Forgets what is known of closed namespaces; returns those whose records may go.
    pub(super) fn forget_closed(&mut self) -> (Vec<(TableId, i64)>, Vec<HotSlot>) {
        let mut tables: BTreeMap<TableId, (usize, i64)> = BTreeMap::new();
        for ((table, _), mark) in &self.marks {
            let closed = tables.entry(*table).or_insert((0, i64::MAX));
            *closed = (closed.0 + 1, closed.1.min(*mark));
        }
        // A key group without a mark has all its namespaces open.
        let groups = self.scope.range.len();
        tables.retain(|_, (marked, _)| *marked == groups);
        let depths = (self.depths.keys())
            .filter(|(table, namespace)| {
                (tables.get(table)).is_some_and(|(_, open_from)| namespace < open_from)
            })
            .copied()
            .collect::<Vec<_>>();
        let hot = (self.hot.keys())
            .filter(|slot| self.is_closed(slot.table, slot.key_group, slot.namespace))
            .copied()
            .collect::<Vec<_>>();
        for key in &depths {
            self.depths.remove(key);
        }
        for slot in &hot {
            self.hot.remove(slot);
        }
        (depths, hot)
    }
}

/// The top `depth` bits.
pub(super) fn mask(depth: u8) -> u32 {
    match depth {
        0 => 0,
        depth => u32::MAX << (32 - u32::from(depth.min(32))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::types::KeyGroupCount;

    use super::*;

    fn layout(groups: u32) -> Layout {
        let key_groups = KeyGroupCount::new(groups).expect("a power of two");
        Layout::new(ShardScope {
            key_groups,
            range: key_groups.range(0, 1),
        })
    }

    proptest! {
        #[test]
        fn a_page_ends_where_the_next_begins(
            hash in any::<u64>(), depth in 0..=32_u8, bits in 0..=15_u32,
        ) {
            let layout = layout(1 << bits);
            let group = layout.scope.key_groups.of_hash(hash);
            if let Some(end) = layout.end_hash(hash, depth) {
                prop_assert!(hash < end);
                let same = layout.scope.key_groups.of_hash(end) == group
                    && layout.prefix(end, depth) == layout.prefix(hash, depth);
                prop_assert!(!same);
                prop_assert_eq!(layout.prefix(end - 1, depth), layout.prefix(hash, depth));
                prop_assert_eq!(layout.scope.key_groups.of_hash(end - 1), group);
            } else {
                prop_assert_eq!(layout.prefix(u64::MAX, depth), layout.prefix(hash, depth));
            }
        }
    }

    #[test]
    fn a_namespace_is_forgotten_when_every_key_group_closed_it() {
        let mut layout = layout(2);
        for namespace in [1, 2, 3] {
            let (min, max) = (0, 0);
            let table = TableId(1);
            layout.set_depths(&DepthRecord {
                table,
                namespace,
                min,
                max,
            });
        }
        let mark = |key_group, open_from| LowWaterMarkRecord {
            table: TableId(1),
            key_group: KeyGroup(key_group),
            open_from,
        };
        layout.set_mark(&mark(0, 3));
        assert_eq!(layout.forget_closed().0, []);
        layout.set_mark(&mark(1, 2));
        layout.set_mark(&mark(1, 1));
        assert_eq!(layout.forget_closed().0, [(TableId(1), 1)]);
        assert!(layout.is_closed(TableId(1), KeyGroup(0), 2));
        assert!(!layout.is_closed(TableId(1), KeyGroup(1), 2));
    }
}
