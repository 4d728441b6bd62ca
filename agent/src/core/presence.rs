//! Since when the agent runs on a machine that is awake, so that its manager can say why nothing ran.
//!
//! The interval that goes on is on the disk with an end that is a few minutes old at most: a machine that
//! loses its power tells at the next start until when it was certainly there. An interval ends when the
//! agent does, when the machine sleeps, and when its clock is put back.

use super::{Brain, Change, Effect, Now, Redial, link::Link};
use jiff::{SignedDuration, Timestamp};
use protocol::{AwakeInterval, FromAgent};
use std::time::Duration;

/// How long nobody looks at the clock, at most: so soon it is noticed that the machine has slept, or that
/// its clock was moved.
pub(super) const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// How long a machine must have been away to have slept. A busy one may look a moment late.
const SLEPT: SignedDuration = SignedDuration::from_secs(90);

/// How old the end on the disk may be.
const NOTE_EVERY: Duration = Duration::from_mins(10);

/// No interval is told that is shorter: an agent that ends right after each start must not fill its journal.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

/// How far the clock may go back before an interval ends: it is adjusted by moments all the time.
const PUT_BACK: SignedDuration = SignedDuration::from_secs(10);

/// A time in which the agent ran and its machine did not sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awake {
    /// Its beginning.
    pub since: Timestamp,
    /// Until when that is certain.
    pub until: Timestamp,
}

/// What the brain knows of its own time.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// The interval that goes on; before the start the one of the agent before.
    awake: Option<Awake>,
    looked: Option<Look>,
    noted_at: Duration,
    /// How long the machine has slept, where its system counts that.
    slept: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    now: Now,
    slept: Option<Duration>,
}

impl Presence {
    pub(super) fn new(remembered: Option<Awake>) -> Self {
        Self { awake: remembered, ..Self::default() }
    }

    /// Since when the machine is awake.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.looked?;
        Some(self.awake?.since)
    }

    /// When the clock is looked at next.
    pub(super) fn due(&self) -> Option<Duration> {
        self.looked.map(|look| look.now.mono + LOOK_WITHIN)
    }

    /// Whether the machine was away since the last look, or its clock was put back.
    fn was_away(&self, now: Now) -> bool {
        let Some(Look { now: then, slept: slept_then }) = self.looked else { return false };
        let signed = |time| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let passed = now.mono.saturating_sub(then.mono);
        let moved = now.wall.duration_since(then.wall);
        // Without a count of its own a sleep cannot be told from a clock that was set forward.
        let slept = match (self.slept, slept_then) {
            (Some(now), Some(then)) => signed(now.saturating_sub(then)),
            (Some(_) | None, _) => moved.saturating_sub(signed(passed)).max(SignedDuration::ZERO),
        };
        // Some systems let the measuring clock run while they sleep; then the look is late.
        let late = signed(passed.saturating_sub(LOOK_WITHIN));
        slept.saturating_add(late) > SLEPT || moved < -PUT_BACK
    }
}

impl Brain {
    /// How long the machine has slept, counted from any moment, where its system counts that. Without it
    /// the clocks tell.
    pub fn set_slept(&mut self, slept: Duration) {
        self.presence.slept = Some(slept);
    }

    /// The agent starts: what was known of the one before is told, and a new interval begins.
    pub(super) fn wake_up(&mut self, now: Now) -> Vec<Effect> {
        let told = self.presence.awake.take().and_then(|awake| self.tell_awake(awake, now));
        self.presence.looked = Some(Look { now, slept: self.presence.slept });
        let begun = self.note_awake(Awake { since: now.wall, until: now.wall }, now);
        told.into_iter().chain([begun]).collect()
    }

    /// Looks at the clocks. That the machine was away is noticed whenever somebody looks, such as before a
    /// hello; the rest is done when it is time to.
    pub(super) fn look_at_clock(&mut self, now: Now) -> Vec<Effect> {
        let Some(due) = self.presence.due() else { return Vec::new() };
        if self.presence.was_away(now) {
            let mut effects = self.wake_up(now);
            // What a connection was before the sleep it hardly is after it, and the manager is to hear
            // since when the machine is awake.
            if matches!(self.link, Link::Open(_)) {
                effects.push(Effect::Disconnect { redial: Redial::Now, problem: None });
            }
            return effects;
        }
        if due > now.mono {
            return Vec::new();
        }
        self.presence.looked = Some(Look { now, slept: self.presence.slept });
        let Some(awake) = &mut self.presence.awake else { return Vec::new() };
        awake.until = awake.until.max(now.wall);
        let awake = *awake;
        let is_old = self.presence.noted_at + NOTE_EVERY <= now.mono;
        is_old.then(|| self.note_awake(awake, now)).into_iter().collect()
    }

    /// The agent ends: until when it was there.
    pub(super) fn fall_asleep(&mut self) -> Option<Effect> {
        let awake = self.presence.awake?;
        Some(Effect::Store(Change::Awake(awake)))
    }

    fn note_awake(&mut self, awake: Awake, now: Now) -> Effect {
        self.presence.awake = Some(awake);
        self.presence.noted_at = now.mono;
        Effect::Store(Change::Awake(awake))
    }

    fn tell_awake(&mut self, awake: Awake, now: Now) -> Option<Effect> {
        let is_long = awake.until.duration_since(awake.since) >= SHORTEST;
        let interval = AwakeInterval { from: awake.since, until: awake.until };
        is_long.then(|| self.append(&FromAgent::AgentAwake(interval), None, None, now))
    }
}
