//! The brain's rules, one by one, without clock, disk or network.
