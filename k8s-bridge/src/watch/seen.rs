//! Names of a kind, to find out what a new list no longer has, and which of two states of an object is the newer one.

use crate::index::ObjectName;
use std::collections::BTreeSet;

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A list that is being read.
    List,
    /// A watch.
    Watch,
    /// The answer to a write of ours.
    Answer,
}

/// What is there of one kind.
#[derive(Debug, Default)]
pub struct Seen {
    names: BTreeSet<ObjectName>,
    /// Names of the list that is being read.
    list: Option<BTreeSet<ObjectName>>,
    /// Names of objects that were written since the list began: the list may have been made before.
    answered: BTreeSet<ObjectName>,
    is_listed: bool,
}

// === impl Seen ===

impl Seen {
    /// A list begins; one that was not completed counts for nothing.
    pub fn begin(&mut self) {
        self.list = Some(BTreeSet::new());
        self.answered.clear();
    }

    /// Where an object of this kind comes from now.
    #[must_use]
    pub fn from(&self) -> From {
        if self.list.is_some() { From::List } else { From::Watch }
    }

    /// A write of ours was answered.
    pub fn answered(&mut self, name: &ObjectName) {
        if self.list.is_some() {
            self.answered.insert(name.clone());
        }
    }

    /// Whether an object of this version takes the place of one of the version `known`. What comes from watches and
    /// answers overtakes each other; a list is the truth, even when versions went back because etcd was restored.
    #[must_use]
    pub fn is_news(&self, name: &ObjectName, from: From, known: u64, version: u64) -> bool {
        match from {
            From::List if !self.answered.contains(name) => true,
            From::List | From::Watch | From::Answer => version >= known,
        }
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
        self.answered.clear();
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

    #[test]
    fn a_list_is_the_truth_but_for_what_was_written_since() {
        let (mut seen, web) = (Seen::default(), name("web"));
        for (from, version, is_news) in [
            (From::Watch, 9, false),
            (From::Answer, 9, false),
            (From::Watch, 10, true),
            (From::Answer, 11, true),
        ] {
            assert_eq!(seen.is_news(&web, from, 10, version), is_news, "{from:?} {version}");
        }
        seen.answered(&web);
        seen.begin();
        assert_eq!(seen.from(), From::List);
        assert!(seen.is_news(&web, From::List, 10, 3), "etcd was restored");
        seen.answered(&web);
        assert!(!seen.is_news(&web, From::List, 10, 9), "the list was made before the write");
        assert!(seen.is_news(&name("other"), From::List, 10, 9));
        seen.done();
        assert_eq!(seen.from(), From::Watch);
        seen.begin();
        assert!(seen.is_news(&web, From::List, 10, 9), "the next list is later than the write");
    }
}
