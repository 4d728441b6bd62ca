//! The rule as a table: what is known of a plan on a machine, and how it stands.

use super::*;
use Standing::{Asleep, Cancelled, Failed, Interrupted, Missed, Skipped, Unknown, Waiting};

/// Hours before now.
fn ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn good(hours: i64) -> Good {
    Good { began: ago(hours), ended: ago(hours), is_partial: false }
}

fn evidence(mode: HostMode) -> Evidence<'static> {
    Evidence {
        now: now(),
        patience: Patience { mode, stale_after_days: 14 },
        is_online: true,
        last_seen: Some(now()),
        track: None,
        good: Some(good(10)),
        has_failed: false,
        can_run: true,
    }
}

/// A daily plan at 02:00, ten hours ago, whose last good backup began so many hours ago, and what became of
/// the slots after it, the oldest first.
fn daily(mode: HostMode, last_good: Option<i64>, since: &[Standing]) -> Verdict {
    let count = i64::try_from(since.len()).unwrap();
    let slots =
        since.iter().zip(0..).map(|(standing, n)| (ago(10 + 24 * (count - 1 - n)), *standing));
    let served = last_good.map(|_| ago(10 + 24 * count));
    let track = Track { served, since: slots.collect(), newest: Some(ago(10)) };
    verdict(&Evidence { track: Some(&track), good: last_good.map(good), ..evidence(mode) })
}

#[test]
fn a_plan_with_times_stands_as_what_became_of_its_slots_since_the_last_good_backup() {
    let (server, laptop) = (HostMode::AlwaysOn, HostMode::Intermittent);
    let days = |n: usize, standing| vec![standing; n];
    let cases: Vec<(HostMode, Option<i64>, Vec<Standing>, Verdict)> = vec![
        (server, Some(10), vec![], Verdict::Protected),
        (server, None, vec![], Verdict::Never),
        // What decides stays until there is a good backup.
        (server, Some(34), vec![Failed], Verdict::Failed),
        (laptop, Some(34), vec![Failed], Verdict::Failed),
        (server, Some(34), vec![Interrupted], Verdict::Failed),
        (server, None, vec![Failed], Verdict::Failed),
        (server, Some(34), vec![Missed], Verdict::Late),
        (laptop, Some(34), vec![Missed], Verdict::Late),
        (server, None, vec![Missed], Verdict::Never),
        (server, Some(58), vec![Failed, Unknown], Verdict::Failed),
        (server, Some(58), vec![Failed, Missed], Verdict::Late),
        (server, Some(58), vec![Missed, Failed], Verdict::Failed),
        (laptop, Some(58), vec![Missed, Asleep], Verdict::Late),
        // Somebody asked for one since, and it went well.
        (server, Some(3), vec![Failed], Verdict::Protected),
        (server, Some(3), vec![Missed, Missed], Verdict::Protected),
        // What stood in the way is no harm for a day.
        (server, Some(34), vec![Waiting], Verdict::Waiting),
        (server, Some(34), vec![Skipped], Verdict::Waiting),
        (server, Some(58), vec![Waiting, Waiting], Verdict::Late),
        (laptop, Some(58), vec![Waiting, Waiting], Verdict::Waiting),
        // A laptop sleeps until its own limit, a server does not.
        (laptop, Some(34), vec![Asleep], Verdict::Asleep),
        (laptop, Some(34 + 24 * 13), days(14, Asleep), Verdict::Asleep),
        (laptop, Some(34 + 24 * 14), days(15, Asleep), Verdict::Late),
        (server, Some(34), vec![Asleep], Verdict::Asleep),
        (server, Some(58), vec![Asleep, Asleep], Verdict::Late),
        // What nobody knows is never good.
        (server, Some(34), vec![Unknown], Verdict::Silent),
        (laptop, Some(34), vec![Unknown], Verdict::Asleep),
        (laptop, Some(34 + 24 * 13), days(14, Unknown), Verdict::Asleep),
        (laptop, Some(34 + 24 * 14), days(15, Unknown), Verdict::Silent),
        // A person's no is no failure, but no backup either.
        (server, Some(34), vec![Cancelled], Verdict::Protected),
        (server, Some(58), vec![Cancelled, Cancelled], Verdict::Late),
        (server, Some(58), vec![Waiting, Cancelled], Verdict::Late),
    ];
    for (mode, last_good, since, expected) in cases {
        assert_eq!(daily(mode, last_good, &since), expected, "{mode:?} {last_good:?} {since:?}");
    }
}

#[test]
fn where_no_slot_tells_the_calendar_does_and_then_the_age() {
    let stands = |good_hours, newest| {
        let track = Track { newest, ..Track::default() };
        let good = Some(good(good_hours));
        verdict(&Evidence { track: Some(&track), good, ..evidence(HostMode::AlwaysOn) })
    };
    // A yearly plan that ran a hundred days ago, and one that did not.
    assert_eq!(stands(24 * 100, Some(ago(24 * 100 + 1))), Verdict::Protected);
    assert_eq!(stands(24 * 100, Some(ago(24 * 99))), Verdict::Late);
    // Times that came this morning.
    assert_eq!(stands(30, Some(ago(20))), Verdict::Protected);
    assert_eq!(stands(30, None), Verdict::Protected);
}

#[test]
fn a_plan_without_times_stands_by_the_age_of_its_last_good_backup() {
    let stands =
        |mode, hours: Option<i64>| verdict(&Evidence { good: hours.map(good), ..evidence(mode) });
    assert_eq!(stands(HostMode::AlwaysOn, None), Verdict::Never);
    assert_eq!(stands(HostMode::AlwaysOn, Some(7 * 24)), Verdict::Protected);
    assert_eq!(stands(HostMode::AlwaysOn, Some(7 * 24 + 1)), Verdict::Late);
    assert_eq!(stands(HostMode::Intermittent, Some(14 * 24)), Verdict::Protected);
    assert_eq!(stands(HostMode::Intermittent, Some(14 * 24 + 1)), Verdict::Late);
    let partial = Good { is_partial: true, ..good(3) };
    let seen = Evidence { good: Some(partial), ..evidence(HostMode::AlwaysOn) };
    assert_eq!(verdict(&seen), Verdict::Partial);
    let failed = Evidence { has_failed: true, ..evidence(HostMode::AlwaysOn) };
    assert_eq!(verdict(&failed), Verdict::Failed);
    let refused = Evidence { can_run: false, ..failed };
    assert_eq!(verdict(&refused), Verdict::Refused);
}

#[test]
fn a_machine_that_is_gone_is_silent_and_a_laptop_asleep_until_its_limit() {
    let track = Track { served: Some(ago(100)), since: Vec::new(), newest: Some(ago(100)) };
    for track in [None, Some(&track)] {
        let stands = |mode, last_seen: Option<i64>| {
            let last_seen = last_seen.map(ago);
            let good = Some(good(100));
            verdict(&Evidence { is_online: false, last_seen, track, good, ..evidence(mode) })
        };
        assert_eq!(stands(HostMode::AlwaysOn, Some(24)), Verdict::Protected);
        assert_eq!(stands(HostMode::AlwaysOn, Some(25)), Verdict::Silent);
        assert_eq!(stands(HostMode::AlwaysOn, None), Verdict::Silent);
        assert_eq!(stands(HostMode::Intermittent, Some(25)), Verdict::Asleep);
        assert_eq!(stands(HostMode::Intermittent, Some(14 * 24)), Verdict::Asleep);
        assert_eq!(stands(HostMode::Intermittent, Some(14 * 24 + 1)), Verdict::Silent);
    }
}

#[test]
fn a_machine_is_as_good_as_the_worst_of_its_plans() {
    let all = [Verdict::Protected, Verdict::Partial, Verdict::Asleep, Verdict::Late];
    assert_eq!(all.into_iter().max(), Some(Verdict::Late));
    assert!(Verdict::Failed > Verdict::Refused && Verdict::Refused > Verdict::Silent);
}
