//! Point reads: requests grouped by page, each page fetched once, all from one snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::Range,
    sync::atomic::Ordering,
};

use bytes::Bytes;
use state_client::{KeyRequest, page::Run};

use super::{
    PageRow, PageStore,
    error::PageError,
    kv::PageKey,
    row::row_of,
    store::{Shared, within},
    view::View,
};

impl PageStore {
    /// Rows of each request, sorted by identity; delete marks included, for what is newer may lie
    /// above them. Of closed namespaces there are none.
    ///
    /// # Errors
    /// When the store cannot be read, or a key is not of this shard.
    pub async fn read(&self, requests: &[KeyRequest]) -> Result<Vec<Vec<PageRow>>, PageError> {
        let shared = &*self.shared;
        shared.config.check_keys(requests)?;
        let reading = async {
            let view = shared.view().await?;
            shared.read_at(&view, requests).await
        };
        within(shared.config.limits.deadline, "reading", reading).await
    }
}

impl Shared {
    /// Rows of each request as of the view, however old that is.
    pub(super) async fn read_at(
        &self,
        view: &View,
        requests: &[KeyRequest],
    ) -> Result<Vec<Vec<PageRow>>, PageError> {
        let wanted = view.pages_of(requests);
        let images = self.images(view, wanted.iter().flatten()).await?;
        Ok(answers(requests, &wanted, &images))
    }

    /// Images of pages, those that do not exist empty.
    async fn images<'a>(
        &self,
        view: &View,
        wanted: impl Iterator<Item = &'a PageKey>,
    ) -> Result<BTreeMap<PageKey, Run>, PageError> {
        let mut images: BTreeMap<PageKey, Run> = BTreeMap::new();
        let wanted: BTreeSet<PageKey> = wanted.copied().collect();
        if let Some(cache) = &self.cache {
            for page in &wanted {
                if let Some(image) = cache.get(&page.encode()).await {
                    images.insert(*page, image);
                }
            }
            // What is kept is as new as the last write. Rows that it moved from one page to another
            // would be in neither, if one was kept and the other is read from before.
            if !images.is_empty() && !self.is_latest(view).await {
                images.clear();
            }
        }
        let cached = images.len() as u64;
        self.counters
            .cached_pages
            .fetch_add(cached, Ordering::Relaxed);
        let missing: Vec<PageKey> = wanted
            .into_iter()
            .filter(|page| !images.contains_key(page))
            .collect();
        self.counters
            .fetched_pages
            .fetch_add(missing.len() as u64, Ordering::Relaxed);
        let at_once = self.config.limits.fetches_max;
        let fetched = view.fetch_all(missing, at_once).await?;
        if self.cache.is_some() && !fetched.is_empty() {
            let fetched = fetched.iter();
            let keep = fetched.map(|(page, image)| (page.encode(), image.clone()));
            self.keep_images(view, keep.collect()).await;
        }
        images.extend(fetched);
        Ok(images)
    }
}

impl View {
    /// The pages that each request's rows may be in, those of older rows first.
    fn pages_of(&self, requests: &[KeyRequest]) -> Vec<Vec<PageKey>> {
        let pages_of = |request: &KeyRequest| {
            let mut pages = Vec::with_capacity(2);
            let KeyRequest {
                table,
                namespace,
                hash,
                sub,
            } = *request;
            self.layout
                .pages_of(table, namespace, hash, sub, |page| pages.push(page));
            pages
        };
        requests.iter().map(pages_of).collect()
    }

    /// Rows of each request, nothing kept for others.
    pub(super) async fn read(
        &self,
        requests: &[KeyRequest],
        at_once: usize,
    ) -> Result<Vec<Vec<PageRow>>, PageError> {
        let wanted = self.pages_of(requests);
        let pages: BTreeSet<PageKey> = wanted.iter().flatten().copied().collect();
        let fetched = self.fetch_all(pages, at_once).await?;
        let images: BTreeMap<PageKey, Run> = fetched.into_iter().collect();
        Ok(answers(requests, &wanted, &images))
    }
}

/// Rows of each request out of the images of the pages that they may be in.
fn answers(
    requests: &[KeyRequest],
    wanted: &[Vec<PageKey>],
    images: &BTreeMap<PageKey, Run>,
) -> Vec<Vec<PageRow>> {
    let answer = |(request, pages): (&KeyRequest, &Vec<PageKey>)| {
        answer(request, pages.iter().map(|page| &images[page]))
    };
    requests.iter().zip(wanted).map(answer).collect()
}

pub(super) fn open_image(page: &PageKey, bytes: Bytes) -> Result<Run, PageError> {
    Run::open(bytes).map_err(|error| PageError::damaged(page, error))
}

/// A request's rows out of the images of its pages, those of older rows first.
fn answer<'a>(request: &KeyRequest, images: impl Iterator<Item = &'a Run>) -> Vec<PageRow> {
    let found: Vec<(&Run, Range<usize>)> = images
        .map(|image| (image, rows_with(image, request.hash, request.sub)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let rows = |(image, rows): &(&'a Run, Range<usize>)| {
        let image = *image;
        rows.clone()
            .map(move |row| row_of(request.namespace, image, row))
    };
    if let [one] = &found[..] {
        return rows(one).collect();
    }
    let mut newest: BTreeMap<Bytes, PageRow> = BTreeMap::new();
    for row in found.iter().flat_map(rows) {
        match newest.entry(row.identity.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(row)),
            Entry::Occupied(mut entry) if row.epoch >= entry.get().epoch => {
                entry.insert(row);
            }
            Entry::Occupied(_) => {}
        }
    }
    newest.into_values().collect()
}

/// Rows of a hash, or those of them whose identity begins with `sub`.
fn rows_with(image: &Run, hash: u64, sub: Option<u64>) -> Range<usize> {
    let of_hash = image.rows_of(hash);
    let Some(sub) = sub else {
        return of_hash;
    };
    let sub = sub.to_be_bytes();
    let (mut low, mut high) = (of_hash.start, of_hash.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if image.identity(middle) < &sub[..] {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let begins = |row: &usize| image.identity(*row).starts_with(&sub);
    low..low + (low..of_hash.end).take_while(begins).count()
}
