//! Random words, and the fixed lists of the public generator.

use crate::random::{Words, below};

use super::{buffers::Text, random::eight_letters};

/// The shortest random word.
const WORD_MIN: u64 = 3;
/// One of this many characters is not a letter.
const SPECIAL_ONE_IN: u64 = 13;

/// Length of a word of fewer than `max` characters, before blanks are trimmed.
#[inline(always)]
pub(super) fn word_length(word: u64, max: u64) -> usize {
    (WORD_MIN + below(word, max - WORD_MIN)) as usize
}

/// Appends a word of `length` characters: letters, and now and then `special`. Blanks at either
/// end are left out.
pub(super) fn push_word(text: &mut Text, words: &mut Words, length: usize, special: u8) {
    let start = text.len();
    let mut left = length;
    while left > 0 {
        let piece = left.min(8);
        let mut letters = eight_letters(words.next());
        let choices = words.next().to_le_bytes();
        for (letter, choice) in letters.iter_mut().zip(choices) {
            if u64::from(choice) * SPECIAL_ONE_IN < 256 {
                *letter = special;
            }
        }
        let mut from = 0;
        while special == b' ' && text.len() == start && from < piece && letters[from] == b' ' {
            from += 1;
        }
        text.push(&letters[from..piece]);
        left -= piece;
    }
    if special == b' ' {
        text.trim_end(start);
    }
}

/// One of a list.
#[inline(always)]
pub(super) fn pick<'l>(word: u64, list: &[&'l str]) -> &'l str {
    list[below(word, list.len() as u64) as usize]
}

/// Texts behind each other in one buffer.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Dictionary {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
    }

    #[inline(always)]
    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            index => self.ends[index - 1],
        };
        &self.bytes[start as usize..self.ends[index] as usize]
    }
}

pub(super) const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

pub(super) const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

pub(super) const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];

pub(super) const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];

pub(super) const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
