//! Messages that a machine sends for trial, and who waits to hear what came of them. Nothing of it is
//! stored; a trial whose connection is lost has no answer, and is not sent again.

use protocol::{AlarmId, AlarmTest, HostId, Problem};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

/// Trials that may be waited for at a time, over all hosts.
const WAITING: usize = 32;

/// Whether the message was taken, or why not.
pub type Answer = Result<(), Problem>;

#[derive(Debug)]
struct Trial {
    /// Until it is handed to the host's session.
    test: Option<AlarmTest>,
    asker: oneshot::Sender<Answer>,
}

/// The trials that are waited for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trials(Arc<Mutex<BTreeMap<(HostId, AlarmId), Trial>>>);

impl Trials {
    /// Waits for a trial from now on; none when too many are waited for. Wake the host's session after it.
    #[must_use]
    pub fn ask(&self, host: HostId, test: AlarmTest) -> Option<oneshot::Receiver<Answer>> {
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who gave up does not count.
        trials.retain(|_, trial| !trial.asker.is_closed());
        if trials.len() >= WAITING {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        trials.insert((host, test.alarm_id), Trial { test: Some(test), asker });
        Some(answer)
    }

    /// What this host is to be sent, each once.
    #[must_use]
    pub fn take(&self, host: HostId) -> Vec<AlarmTest> {
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_host = trials.iter_mut().filter(|((whose, _), _)| *whose == host);
        of_host.filter_map(|(_, trial)| trial.test.take()).collect()
    }

    /// Answers who waits for it.
    pub fn answer(&self, host: HostId, id: AlarmId, answer: Answer) {
        let mut trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trial) = trials.remove(&(host, id)) {
            // One that gave up meanwhile needs no answer.
            let _ = trial.asker.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{AlarmChannel, AlarmTarget, ChannelId};

    fn test(n: u8) -> AlarmTest {
        let channel = AlarmChannel {
            id: ChannelId::new(1, &[1; 10]),
            name: "chat".to_owned(),
            target: AlarmTarget::Unknown,
        };
        AlarmTest { alarm_id: AlarmId::new(1, &[n; 10]), channel }
    }

    #[tokio::test]
    async fn a_trial_is_handed_over_once_and_who_gave_up_makes_room() {
        let (trials, host) = (Trials::default(), HostId::new(1, &[1; 10]));
        let answer = trials.ask(host, test(0)).unwrap();
        assert!(trials.take(HostId::new(1, &[2; 10])).is_empty());
        assert_eq!(trials.take(host), [test(0)]);
        assert!(trials.take(host).is_empty());
        trials.answer(host, test(0).alarm_id, Ok(()));
        assert_eq!(answer.await.unwrap(), Ok(()));

        let held: Vec<_> = (0..32).map(|n| trials.ask(host, test(n)).unwrap()).collect();
        assert!(trials.ask(host, test(99)).is_none());
        drop(held);
        assert!(trials.ask(host, test(99)).is_some());
    }
}
