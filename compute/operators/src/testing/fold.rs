//! What a changelog amounts to.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use engine::Element;
use proto::types::RowKind;

use super::text::row_texts;

/// How to fold a changelog.
#[derive(Clone, Debug)]
pub enum Fold {
    /// `+I`, `+U` add a copy, `-U`, `-D` take one away.
    Retract,
    /// By a key: `+I`, `+U` set its row, `-D` removes it, `-U` says nothing.
    Upsert(Vec<usize>),
}

/// Rows and how many copies there are of each.
pub type Folded = BTreeMap<String, i64>;

impl Fold {
    /// Folds the batches among `elements`.
    ///
    /// # Panics
    /// When a changelog takes away what is not there.
    #[must_use]
    pub fn fold(&self, elements: &[Element]) -> Folded {
        let mut copies: Folded = BTreeMap::new();
        let mut by_key: BTreeMap<String, String> = BTreeMap::new();
        for element in elements {
            let Element::Batch(batch) = element else {
                continue;
            };
            let texts = row_texts(&batch.rows);
            match self {
                Fold::Retract => {
                    for (row, text) in texts.into_iter().enumerate() {
                        let step = if batch.kind(row).is_add() { 1 } else { -1 };
                        let count = copies.entry(text.clone()).or_default();
                        *count += step;
                        assert!(*count >= 0, "`{text}` is taken away before it is there");
                    }
                }
                Fold::Upsert(key) => {
                    let keys: RecordBatch = batch.rows.project(key).expect("key columns");
                    let keys = row_texts(&keys);
                    for (row, (key, text)) in keys.into_iter().zip(texts).enumerate() {
                        match batch.kind(row) {
                            RowKind::Insert | RowKind::UpdateAfter => {
                                by_key.insert(key, text);
                            }
                            RowKind::Delete => {
                                by_key.remove(&key);
                            }
                            RowKind::UpdateBefore => {}
                        }
                    }
                }
            }
        }
        for text in by_key.into_values() {
            *copies.entry(text).or_default() += 1;
        }
        copies.retain(|_, count| *count != 0);
        copies
    }
}
