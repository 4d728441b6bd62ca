//! The clock, as a trait with a real and a manual implementation.

use jiff::{SignedDuration, Timestamp};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Something that knows the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock. It may jump in both directions.
    fn now(&self) -> Timestamp;
}

/// The computer's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The computer's own clock, wrong by what the function says each time; for tests.
pub struct WrongClock<F>(pub F);

impl<F> fmt::Debug for WrongClock<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrongClock")
    }
}

impl<F: Fn() -> SignedDuration + Send + Sync> Clock for WrongClock<F> {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        now.checked_add((self.0)()).unwrap_or(now)
    }
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
