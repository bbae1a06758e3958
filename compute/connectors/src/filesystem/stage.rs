//! Staged output: frames of whole lines, each for one directory.
//!
//! A frame is the directory's length (u32, little endian) and name, the lines' length (u32) and
//! the lines. Files are cut between frames only, so never inside a row.

use std::collections::BTreeMap;

/// A frame is closed when it has grown to this size.
pub(super) const FRAME_BYTES: usize = 1 << 20;

/// Lines of one epoch, by directory.
#[derive(Debug, Default)]
pub(super) struct Stage {
    open: BTreeMap<String, Vec<u8>>,
    closed: Vec<u8>,
    bytes: usize,
}

impl Stage {
    /// Lets `write` append one line for `directory`.
    pub(super) fn line<E>(
        &mut self,
        directory: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.open.contains_key(directory) {
            self.open.insert(directory.to_owned(), Vec::new());
        }
        let Some(lines) = self.open.get_mut(directory) else {
            return Ok(());
        };
        let before = lines.len();
        if let Err(error) = write(lines) {
            lines.truncate(before);
            return Err(error);
        }
        self.bytes += lines.len() - before;
        if lines.len() >= FRAME_BYTES {
            close(&mut self.closed, directory, lines);
            lines.clear();
        }
        Ok(())
    }

    /// Bytes of lines.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames; the stage is empty afterwards.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut frames = std::mem::take(&mut self.closed);
        for (directory, lines) in std::mem::take(&mut self.open) {
            if !lines.is_empty() {
                close(&mut frames, &directory, &lines);
            }
        }
        self.bytes = 0;
        frames
    }
}

fn close(frames: &mut Vec<u8>, directory: &str, lines: &[u8]) {
    for part in [directory.as_bytes(), lines] {
        let length = u32::try_from(part.len()).expect("a frame is closed long before 4 GiB");
        frames.extend_from_slice(&length.to_le_bytes());
        frames.extend_from_slice(part);
    }
}

/// The frames of a piece: directory and lines. `None` where the bytes are not frames.
pub(super) fn frames(mut piece: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let mut all = Vec::new();
    while !piece.is_empty() {
        let directory = std::str::from_utf8(part(&mut piece)?).ok()?;
        all.push((directory, part(&mut piece)?));
    }
    Some(all)
}

fn part<'p>(piece: &mut &'p [u8]) -> Option<&'p [u8]> {
    let (length, rest) = piece.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *piece = rest;
    Some(part)
}
