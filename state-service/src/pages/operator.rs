//! The merge operator: of rows with the same identity the newest epoch wins. Knows runs, no
//! schema; associative; never panics, because a panic would close the database.

use bytes::Bytes;
use slatedb::{MergeOperator, MergeOperatorError};
use state_client::page::{Run, merge};

/// Merges runs of one page.
pub(super) struct PageMerge;

impl MergeOperator for PageMerge {
    fn merge(
        &self,
        key: &Bytes,
        existing_value: Option<Bytes>,
        value: Bytes,
    ) -> Result<Bytes, MergeOperatorError> {
        self.merge_batch(key, existing_value, &[value])
    }

    fn merge_batch(
        &self,
        key: &Bytes,
        existing_value: Option<Bytes>,
        operands: &[Bytes],
    ) -> Result<Bytes, MergeOperatorError> {
        if let (None, [operand]) = (&existing_value, operands) {
            return Ok(operand.clone());
        }
        let open = |bytes: Bytes| {
            Run::open(bytes).map_err(|error| MergeOperatorError::Callback {
                message: format!("page {key:02x?}: {error}"),
            })
        };
        let runs: Vec<Run> = existing_value
            .into_iter()
            .chain(operands.iter().cloned())
            .map(open)
            .collect::<Result<_, _>>()?;
        // An existing value alone may be an operand itself: only the flag says that nothing
        // lies below. A base among the operands cannot be: bases are put, not merged.
        let onto_base = runs.first().is_some_and(Run::is_base);
        Ok(merge(&runs, onto_base))
    }
}

#[cfg(test)]
mod tests {
    use state_client::page::{RowRef, RunBuilder};

    use super::*;

    fn run(rows: &[(u64, u64, bool)]) -> Bytes {
        let mut run = RunBuilder::default();
        for (hash, epoch, present) in rows {
            let value = present.then_some(&b"v"[..]);
            let (hash, epoch) = (*hash, *epoch);
            run.push(RowRef {
                hash,
                identity: b"",
                epoch,
                value,
            });
        }
        run.finish()
    }

    fn merged(existing: Option<Bytes>, operands: &[Bytes]) -> Run {
        let merged = PageMerge.merge_batch(&Bytes::new(), existing, operands);
        Run::open(merged.expect("runs merge")).expect("a run")
    }

    #[test]
    fn delete_marks_go_only_onto_a_base() {
        let (old, delete) = (run(&[(1, 5, true), (2, 5, true)]), run(&[(1, 7, false)]));
        let operand = merged(Some(old.clone()), std::slice::from_ref(&delete));
        assert!(!operand.is_base());
        assert_eq!(operand.len(), 2, "the delete mark stays");
        let base = merge(&[Run::open(old).expect("a run")], true);
        let base = merged(Some(base), &[delete]);
        assert!(base.is_base());
        assert_eq!(base.len(), 1);
    }

    #[test]
    fn damaged_operands_are_an_error() {
        let good = run(&[(1, 5, true)]);
        let bad = good.slice(..good.len() - 1);
        let merged = PageMerge.merge_batch(&Bytes::new(), Some(good), &[bad]);
        assert!(merged.is_err());
    }
}
