//! How many WebSockets one host may hold open.
//!
//! A connection that has said hello evicts the one before it. Before its hello nothing does, and
//! each may have a frame half-way in: without a limit one machine could take all memory and files.

use protocol::HostId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// An honest agent has one, and for some seconds what is left of those that broke.
const AT_ONCE: usize = 16;

/// The open sockets by host. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets(Arc<Mutex<HashMap<HostId, usize>>>);

/// A socket's place, held while it is open.
#[derive(Debug)]
pub(super) struct Place {
    sockets: Sockets,
    host: HostId,
}

impl Sockets {
    /// A place for one more socket of this host, if there is one.
    pub fn take(&self, host: HostId) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(host).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Place { sockets: self.clone(), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.host) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_so_many_places_and_takes_none_from_others() {
        let sockets = Sockets::default();
        let (one, two) = (HostId::new(1, &[1; 10]), HostId::new(1, &[2; 10]));
        let mut places: Vec<Place> = (0..AT_ONCE).filter_map(|_| sockets.take(one)).collect();
        assert_eq!(places.len(), AT_ONCE);
        assert!(sockets.take(one).is_none());
        assert!(sockets.take(two).is_some());
        places.pop();
        places.extend(sockets.take(one));
        assert_eq!(places.len(), AT_ONCE);
        drop(places);
        assert!(sockets.0.lock().unwrap().is_empty());
    }
}
