//! How often anyone may try to sign in: a few times from one address, and not without end from all
//! of them together.

use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

const WINDOW: SignedDuration = SignedDuration::from_mins(5);
const PER_ADDRESS: u32 = 5;
const FROM_ALL: u32 = 60;
/// More addresses than this at a time are taken as one attack, and all wait.
const MAX_ADDRESSES: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Timestamp,
    count: u32,
}

impl Window {
    fn is_over(self, now: Timestamp) -> bool {
        // A clock that went back ends the window too: nobody is locked out for years.
        now < self.since || now.duration_since(self.since) >= WINDOW
    }

    fn wait(self, now: Timestamp) -> u64 {
        let left = WINDOW.saturating_sub(now.duration_since(self.since));
        u64::try_from(left.as_secs()).unwrap_or(0).max(1)
    }
}

/// The attempts of the last minutes.
#[derive(Debug, Default)]
pub struct Attempts {
    from_all: Option<Window>,
    per_address: BTreeMap<IpAddr, Window>,
}

impl Attempts {
    /// Counts an attempt before it is looked at, so that many at once do not slip through.
    ///
    /// # Errors
    /// The seconds to wait when it must not be looked at; such an attempt does not count.
    pub fn try_count(&mut self, address: IpAddr, now: Timestamp) -> Result<(), u64> {
        self.per_address.retain(|_, window| !window.is_over(now));
        self.from_all = self.from_all.filter(|window| !window.is_over(now));
        let address = network_of(address);
        let fresh = Window { since: now, count: 0 };
        let all = self.from_all.unwrap_or(fresh);
        let one = self.per_address.get(&address).copied();
        if all.count >= FROM_ALL || (one.is_none() && self.per_address.len() >= MAX_ADDRESSES) {
            return Err(all.wait(now));
        }
        let one = one.unwrap_or(fresh);
        if one.count >= PER_ADDRESS {
            return Err(one.wait(now));
        }
        self.from_all = Some(Window { count: all.count + 1, ..all });
        self.per_address.insert(address, Window { count: one.count + 1, ..one });
        Ok(())
    }

    /// The attempt was right: the address starts anew.
    pub fn succeeded(&mut self, address: IpAddr) {
        self.per_address.remove(&network_of(address));
        if let Some(all) = &mut self.from_all {
            all.count = all.count.saturating_sub(1);
        }
    }
}

/// One household or server has a whole /64 of IPv6, so that counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn the_sixth_attempt_waits_until_the_window_is_over() {
        let mut attempts = Attempts::default();
        for n in 0..5 {
            attempts.try_count(address(1), at(n)).unwrap();
        }
        assert_eq!(attempts.try_count(address(1), at(10)), Err(290));
        assert_eq!(attempts.try_count(address(2), at(10)), Ok(()));
        assert_eq!(attempts.try_count(address(1), at(299)), Err(1));
        assert_eq!(attempts.try_count(address(1), at(300)), Ok(()));
    }

    #[test]
    fn many_addresses_together_wait_too() {
        let mut attempts = Attempts::default();
        for n in 0..FROM_ALL {
            attempts.try_count(address(n), at(0)).unwrap();
        }
        assert_eq!(attempts.try_count(address(99), at(1)), Err(299));
        assert_eq!(attempts.try_count(address(99), at(300)), Ok(()));
    }

    #[test]
    fn a_right_attempt_starts_anew_and_a_clock_that_went_back_locks_nobody_out() {
        let mut attempts = Attempts::default();
        for _ in 0..20 {
            attempts.try_count(address(1), at(0)).unwrap();
            attempts.succeeded(address(1));
        }
        for _ in 0..5 {
            attempts.try_count(address(1), at(0)).unwrap();
        }
        assert_eq!(attempts.try_count(address(1), at(-5000)), Ok(()));
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let mut attempts = Attempts::default();
        for n in 0..5 {
            let from: IpAddr = format!("2001:db8::{n}").parse().unwrap();
            attempts.try_count(from, at(0)).unwrap();
        }
        assert!(attempts.try_count("2001:db8::ffff".parse().unwrap(), at(0)).is_err());
        assert!(attempts.try_count("2001:db8:0:1::1".parse().unwrap(), at(0)).is_ok());
    }
}
