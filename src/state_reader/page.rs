//! Which rows an answer has: those of one key, or the next ones of a scan, until there are enough or it
//! has looked at so much that the client had better ask again.

use std::time::Duration;

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take_record_batch,
};
use bytes::Bytes;
use compute::state_view::{Piece, StateSource, TableView};
use control_plane::{
    api::{StateOf, StateQueryError, StateRows},
    results::ResultRow,
};
use engine::ChangeBatch;
use operators::inspect::InspectedTable;
use proto::types::KeyGroup;
use serde::{Deserialize, Serialize};
use state_client::LoadedRow;
use tokio::time::Instant;

use super::{hex, next_group, view_error};

/// How long an answer may look for rows that match.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A question.
pub(super) struct Page<'a> {
    pub(super) of: &'a StateOf,
    pub(super) source: StateSource<'a>,
    pub(super) table: &'a InspectedTable,
    /// The first columns of the key, or all.
    pub(super) key: &'a [ArrayRef],
    pub(super) is_whole: bool,
    /// By which rows may have expired.
    pub(super) wall_ms: Option<i64>,
    pub(super) limit: usize,
}

/// Where an answer ended.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Place {
    group: u16,
    /// Where the scan of the key group stands.
    cursor: Option<Vec<u8>>,
    /// The last row of it that was looked at.
    after: Option<RowPlace>,
}

/// Namespace, hash and identity of a row: the order of scans.
type RowPlace = (i64, u64, Vec<u8>);

fn place_of(row: &LoadedRow) -> RowPlace {
    (row.namespace, row.hash, row.identity.to_vec())
}

impl Page<'_> {
    /// The rows, from where an earlier answer ended.
    pub(super) async fn rows(&self, after: Option<&str>) -> Result<StateRows, StateQueryError> {
        // Without key columns all rows are of the one key, wherever their operator keeps them.
        let has_key = !self.table.key_fields().is_empty();
        let hash = (self.is_whole && has_key).then(|| self.table.hash(self.key));
        let hash = hash.transpose();
        let hash = hash.map_err(|error| StateQueryError::Damaged(error.to_string()))?;
        let from = after.map(Place::read).transpose()?;
        let (rows, next) = match hash {
            Some(hash) if !self.table.is_windowed() => {
                let piece = self.view().key(hash).await;
                let piece = piece.map_err(|error| view_error(error, self.of))?;
                self.of_one_key(&piece, from)?
            }
            Some(hash) => {
                let group = self.table.key_group(hash);
                self.scan(from.unwrap_or(Place::begin(group)), true).await?
            }
            None => {
                let from = from.unwrap_or(Place::begin(KeyGroup(0)));
                self.scan(from, false).await?
            }
        };
        Ok(StateRows {
            table: self.table.name().to_owned(),
            key: self.table.key_fields().to_vec(),
            columns: self.table.columns().to_vec(),
            rows,
            next: next.map(|place| place.write()),
        })
    }

    fn view(&self) -> TableView<'_> {
        TableView {
            table: self.table,
            source: self.source,
            wall_ms: self.wall_ms,
        }
    }

    fn of_one_key(
        &self,
        piece: &Piece,
        from: Option<Place>,
    ) -> Result<(Vec<ResultRow>, Option<Place>), StateQueryError> {
        let after = from.and_then(|place| place.after);
        let (rows, last) = self.matching(piece, after.as_ref(), self.limit)?;
        let next = last.map(|last| Place {
            group: 0,
            cursor: None,
            after: Some(last),
        });
        Ok((rows, next))
    }

    async fn scan(
        &self,
        mut place: Place,
        one_group: bool,
    ) -> Result<(Vec<ResultRow>, Option<Place>), StateQueryError> {
        let deadline = Instant::now() + LOOK_MAX;
        let mut rows = Vec::new();
        loop {
            let cursor = place.cursor.clone().map(Bytes::from);
            let piece = self.view().scan(KeyGroup(place.group), cursor).await;
            let piece = piece.map_err(|error| view_error(error, self.of))?;
            let left = self.limit - rows.len();
            let (more, last) = self.matching(&piece, place.after.as_ref(), left)?;
            rows.extend(more);
            if let Some(last) = last {
                place.after = Some(last);
                return Ok((rows, Some(place)));
            }
            match piece.cursor {
                Some(cursor) => place.cursor = Some(cursor.to_vec()),
                None if one_group => return Ok((rows, None)),
                None => match next_group(self.of, KeyGroup(place.group))? {
                    Some(next) => place = Place::begin(next),
                    None => return Ok((rows, None)),
                },
            }
            if rows.len() >= self.limit || Instant::now() >= deadline {
                return Ok((rows, Some(place)));
            }
        }
    }

    /// Rows of a piece that are wanted, at most `limit`; the last one if others follow it.
    fn matching(
        &self,
        piece: &Piece,
        after: Option<&RowPlace>,
        limit: usize,
    ) -> Result<(Vec<ResultRow>, Option<RowPlace>), StateQueryError> {
        let damaged = |error: String| StateQueryError::Damaged(error);
        let matching = self.table.matching(&piece.rows, self.key);
        let mut matching = matching.map_err(|error| damaged(error.to_string()))?;
        matching.retain(|row| {
            let place = || place_of(&piece.stored[*row as usize]);
            after.is_none_or(|after| place() > *after)
        });
        let last = match matching.len() > limit {
            true => matching[..limit].last(),
            false => None,
        };
        let last = last.map(|row| place_of(&piece.stored[*row as usize]));
        matching.truncate(limit);
        let rows = take_record_batch(&piece.rows, &UInt32Array::from(matching));
        let rows = rows.map_err(|error| damaged(error.to_string()))?;
        Ok((crate::lines(&ChangeBatch::inserts(rows)), last))
    }
}

impl Place {
    fn begin(group: KeyGroup) -> Place {
        Place {
            group: group.0,
            cursor: None,
            after: None,
        }
    }

    fn write(&self) -> String {
        hex::write(&serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str) -> Result<Place, StateQueryError> {
        let place = hex::read(text).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        place.ok_or(StateQueryError::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_the_way_to_the_client() {
        let place = Place {
            group: 7,
            cursor: Some(vec![0, 255]),
            after: Some((-1, u64::MAX, b"x".to_vec())),
        };
        assert_eq!(Place::read(&place.write()), Ok(place));
        for bad in ["", "x", "zz", "7b7d", "é"] {
            assert_eq!(Place::read(bad), Err(StateQueryError::After), "{bad}");
        }
    }
}
