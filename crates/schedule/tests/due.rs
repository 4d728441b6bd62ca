//! What is due, whatever a machine and its clock have been through.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;
use schedule::Rhythm;

fn rhythm(text: &str, zone: &str, machine: &str) -> Rhythm {
    Rhythm::new(text.parse().unwrap(), TimeZone::get(zone).unwrap(), machine, "plan")
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn one_run_serves_all_slots_that_were_missed() {
    let nightly = rhythm("0 2 * * *", "Europe/Berlin", "a");
    let served = at("2026-03-01T01:00:00Z");
    let slot = at("2026-03-09T01:00:00Z");
    let now = at("2026-03-09T08:00:00Z");
    assert_eq!(nightly.due(served, now), Some(slot));
    assert_eq!(nightly.wakes(served, now), Some(now));
    // Once it is served, the next one is the next night's.
    assert_eq!(nightly.due(slot, now), None);
    let next = at("2026-03-10T01:00:00Z");
    let begins = nightly.begins(next);
    assert!(begins >= next && begins < next + SignedDuration::from_mins(10));
    assert_eq!(nightly.wakes(slot, now), Some(begins));
}

#[test]
fn a_slot_is_not_due_before_its_delay_is_over_and_what_was_missed_before_it_is() {
    let hourly = (0..100).map(|n| rhythm("0 * * * *", "UTC", &format!("machine {n}")));
    // One of them waits long enough for the test to stand in between.
    let slot = at("2026-03-01T05:00:00Z");
    let hourly =
        hourly.into_iter().find(|it| it.begins(slot) > slot + SignedDuration::from_mins(3));
    let hourly = hourly.unwrap();
    let before = slot + SignedDuration::from_mins(1);
    let four = at("2026-03-01T04:00:00Z");
    assert_eq!(hourly.due(four, before), None);
    assert_eq!(hourly.wakes(four, before), Some(hourly.begins(slot)));
    assert_eq!(hourly.due(four, hourly.begins(slot)), Some(slot));
    // The four o'clock run is late already, so it does not wait for the delay of the next.
    let three = at("2026-03-01T03:00:00Z");
    assert_eq!(hourly.due(three, before), Some(four));
}

#[test]
fn a_plan_is_overdue_once_it_missed_two_slots_but_not_at_once_and_within_a_day() {
    for (cron, good, overdue) in [
        ("0 2 * * *", "2026-03-05T02:00:10Z", "2026-03-07T02:15:00Z"),
        ("0 * * * *", "2026-03-05T02:00:10Z", "2026-03-05T04:15:00Z"),
        ("*/5 * * * *", "2026-03-05T02:00:10Z", "2026-03-05T03:20:00Z"),
        ("0 2 * * 0", "2026-03-01T02:00:10Z", "2026-03-09T02:15:00Z"),
    ] {
        let rhythm = rhythm(cron, "UTC", "a");
        assert_eq!(rhythm.overdue_at(at(good), SignedDuration::ZERO), Some(at(overdue)), "{cron}");
        // Patience that is shorter changes nothing.
        let hour = SignedDuration::from_hours(1);
        assert_eq!(rhythm.overdue_at(at(good), hour), Some(at(overdue)), "{cron}");
        let week = SignedDuration::from_hours(24 * 7);
        let late = rhythm.overdue_at(at(good), week).unwrap();
        let missed = late - week;
        assert!(missed > at(good) && missed < at(overdue), "{cron}");
    }
}

#[test]
fn machines_spread_and_each_keeps_its_place() {
    let slot = at("2026-03-01T02:00:00Z");
    let delays: Vec<SignedDuration> = (0..200)
        .map(|n| rhythm("0 2 * * *", "UTC", &n.to_string()).begins(slot).duration_since(slot))
        .collect();
    let half = SignedDuration::from_mins(5);
    let early = delays.iter().filter(|delay| **delay < half).count();
    assert!((60..=140).contains(&early), "{early} of 200 begin in the first half");
    assert!(delays.iter().all(|delay| *delay < half * 2));
    let again = rhythm("0 2 * * *", "UTC", "7").begins(slot).duration_since(slot);
    assert_eq!(again, delays[7]);
    let each_minute = rhythm("* * * * *", "UTC", "7").begins(slot).duration_since(slot);
    assert!(each_minute < SignedDuration::from_secs(6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A machine that is on and off at random serves the newest slot whose time has come, in order, each once
    /// and nothing before its time.
    #[test]
    fn nothing_is_served_twice_or_left_out(
        text in prop::sample::select(vec!["*/7 * * * *", "0 * * * *", "30 2 * * *", "15 4 * * mon", "0 0 1 * *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        naps in prop::collection::vec(1..100_000_i64, 1..30),
        start in 1_580_000_000..2_000_000_000_i64,
    ) {
        let rhythm = rhythm(text, zone, "machine");
        let began = Timestamp::from_second(start).unwrap();
        let cron: schedule::Cron = text.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let (mut served, mut now) = (began, began);
        for nap in naps {
            now += SignedDuration::from_secs(nap);
            let come = |slot: &Timestamp| rhythm.begins(*slot) <= now;
            let newest = cron.between(served, now, &zone).filter(come).last();
            prop_assert_eq!(rhythm.due(served, now), newest);
            if let Some(slot) = newest {
                prop_assert_eq!(rhythm.wakes(served, now), Some(now));
                served = slot;
                prop_assert_eq!(rhythm.due(served, now), None);
            }
            let wakes = rhythm.wakes(served, now).unwrap();
            prop_assert!(wakes > now);
            prop_assert!(rhythm.due(served, wakes).is_some());
            prop_assert!(rhythm.due(served, wakes - SignedDuration::from_nanos(1)).is_none());
        }
    }
}
