//! Names of a kind, to find out what a new list no longer has.

use crate::index::ObjectName;
use std::collections::BTreeSet;

/// What is there of one kind.
#[derive(Debug, Default)]
pub struct Seen {
    names: BTreeSet<ObjectName>,
    /// Names of the list that is being read.
    list: Option<BTreeSet<ObjectName>>,
    is_listed: bool,
}

// === impl Seen ===

impl Seen {
    /// A list begins; one that was not completed counts for nothing.
    pub fn begin(&mut self) {
        self.list = Some(BTreeSet::new());
    }

    /// An object is there.
    pub fn apply(&mut self, name: &ObjectName) {
        if let Some(list) = &mut self.list {
            list.insert(name.clone());
        }
        if !self.names.contains(name) {
            self.names.insert(name.clone());
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, name: &ObjectName) {
        self.names.remove(name);
        if let Some(list) = &mut self.list {
            list.remove(name);
        }
    }

    /// The list is complete: what was there and is not in it.
    pub fn done(&mut self) -> Vec<ObjectName> {
        self.is_listed = true;
        let Some(list) = self.list.take() else { return Vec::new() };
        let old = std::mem::replace(&mut self.names, list);
        old.into_iter().filter(|name| !self.names.contains(name)).collect()
    }

    /// At least one list was complete.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// The next list must be waited for, though what is known stays.
    pub fn expect_list(&mut self) {
        self.is_listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName { namespace: "d".into(), name: name.into() }
    }

    #[test]
    fn only_a_complete_list_says_what_is_gone() {
        let mut seen = Seen::default();
        seen.begin();
        for n in ["a", "b", "c"] {
            seen.apply(&name(n));
        }
        assert!(!seen.is_listed());
        assert_eq!(seen.done(), []);
        assert!(seen.is_listed());
        seen.begin();
        seen.apply(&name("a"));
        // The connection broke: the next list starts from nothing.
        seen.begin();
        seen.apply(&name("a"));
        seen.apply(&name("c"));
        seen.apply(&name("d"));
        assert_eq!(seen.done(), [name("b")]);
        seen.delete(&name("c"));
        seen.begin();
        seen.apply(&name("a"));
        assert_eq!(seen.done(), [name("d")], "what was deleted before is not gone again");
    }
}
