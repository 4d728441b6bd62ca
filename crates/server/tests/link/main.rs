//! The link to the agents, over real TLS and real sockets, with a double in the agent's place that
//! does exactly what a test tells it to.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests stop at the unexpected and look at some frames only"
)]

mod alarms;
mod announce;
mod double;
mod enrolment;
#[cfg(target_os = "linux")]
mod flood;
mod hostile;
mod journal;
mod restored;
mod runs;
mod slots;
mod state;
