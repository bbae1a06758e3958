//! Records that could not be read, kept for people up to a bound.

use engine::source::DeadLetter;

/// Letters kept between two calls of [`DeadLetters::take`].
const LETTERS_MAX: usize = 64;
/// Bytes kept of one record.
const LETTER_BYTES_MAX: usize = 4 << 10;

/// The bad records since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    letters: Vec<DeadLetter>,
}

impl DeadLetters {
    /// Keeps a record; beyond the bound it only counts.
    pub(crate) fn push(&mut self, split: &str, position: String, record: &[u8], cause: String) {
        if self.letters.len() >= LETTERS_MAX
            && let Some(last) = self.letters.last_mut()
        {
            last.count += 1;
            return;
        }
        self.letters.push(DeadLetter {
            split: split.to_owned(),
            position,
            bytes: record[..record.len().min(LETTER_BYTES_MAX)].to_vec(),
            cause,
            count: 1,
        });
    }

    /// Hands the letters over.
    pub(crate) fn take(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }
}
