//! How many connections one machine may hold open.
//!
//! An agent's connection that has said hello evicts the one before it. Before its hello nothing does, and
//! each may have a frame half-way in; a connection to the store stays as long as its client likes. Without
//! a limit one machine could take all memory, files and places.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// The open connections by whose they are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Places<Id> {
    at_once: usize,
    open: Arc<Mutex<HashMap<Id, usize>>>,
}

/// A connection's place, held while it is open.
#[derive(Debug)]
pub(super) struct Place<Id: Eq + Hash> {
    places: Places<Id>,
    id: Id,
}

impl<Id: Copy + Eq + Hash> Places<Id> {
    /// So many for each.
    pub fn new(at_once: usize) -> Self {
        Self { at_once, open: Arc::default() }
    }

    /// A place for one more connection of this one, if there is one.
    pub fn take(&self, id: Id) -> Option<Place<Id>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(id).or_default();
        if *count >= self.at_once {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), id })
    }
}

impl<Id: Eq + Hash> Drop for Place<Id> {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use protocol::HostId;

    #[test]
    fn a_host_has_so_many_places_and_takes_none_from_others() {
        let places = Places::new(3);
        let (one, two) = (HostId::new(1, &[1; 10]), HostId::new(1, &[2; 10]));
        let mut taken: Vec<_> = (0..3).filter_map(|_| places.take(one)).collect();
        assert_eq!(taken.len(), 3);
        assert!(places.take(one).is_none());
        assert!(places.take(two).is_some());
        taken.pop();
        taken.extend(places.take(one));
        assert_eq!(taken.len(), 3);
        drop(taken);
        assert!(places.open.lock().unwrap().is_empty());
    }
}
