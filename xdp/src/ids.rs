//! Who has which number. Pure.

use std::collections::{BTreeSet, VecDeque};

/// Numbers below a limit; the lowest free one is given first, so that scans can stop early.
#[derive(Debug)]
pub(crate) struct Ids {
    limit: u32,
    next: u32,
    returned: BTreeSet<u32>,
}

/// Numbers below a limit; the one that was returned longest ago is given first.
#[derive(Debug)]
pub(crate) struct Queue(VecDeque<u16>);

// === impl Ids ===

impl Ids {
    /// `first..limit` less those in use.
    pub(crate) fn new(first: u32, limit: u32, used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(first, |last| last + 1).max(first);
        let returned = (first..next).filter(|id| !used.contains(id)).collect();
        Self { limit, next, returned }
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.returned.pop_first() {
            return Some(id);
        }
        let id = self.next;
        if id >= self.limit {
            return None;
        }
        self.next += 1;
        Some(id)
    }

    pub(crate) fn put_back(&mut self, id: u32) {
        self.returned.insert(id);
    }

    /// How many [`Ids::take`] can still give.
    pub(crate) fn free(&self) -> usize {
        self.returned.len() + (self.limit.saturating_sub(self.next)) as usize
    }
}

// === impl Queue ===

impl Queue {
    pub(crate) fn new(limit: u16, used: &BTreeSet<u16>) -> Self {
        Self((0..limit).filter(|id| !used.contains(id)).collect())
    }

    pub(crate) fn take(&mut self) -> Option<u16> {
        self.0.pop_front()
    }

    pub(crate) fn put_back(&mut self, id: u16) {
        self.0.push_back(id);
    }

    /// How many [`Queue::take`] can still give.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fill_holes_first_and_end_at_the_limit() {
        let mut ids = Ids::new(1, 5, &BTreeSet::from([1, 3]));
        assert_eq!(ids.free(), 2);
        assert_eq!([ids.take(), ids.take(), ids.take()], [Some(2), Some(4), None]);
        ids.put_back(3);
        assert_eq!([ids.take(), ids.take()], [Some(3), None]);
    }

    #[test]
    fn a_returned_table_waits_behind_all_others() {
        let mut queue = Queue::new(3, &BTreeSet::from([0]));
        let first = queue.take().unwrap();
        queue.put_back(first);
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some(2), Some(1), None]);
    }
}
