//! A machine that remembers every command that it applied, in order.

use crate::{
    Machine,
    wire::{Reader, Writer},
};

/// Every command that was applied, with its index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<(u64, String)>,
}

impl Ledger {
    pub(crate) fn commands(&self) -> Vec<&str> {
        self.entries
            .iter()
            .map(|(_, command)| command.as_str())
            .collect()
    }

    pub(crate) fn last(&self) -> Option<&str> {
        self.entries.last().map(|(_, command)| command.as_str())
    }
}

impl Machine for Ledger {
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        let command = String::from_utf8(command.to_vec()).expect("tests propose text");
        assert!(command != "panic", "as the test asked");
        self.entries.push((index, command));
        self.entries.len().to_string().into_bytes()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        for (index, command) in &self.entries {
            writer.u64(*index);
            writer.str(command);
        }
        writer.into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.entries.clear();
        let mut reader = Reader::new(snapshot);
        while let Ok(index) = reader.u64() {
            self.entries
                .push((index, reader.str().map_err(|error| error.to_string())?));
        }
        Ok(())
    }
}
