//! The numbers of executed commands: a watermark and a sparse set above it.

use super::Series;
use std::collections::BTreeSet;

/// The numbers of one life of a manager.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    watermark: u64,
    highest: u64,
    struck: BTreeSet<u64>,
}

impl Numbers {
    pub(super) fn new(series: Series) -> Self {
        Self {
            watermark: series.watermark,
            highest: series.highest,
            struck: series.struck.into_iter().collect(),
        }
    }

    pub(super) fn watermark(&self) -> u64 {
        self.watermark
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Takes note of a number without striking it off. Says whether it was news.
    pub(super) fn see(&mut self, n: u64) -> bool {
        let is_new = n > self.highest;
        self.highest = self.highest.max(n);
        is_new
    }

    pub(super) fn is_struck(&self, n: u64) -> bool {
        n <= self.watermark || self.struck.contains(&n)
    }

    /// Strikes a number off. Says whether it still stood.
    pub(super) fn strike(&mut self, n: u64) -> bool {
        if self.is_struck(n) {
            return false;
        }
        self.see(n);
        self.struck.insert(n);
        while self.struck.remove(&(self.watermark + 1)) {
            self.watermark += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_is_struck_off_once(order in prop::collection::vec(1..40_u64, 0..200)) {
            let mut numbers = Numbers::default();
            let mut model = BTreeSet::new();
            for n in order {
                prop_assert_eq!(numbers.strike(n), model.insert(n));
                for n in 1..40 {
                    prop_assert_eq!(numbers.is_struck(n), model.contains(&n));
                }
                prop_assert!(numbers.struck.iter().all(|&n| n > numbers.watermark + 1));
            }
        }
    }
}
