//! How often one address may do what anybody may try: show a token that does not exist, or announce a
//! machine.

use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Attempts of one address in one window.
const ALLOWED: u32 = 10;
/// The window.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Addresses that are remembered.
const REMEMBERED: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Tries {
    since: Timestamp,
    count: u32,
}

/// Attempts by address. Tokens have 256 bits and cannot be guessed; this keeps a loop gone
/// wrong, or a curious neighbour, from keeping the database busy.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Arc<Mutex<HashMap<IpAddr, Tries>>>);

impl Attempts {
    /// Whether an address may try.
    pub fn may_try(&self, address: IpAddr, now: Timestamp) -> bool {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts
            .get(&network(address))
            .is_none_or(|tries| tries.count < ALLOWED || is_over(tries, now))
    }

    /// Notes an attempt that counts.
    pub fn note(&self, address: IpAddr, now: Timestamp) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= REMEMBERED {
            attempts.retain(|_, tries| !is_over(tries, now));
        }
        if attempts.len() >= REMEMBERED {
            attempts.clear();
        }
        let tries = attempts.entry(network(address)).or_insert(Tries { since: now, count: 0 });
        if is_over(tries, now) {
            *tries = Tries { since: now, count: 0 };
        }
        tries.count += 1;
    }
}

fn is_over(tries: &Tries, now: Timestamp) -> bool {
    // A clock that went back must not keep anyone out for long either.
    now.duration_since(tries.since).abs() >= WINDOW
}

/// One machine has a whole /64 of IPv6 addresses to try from.
pub(super) fn network(address: IpAddr) -> IpAddr {
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
    fn an_address_waits_after_ten_tries_and_others_do_not() {
        let attempts = Attempts::default();
        let start = Timestamp::UNIX_EPOCH;
        let (one, two): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..ALLOWED {
            assert!(attempts.may_try(one, start));
            attempts.note(one, start);
        }
        assert!(!attempts.may_try(one, start));
        assert!(attempts.may_try(two, start));
        assert!(attempts.may_try(one, start + WINDOW));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..20_000_u32 {
            attempts.note(IpAddr::V4(n.into()), Timestamp::UNIX_EPOCH);
        }
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED);
    }
}
