//! What became of each slot: by examples, and against an observer who sees all of a small world.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proptest::prelude::*;
use schedule::{
    Cron,
    slots::{Deferral, Known, Obstacle, Outcome, Served, Span, Standing, Time, times},
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hour(hour: i64) -> Timestamp {
    at("2026-03-01T00:00:00Z") + SignedDuration::from_hours(hour)
}

fn hourly(from: i64, until: i64) -> Vec<Time> {
    times(&"0 * * * *".parse().unwrap(), &TimeZone::UTC, hour(from), hour(until), 1_000)
}

fn run(id: u32, slot: i64, started: i64, outcome: Outcome) -> Served<u32> {
    let started = hour(started) + SignedDuration::from_mins(2);
    let finished = (outcome != Outcome::Going).then(|| started + SignedDuration::from_mins(5));
    Served { id, slot: hour(slot), started, finished, outcome }
}

fn nothing(heard: i64) -> Known<u32> {
    Known { runs: Vec::new(), deferrals: Vec::new(), awake: Vec::new(), heard_until: hour(heard) }
}

fn standings(known: &Known<u32>, times: &[Time], now: i64) -> Vec<Standing> {
    let slots = known.slots(times, times[0].slot - SignedDuration::from_mins(1), hour(now));
    slots.iter().map(|slot| slot.standing).collect()
}

#[test]
fn times_are_in_order_and_a_limit_keeps_the_newest() {
    let all = hourly(0, 5);
    assert_eq!(
        all.iter().map(|time| time.slot).collect::<Vec<_>>(),
        (1..=5).map(hour).collect::<Vec<_>>()
    );
    // Six minutes are a tenth of the hour, and five are for the word to travel.
    assert!(all.iter().all(|time| time.late == time.slot + SignedDuration::from_mins(11)));
    let cron: Cron = "0 * * * *".parse().unwrap();
    let newest = times(&cron, &TimeZone::UTC, hour(0), hour(5), 2);
    assert_eq!(newest, all[3..]);
}

#[test]
fn each_run_tells_of_its_own_slot() {
    let outcomes = [
        (Outcome::Succeeded, Standing::Ran),
        (Outcome::Partial, Standing::Partial),
        (Outcome::Failed, Standing::Failed),
        (Outcome::Cancelled, Standing::Cancelled),
        (Outcome::Interrupted, Standing::Interrupted),
        (Outcome::Going, Standing::Running),
    ];
    for (outcome, standing) in outcomes {
        let known = Known { runs: vec![run(7, 1, 1, outcome)], ..nothing(2) };
        let slots = known.slots(&hourly(0, 1), hour(0), hour(2));
        assert_eq!((slots[0].standing, slots[0].run), (standing, Some(7)));
    }
}

#[test]
fn of_several_attempts_the_one_that_worked_tells_or_else_the_last() {
    let runs = vec![
        run(1, 1, 1, Outcome::Failed),
        run(2, 1, 1, Outcome::Succeeded),
        run(3, 1, 1, Outcome::Failed),
    ];
    let known = Known { runs, ..nothing(2) };
    assert_eq!(known.slots(&hourly(0, 1), hour(0), hour(2))[0].run, Some(2));
    let last = |outcomes: &[Outcome]| {
        let runs = outcomes.iter().map(|outcome| run(1, 1, 1, *outcome)).collect();
        standings(&Known { runs, ..nothing(2) }, &hourly(0, 1), 2)
    };
    assert_eq!(last(&[Outcome::Failed, Outcome::Interrupted]), [Standing::Interrupted]);
    // Nobody hides a failure by cancelling what tries again.
    assert_eq!(last(&[Outcome::Failed, Outcome::Cancelled]), [Standing::Failed]);
    assert_eq!(last(&[Outcome::Cancelled]), [Standing::Cancelled]);
}

#[test]
fn a_later_run_makes_up_for_what_was_missed_only_if_it_wrote_a_snapshot() {
    let asleep = |outcome| Known { runs: vec![run(1, 3, 3, outcome)], ..nothing(9) };
    let three = hourly(0, 3);
    assert_eq!(
        standings(&asleep(Outcome::Succeeded), &three, 9),
        [Standing::Covered, Standing::Covered, Standing::Ran]
    );
    assert_eq!(
        standings(&asleep(Outcome::Failed), &three, 9),
        [Standing::Asleep, Standing::Asleep, Standing::Failed]
    );
    assert_eq!(
        standings(&asleep(Outcome::Going), &three, 3),
        [Standing::Due, Standing::Due, Standing::Running]
    );
}

#[test]
fn a_catch_up_that_worked_at_the_second_attempt_makes_up_for_what_was_missed() {
    let runs = vec![run(1, 3, 3, Outcome::Failed), run(2, 3, 4, Outcome::Succeeded)];
    let known = Known { runs, ..nothing(9) };
    use Standing::{Covered, Ran};
    assert_eq!(standings(&known, &hourly(0, 3), 9), [Covered, Covered, Ran]);
    // What lacks something makes up for it no better than that.
    let known = Known { runs: vec![run(1, 2, 2, Outcome::Partial)], ..nothing(9) };
    assert_eq!(standings(&known, &hourly(0, 2), 9), [Standing::Partial; 2]);
}

#[test]
fn a_run_of_a_machine_that_fell_silent_is_unknown_and_so_is_what_came_after() {
    let known = Known { runs: vec![run(1, 2, 2, Outcome::Going)], ..nothing(2) };
    use Standing::{Due, Running, Unknown};
    assert_eq!(standings(&known, &hourly(1, 3), 9), [Unknown, Unknown]);
    // As long as it is heard of, it runs.
    let known = Known { heard_until: hour(3), ..known };
    assert_eq!(standings(&known, &hourly(0, 3), 3), [Due, Running, Due]);
}

#[test]
fn what_nobody_has_heard_of_is_unknown_and_what_is_hardly_over_is_due() {
    let known = nothing(2);
    let times = hourly(0, 5);
    let slots = known.slots(&times, hour(0), hour(5) + SignedDuration::from_mins(1));
    let standings: Vec<Standing> = slots.iter().map(|slot| slot.standing).collect();
    use Standing::{Asleep, Due, Unknown};
    assert_eq!(standings, [Asleep, Unknown, Unknown, Unknown, Due]);
}

#[test]
fn awake_and_idle_is_missed_and_asleep_is_not() {
    let awake = vec![Span {
        from: hour(2) - SignedDuration::from_mins(30),
        until: hour(3) - SignedDuration::from_mins(30),
    }];
    let known = Known { awake, ..nothing(9) };
    use Standing::{Asleep, Missed};
    // What was missed at one is still due when the machine wakes up.
    assert_eq!(standings(&known, &hourly(0, 3), 9), [Missed, Missed, Asleep]);
}

#[test]
fn what_was_still_to_come_when_the_plan_got_other_times_is_no_slot_any_more() {
    use Standing::{Asleep, Missed};
    let six = hourly(0, 6);
    let standings = |known: &Known<u32>, ended| -> Vec<Standing> {
        let slots = known.slots_until(&six, hour(0), ended, hour(9));
        slots.iter().map(|slot| slot.standing).collect()
    };
    // It slept until shortly before the edit: nothing ran afterwards because nothing was to run.
    let edit = hour(6) + SignedDuration::from_mins(4);
    let awake = vec![Span { from: edit - SignedDuration::from_mins(2), until: hour(9) }];
    let known = Known { awake, ..nothing(9) };
    assert_eq!(standings(&known, None), [Missed; 6]);
    assert_eq!(standings(&known, Some(edit)), [Asleep; 5], "the sixth had time until six past");
    // Nor does what stands in the way of other times say anything of these.
    let found = Deferral { slot: hour(7), at: hour(7), obstacle: Obstacle::Repository };
    let known = Known { deferrals: vec![found], ..known };
    assert_eq!(standings(&known, Some(edit)), [Asleep; 5]);
    // What ran tells, whenever it was.
    let known = Known { runs: vec![run(1, 6, 6, Outcome::Failed)], ..known };
    assert_eq!(standings(&known, Some(edit)).last(), Some(&Standing::Failed));
}

#[test]
fn what_stands_in_the_way_holds_until_the_next_run_or_the_next_word() {
    let deferrals = vec![Deferral { slot: hour(1), at: hour(1), obstacle: Obstacle::Repository }];
    let known = Known { deferrals: deferrals.clone(), ..nothing(3) };
    use Standing::{Failed, Skipped, Unknown, Waiting};
    assert_eq!(standings(&known, &hourly(0, 4), 9), [Waiting, Waiting, Unknown, Unknown]);
    let gate = Deferral { slot: hour(2), at: hour(2), obstacle: Obstacle::Gate };
    let known = Known { deferrals: [deferrals.clone(), vec![gate]].concat(), ..nothing(9) };
    assert_eq!(standings(&known, &hourly(0, 2), 9), [Skipped, Skipped]);
    let runs = vec![run(1, 2, 2, Outcome::Failed)];
    let awake = vec![Span { from: hour(0), until: hour(9) }];
    let known = Known { runs, deferrals, awake, ..nothing(9) };
    assert_eq!(standings(&known, &hourly(0, 3), 9), [Waiting, Failed, Standing::Missed]);
}

/// One minute of the small world.
#[derive(Clone, Copy, Debug)]
struct Minute {
    is_awake: bool,
    /// A broken agent, which does nothing although it could.
    is_stuck: bool,
    obstacle: Option<Obstacle>,
}

fn minutes() -> impl Strategy<Value = Vec<Minute>> {
    let obstacle = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Obstacle::Repository)),
        1 => Just(Some(Obstacle::Gate)),
    ];
    let stretch = (1..150usize, prop::bool::weighted(0.7), prop::bool::weighted(0.15), obstacle);
    prop::collection::vec(stretch, 1..30).prop_map(|stretches| {
        stretches
            .into_iter()
            .flat_map(|(length, is_awake, is_stuck, obstacle)| {
                vec![Minute { is_awake, is_stuck: is_stuck && is_awake, obstacle }; length]
            })
            .collect()
    })
}

/// What the observer notes of a slot without a run of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    obstacle: Option<Obstacle>,
    /// For how many minutes on end the machine could have begun it.
    idle: i64,
    most_idle: i64,
    covered: Option<bool>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn slots_are_what_an_observer_of_everything_sees(
        world in minutes(),
        lengths in prop::collection::vec(1..200usize, 40),
        outcomes in prop::collection::vec(0..5usize, 40),
        cron in prop::sample::select(vec!["0 * * * *", "*/20 * * * *", "30 */3 * * *"]),
    ) {
        let cron: Cron = cron.parse().unwrap();
        let start = hour(0) - SignedDuration::from_secs(30);
        let minute = |n: usize| start + SignedDuration::from_mins(i64::try_from(n).unwrap());
        let end = minute(world.len());
        let times = times(&cron, &TimeZone::UTC, start, end, 10_000);
        let mut known = Known { heard_until: end, ..nothing(0) };
        let mut noted = vec![Noted::default(); times.len()];
        let mut served = start;
        let mut told: Option<Obstacle> = None;
        let mut going: Option<(usize, Outcome)> = None;
        let mut awake_since: Option<Timestamp> = None;
        for (n, now) in world.iter().enumerate().map(|(n, minute)| (n, *minute)) {
            let clock = minute(n);
            match (now.is_awake, awake_since) {
                (true, None) => awake_since = Some(clock),
                (false, Some(from)) => {
                    known.awake.push(Span { from, until: clock });
                    awake_since = None;
                    noted.iter_mut().for_each(|it| it.idle = 0);
                }
                (true, Some(_)) | (false, None) => {}
            }
            // A run goes on through everything, and ends while the machine is awake.
            if let Some((until, outcome)) = going && n >= until && now.is_awake {
                let run = known.runs.last_mut().unwrap();
                (run.outcome, run.finished) = (outcome, Some(clock));
                let slot = run.slot;
                for (time, it) in times.iter().zip(&mut noted) {
                    if time.slot < slot && it.covered.is_none() {
                        it.covered = Some(matches!(outcome, Outcome::Succeeded | Outcome::Partial));
                    }
                    it.idle = 0;
                }
                going = None;
            }
            let unserved = |time: &Time| time.slot > served && time.slot <= clock;
            // What was told holds until there is other word, awake or not.
            for (_, it) in times.iter().zip(&mut noted).filter(|(time, _)| unserved(time)) {
                it.obstacle = told.or(it.obstacle);
            }
            let due = times.iter().rposition(|time| time.slot <= clock);
            let Some(due) = due.filter(|due| times[*due].slot > served) else { continue };
            if going.is_some() || !now.is_awake {
                continue;
            }
            if now.is_stuck {
                for (time, it) in times.iter().zip(&mut noted) {
                    if unserved(time) {
                        it.idle += 1;
                        it.most_idle = it.most_idle.max(it.idle);
                    }
                }
            } else if let Some(obstacle) = now.obstacle {
                if told != Some(obstacle) {
                    told = Some(obstacle);
                    known.deferrals.push(Deferral { slot: times[due].slot, at: clock, obstacle });
                }
                times.iter().zip(&mut noted).filter(|(time, _)| unserved(time)).for_each(|(_, it)| it.obstacle = Some(obstacle));
            } else {
                let id = u32::try_from(known.runs.len()).unwrap();
                let outcome = [Outcome::Succeeded, Outcome::Partial, Outcome::Failed, Outcome::Cancelled, Outcome::Interrupted]
                    [outcomes[known.runs.len() % outcomes.len()]];
                let length = lengths[known.runs.len() % lengths.len()];
                served = times[due].slot;
                told = None;
                known.runs.push(Served { id, slot: served, started: clock, finished: None, outcome: Outcome::Going });
                going = Some((n + length, outcome));
            }
        }
        if let Some(from) = awake_since {
            known.awake.push(Span { from, until: end });
        }
        let slots = known.slots(&times, start, end);
        for ((time, it), slot) in times.iter().zip(&noted).zip(&slots) {
            let own = known.runs.iter().find(|run| run.slot == time.slot);
            let makes_up = known.runs.iter().find(|run| run.slot > time.slot);
            let expected = match own {
                Some(run) => vec![match run.outcome {
                    Outcome::Going => Standing::Running,
                    Outcome::Succeeded => Standing::Ran,
                    Outcome::Partial => Standing::Partial,
                    Outcome::Failed => Standing::Failed,
                    Outcome::Cancelled => Standing::Cancelled,
                    Outcome::Interrupted => Standing::Interrupted,
                }],
                None if it.covered == Some(true) => match makes_up.unwrap().outcome {
                    Outcome::Partial => vec![Standing::Partial],
                    Outcome::Going
                    | Outcome::Succeeded
                    | Outcome::Failed
                    | Outcome::Cancelled
                    | Outcome::Interrupted => vec![Standing::Covered],
                },
                None if makes_up.is_some_and(|run| run.outcome == Outcome::Going) => vec![Standing::Due],
                // That something stands in the way may be told before the slot is late.
                None if end < time.late => match it.obstacle {
                    Some(Obstacle::Repository) => vec![Standing::Due, Standing::Waiting],
                    Some(Obstacle::Gate) => vec![Standing::Due, Standing::Skipped],
                    None => vec![Standing::Due],
                },
                None if going.is_some() && makes_up.is_none() => vec![Standing::Due],
                None if it.obstacle == Some(Obstacle::Repository) => vec![Standing::Waiting],
                None if it.obstacle == Some(Obstacle::Gate) => vec![Standing::Skipped],
                // Between "for hardly long enough" and "surely long enough" either word is right.
                None if it.most_idle > 17 => vec![Standing::Missed],
                None if it.most_idle == 0 => vec![Standing::Asleep],
                None => vec![Standing::Missed, Standing::Asleep],
            };
            prop_assert!(
                expected.contains(&slot.standing),
                "{}: {:?}, the observer saw {expected:?} ({it:?})\n{known:#?}",
                time.slot, slot.standing
            );
        }
    }
}
