//! `STATE_TTL('alias' = '1 d')` after SELECT: how long the state of the relations in its FROM is kept.
//!
//! It holds for the SELECT it stands in, not for subqueries: for the joins that a relation is directly
//! a side of, and for the GROUP BY over a relation that stands alone.

use std::cell::Cell;

use crate::error::SqlError;
use crate::logical::Schema;
use crate::parse::StateTtlEntry;
use crate::suggest::nearest;

/// What the hints of a SELECT say, and whether anything has come of it.
#[derive(Debug, Default)]
pub(crate) struct StateTtls {
    entries: Vec<(StateTtlEntry, Cell<bool>)>,
}

impl StateTtls {
    /// Of these hints.
    pub(crate) fn new(entries: Vec<StateTtlEntry>) -> StateTtls {
        let entries = entries.into_iter().map(|entry| (entry, Cell::new(false)));
        StateTtls {
            entries: entries.collect(),
        }
    }

    /// How long the state of a relation with these columns is kept, if it is one relation and a hint
    /// names it.
    pub(crate) fn of(&self, relation: &Schema) -> Option<u64> {
        let name = relation.first()?.qualifier.as_deref()?;
        if relation
            .iter()
            .any(|field| field.qualifier.as_deref() != Some(name))
        {
            return None;
        }
        let (entry, used) = self
            .entries
            .iter()
            .find(|(entry, _)| entry.relation == name)?;
        used.set(true);
        Some(entry.ms)
    }

    /// Refuses hints that name no relation among these columns, those of FROM.
    pub(crate) fn check_names(&self, from: &Schema) -> Result<(), SqlError> {
        let names = || from.iter().filter_map(|field| field.qualifier.as_deref());
        for (entry, _) in &self.entries {
            if names().any(|name| name == entry.relation) {
                continue;
            }
            let message = format!("STATE_TTL names '{}', which FROM does not", entry.relation);
            let error = SqlError::validate(message).at(entry.span);
            return Err(match nearest(&entry.relation, names()) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint("name a table or alias of the same SELECT's FROM"),
            });
        }
        Ok(())
    }

    /// Refuses hints that nothing has come of.
    pub(crate) fn check_used(&self) -> Result<(), SqlError> {
        match self.entries.iter().find(|(_, used)| !used.get()) {
            None => Ok(()),
            Some((entry, _)) => Err(SqlError::validate(format!(
                "STATE_TTL has no effect on '{}': it is neither joined nor grouped by itself",
                entry.relation
            ))
            .at(entry.span)
            .hint("SET 'table.exec.state.ttl' holds for all state of a job")),
        }
    }
}
