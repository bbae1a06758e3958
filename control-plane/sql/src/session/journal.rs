//! The statements that make a session from nothing: what is written down of a catalog.

/// Statements that changed the session, without those that others have undone.
#[derive(Clone, Default, Debug)]
pub(super) struct Journal {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    text: String,
    does: Deed,
}

/// What a statement did to a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// Made a table or a view.
    Create {
        name: String,
        temporary: bool,
        is_view: bool,
    },
    /// Removed one.
    Drop { name: String, temporary: bool },
    /// Set an option.
    Set(String),
    /// Took options back; `None`: all.
    Reset(Option<String>),
}

impl Journal {
    /// A statement has done something.
    pub(super) fn push(&mut self, text: &str, does: Deed) {
        match &does {
            Deed::Set(key) => self.forget_option(Some(key)),
            Deed::Reset(key) => return self.forget_option(key.as_deref()),
            Deed::Drop { name, temporary } => {
                if self.forget_relation(name, *temporary) {
                    return;
                }
            }
            Deed::Create { .. } => {}
        }
        let text = text.to_owned();
        self.entries.push(Entry { text, does });
    }

    /// The statements, in order.
    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.text.as_str())
    }

    fn forget_option(&mut self, key: Option<&str>) {
        self.entries.retain(|entry| match &entry.does {
            Deed::Set(set) => key.is_some_and(|key| key != set),
            _ => true,
        });
    }

    /// Takes the statement out that made the relation. A view that was made since may need it to be
    /// made again: then it stays.
    fn forget_relation(&mut self, name: &str, temporary: bool) -> bool {
        let made = |entry: &Entry| match &entry.does {
            Deed::Create {
                name: made,
                temporary: among,
                ..
            } => made == name && *among == temporary,
            _ => false,
        };
        let Some(at) = self.entries.iter().rposition(made) else {
            return false;
        };
        // Whoever reads a relation writes its name, which is case-sensitive.
        let needs = |entry: &Entry| {
            matches!(&entry.does, Deed::Create { is_view: true, .. }) && entry.text.contains(name)
        };
        if self.entries.iter().skip(at + 1).any(needs) {
            return false;
        }
        self.entries.remove(at);
        true
    }
}
