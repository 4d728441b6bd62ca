//! Folders of snapshots that somebody waits for: asked of a host's session, answered once to all who
//! asked. Nothing of it is stored; who waits is gone with the request.

use protocol::{HostId, Problem, TreeWant};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// Folders that may be waited for at a time, over all hosts.
const WAITING: usize = 256;

/// Whether the folder is in the database now, or why not.
pub type Answer = Result<(), Problem>;

type Askers = Vec<oneshot::Sender<Answer>>;

/// The folders that are waited for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trees(Arc<Mutex<BTreeMap<(HostId, TreeWant), Askers>>>);

impl Trees {
    /// Waits for a folder from now on; none when too many are waited for. Wake the host's session
    /// after it.
    #[must_use]
    pub fn ask(&self, host: HostId, want: TreeWant) -> Option<oneshot::Receiver<Answer>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who gave up does not count.
        waiting.retain(|_, askers| {
            askers.retain(|asker| !asker.is_closed());
            !askers.is_empty()
        });
        if waiting.len() >= WAITING && !waiting.contains_key(&(host, want.clone())) {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        waiting.entry((host, want)).or_default().push(asker);
        Some(answer)
    }

    /// What this host is to be asked.
    #[must_use]
    pub fn wanted_of(&self, host: HostId) -> Vec<TreeWant> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_host = waiting.keys().filter(|(whose, _)| *whose == host);
        of_host.map(|(_, want)| want.clone()).collect()
    }

    /// Answers all who wait for it.
    pub fn answer(&self, host: HostId, want: &TreeWant, answer: &Answer) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for asker in waiting.remove(&(host, want.clone())).unwrap_or_default() {
            // One that gave up meanwhile needs no answer.
            let _ = asker.send(answer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::RepositoryId;

    fn want(n: u64) -> TreeWant {
        TreeWant {
            repository_id: RepositoryId::new(1, &[1; 10]),
            snapshot_id: "ab".repeat(32),
            path: format!("/{n}"),
        }
    }

    #[tokio::test]
    async fn all_who_ask_get_one_answer_and_who_gave_up_makes_room() {
        let (trees, host) = (Trees::default(), HostId::new(1, &[1; 10]));
        let (one, two) = (trees.ask(host, want(1)).unwrap(), trees.ask(host, want(1)).unwrap());
        assert_eq!(trees.wanted_of(host), [want(1)]);
        assert!(trees.wanted_of(HostId::new(1, &[2; 10])).is_empty());
        trees.answer(host, &want(1), &Ok(()));
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(()), Ok(())));
        assert!(trees.wanted_of(host).is_empty());

        let held: Vec<_> = (0..WAITING as u64).map(|n| trees.ask(host, want(n)).unwrap()).collect();
        assert!(trees.ask(host, want(9999)).is_none());
        drop(held);
        assert!(trees.ask(host, want(9999)).is_some());
    }
}
