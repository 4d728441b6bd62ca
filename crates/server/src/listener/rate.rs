//! How often one address may show a token that does not exist.

use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Wrong tokens of one address in one window.
const ALLOWED: u32 = 10;
/// The window.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Addresses that are remembered.
const REMEMBERED: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Timestamp,
    count: u32,
}

/// Failed attempts by address. Tokens have 256 bits and cannot be guessed; this keeps a loop gone
/// wrong, or a curious neighbour, from keeping the database busy.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Arc<Mutex<HashMap<IpAddr, Failures>>>);

impl Attempts {
    /// Whether an address may try.
    pub fn may_try(&self, address: IpAddr, now: Timestamp) -> bool {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts
            .get(&network(address))
            .is_none_or(|failures| failures.count < ALLOWED || is_over(failures, now))
    }

    /// Notes a failed attempt.
    pub fn failed(&self, address: IpAddr, now: Timestamp) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= REMEMBERED {
            attempts.retain(|_, failures| !is_over(failures, now));
        }
        if attempts.len() >= REMEMBERED {
            attempts.clear();
        }
        let failures =
            attempts.entry(network(address)).or_insert(Failures { since: now, count: 0 });
        if is_over(failures, now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

fn is_over(failures: &Failures, now: Timestamp) -> bool {
    // A clock that went back must not keep anyone out for long either.
    now.duration_since(failures.since).abs() >= WINDOW
}

/// One machine has a whole /64 of IPv6 addresses to try from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> 64 << 64;
            IpAddr::V6(bits.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_after_ten_failures_and_others_do_not() {
        let attempts = Attempts::default();
        let start = Timestamp::UNIX_EPOCH;
        let (one, two): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..ALLOWED {
            assert!(attempts.may_try(one, start));
            attempts.failed(one, start);
        }
        assert!(!attempts.may_try(one, start));
        assert!(attempts.may_try(two, start));
        assert!(attempts.may_try(one, start + WINDOW));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..20_000_u32 {
            attempts.failed(IpAddr::V4(n.into()), Timestamp::UNIX_EPOCH);
        }
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED);
    }
}
