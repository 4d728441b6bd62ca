//! The slots of an expression against a second implementation, which is slow and obvious: it walks through
//! time minute by minute and looks at the clock on the wall.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use jiff::{
    SignedDuration, Timestamp,
    civil::{DateTime, date},
    tz::TimeZone,
};
use proptest::{prelude::*, sample::select};
use schedule::Cron;
use std::collections::BTreeSet;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Five sets of numbers, and whether the two fields of days say anything.
struct Obvious {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    any_day: bool,
    any_weekday: bool,
}

impl Obvious {
    fn new(text: &str) -> Self {
        let fields: Vec<&str> = text.split(' ').collect();
        let mut weekdays = set(fields[4], 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);
        if weekdays.remove(&7) {
            weekdays.insert(0);
        }
        let months = [
            "", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ];
        Self {
            minutes: set(fields[0], 0, 59, &[]),
            hours: set(fields[1], 0, 23, &[]),
            days: set(fields[2], 1, 31, &[]),
            months: set(fields[3], 1, 12, &months),
            weekdays,
            any_day: fields[2] == "*",
            any_weekday: fields[4] == "*",
        }
    }

    fn has(&self, wall: DateTime) -> bool {
        let number = |part: i8| u32::from(part.unsigned_abs());
        let day = self.days.contains(&number(wall.day()));
        let weekday =
            self.weekdays.contains(&number(wall.date().weekday().to_sunday_zero_offset()));
        let day = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        self.minutes.contains(&number(wall.minute()))
            && self.hours.contains(&number(wall.hour()))
            && self.months.contains(&number(wall.month()))
            && day
    }

    /// The moments in a span at which the clock shows one of the times, or a later one, for the first time.
    fn between(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let mut found = Vec::new();
        // What the clock had shown before the span began: in these years none is put back by more than two.
        let mut at = whole_minute(after - SignedDuration::from_hours(4));
        let mut highest = shown(at, zone);
        while at < until {
            at += MINUTE;
            let now = shown(at, zone);
            let mut is_slot = false;
            while highest < now {
                highest += MINUTE;
                is_slot |= self.has(highest);
            }
            if is_slot && at > after && at <= until {
                found.push(at);
            }
        }
        found
    }
}

fn set(field: &str, low: u32, high: u32, names: &[&str]) -> BTreeSet<u32> {
    let number = |text: &str| {
        let name = names.iter().position(|name| !name.is_empty() && *name == text);
        name.map_or_else(|| text.parse().unwrap(), |at| u32::try_from(at).unwrap())
    };
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part
            .split_once('/')
            .map_or((part, 1), |(range, step)| (range, step.parse::<u32>().unwrap()));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from), number(to)),
            None if range == "*" => (low, high),
            None => (number(range), number(range)),
        };
        all.extend((from..=to).step_by(step as usize));
    }
    all
}

fn whole_minute(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(60) * 60).unwrap()
}

fn shown(at: Timestamp, zone: &TimeZone) -> DateTime {
    zone.to_datetime(at)
}

fn start() -> Timestamp {
    "2020-01-01T00:00:00Z".parse().unwrap()
}

fn end() -> Timestamp {
    "2036-01-01T00:00:00Z".parse().unwrap()
}

/// Both ways to the slots of a span, and each of the small questions about it.
fn agree(text: &str, zone: &TimeZone, after: Timestamp, until: Timestamp) {
    let cron: Cron = text.parse().unwrap();
    let name = zone.iana_name().unwrap_or("?");
    let slots: Vec<Timestamp> = cron.between(after, until, zone).collect();
    assert_eq!(
        slots,
        Obvious::new(text).between(after, until, zone),
        "{text} in {name} after {after}"
    );
    for pair in slots.windows(2) {
        // In between as well: there the clock may show an hour for the second time.
        for quarter in 1..4 {
            let moment = pair[0] + pair[1].duration_since(pair[0]) / 4 * quarter;
            assert_eq!(
                cron.last_until(moment, zone),
                Some(pair[0]),
                "{text} in {name} at {moment}"
            );
        }
        assert_eq!(cron.last_until(pair[1] - SignedDuration::from_nanos(1), zone), Some(pair[0]));
        assert_eq!(cron.last_until(pair[1], zone), Some(pair[1]), "{text} in {name}");
    }
    // Also where no slot begins: in the second of two equal hours the first one's have counted.
    let mut at = after;
    let step = (until.duration_since(after) / 40).max(MINUTE * 7);
    while at < until {
        if let Some(last) = slots.iter().rfind(|slot| **slot <= at) {
            assert_eq!(cron.last_until(at, zone), Some(*last), "{text} in {name} until {at}");
        }
        at += step;
    }
    if let Some(last) = slots.last() {
        assert_eq!(cron.last_until(until, zone), Some(*last), "{text} in {name} until {until}");
    }
}

/// Every zone there is, and of several with one history the first.
fn zones() -> Vec<TimeZone> {
    // Whoever runs this without a time zone database would test nothing.
    assert!(jiff::tz::db().available().count() > 400);
    let mut seen = BTreeSet::new();
    let zones = jiff::tz::db().available().filter_map(|name| {
        let zone = jiff::tz::db().get(name.as_str()).unwrap();
        let history: Vec<(Timestamp, i32)> = zone
            .following(start())
            .take_while(|change| change.timestamp() < end())
            .map(|change| (change.timestamp(), change.offset().seconds()))
            .collect();
        seen.insert((zone.to_offset(start()).seconds(), history)).then_some(zone)
    });
    zones.collect()
}

#[test]
fn a_zone_that_nobody_has_ends_the_search_and_leads_nowhere_later() {
    let (after, until): (Timestamp, Timestamp) =
        ("2026-10-23T12:00:00Z".parse().unwrap(), "2026-11-23T12:00:00Z".parse().unwrap());
    for name in ["AAA24:59:59BBB-24:59:59,J320/0,J321/0", "AAA22:50BBB-11:34,J298/165,J303/106"] {
        let zone = schedule::zone::named(name).unwrap();
        for text in ["* * * * *", "0 * * * *", "0 2 * * *"] {
            let cron: Cron = text.parse().unwrap();
            let slots = schedule::slots::times(&cron, &zone, after, until, 45_000);
            assert!(slots.len() < 45_000, "{text} in {name}");
            assert!(slots.iter().all(|it| it.slot > after && it.slot <= until), "{text} in {name}");
            assert!(slots.windows(2).all(|it| it[0].slot < it[1].slot), "{text} in {name}");
        }
    }
}

#[test]
fn around_every_change_of_every_clock() {
    let around = SignedDuration::from_hours(3);
    let mut changes = 0;
    for zone in zones() {
        for change in zone.following(start()).take_while(|change| change.timestamp() < end()) {
            for text in ["* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "5 0-4 * * *"] {
                agree(text, &zone, change.timestamp() - around, change.timestamp() + around);
            }
            changes += 1;
        }
    }
    assert!(changes > 1_000, "{changes} changes");
}

#[test]
fn every_zone_has_its_day_everywhere_in_these_years() {
    let cron: Cron = "17 3 * * *".parse().unwrap();
    for zone in zones() {
        let slots: Vec<Timestamp> = cron.between(start(), end(), &zone).collect();
        let days: BTreeSet<_> = slots.iter().map(|at| shown(*at, &zone).date()).collect();
        // Sixteen years, four of them with a 29 February; one day may begin before or end after them.
        assert!((5_843..=5_845).contains(&slots.len()), "{zone:?}: {}", slots.len());
        assert_eq!(days.len(), slots.len(), "{zone:?}");
    }
}

#[test]
fn in_the_second_of_two_equal_hours_the_slots_of_the_first_have_come() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let cron: Cron = "30 * * * *".parse().unwrap();
    // The clock shows 02:30 at 00:30 UTC, and goes back from 03:00 to 02:00 at 01:00 UTC.
    let first: Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
    for second in ["2026-10-25T01:00:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:59:59Z"] {
        assert_eq!(cron.last_until(second.parse().unwrap(), &zone), Some(first), "{second}");
    }
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let single = (low..=high).prop_map(|n| n.to_string());
    let range = (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let stepped = (prop_oneof![Just("*".to_owned()), range.clone()], 1..=high.max(2))
        .prop_map(|(range, step)| format!("{range}/{step}"));
    let one = prop_oneof![single, range, stepped];
    prop_oneof![
        3 => Just("*".to_owned()),
        4 => proptest::collection::vec(one, 1..4).prop_map(|parts| parts.join(",")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let names =
        select(vec!["mon", "fri", "sun", "mon-fri", "sat,sun", "tue-thu"]).prop_map(str::to_owned);
    let weekday = prop_oneof![5 => field(0, 7), 1 => names];
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), weekday).prop_map(
        |(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_expression_anywhere_at_any_time(
        text in expression(),
        zone in select(zones()),
        minute in 0..8_415_360_i64,
        second in 0..60_i64,
    ) {
        // Days that no year has are refused, which another test looks at.
        prop_assume!(text.parse::<Cron>().is_ok());
        let after = start() + SignedDuration::from_secs(minute * 60 + second);
        agree(&text, &zone, after, after + SignedDuration::from_hours(60));
    }
}

#[test]
fn what_is_no_expression_is_refused_in_words() {
    let said = |text: &str| text.parse::<Cron>().unwrap_err().to_string();
    assert!(said("* * * *").contains("this one has 4"), "{}", said("* * * *"));
    assert!(said("0 0 0 * * *").contains("this one has 6"));
    assert!(said("").contains("this one has 0"));
    assert!(
        said("60 * * * *").contains("“60” is no minute: use 0 to 59"),
        "{}",
        said("60 * * * *")
    );
    assert!(said("0 24 * * *").contains("“24” is no hour"));
    assert!(said("0 0 0 * *").contains("no day of the month"));
    assert!(said("0 0 * 13 *").contains("no month"));
    assert!(said("0 0 * * 8").contains("no day of the week"));
    assert!(said("@reboot").contains("“@reboot” is not known"));
    for text in [
        "0 0 L * *",
        "0 0 15W * *",
        "0 0 * * 5#2",
        "0 0 ? * *",
        "0 0 * mon *",
        "0 0 * * jan",
        "0 0 * * -5",
        "5- * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "0/5 * * * *",
        "+1 * * * *",
        "20-10 * * * *",
        "5/70 * * * *",
        "99999999999 * * * *",
        "0 0 * * monday",
        "* * * * * ;",
    ] {
        assert!(text.parse::<Cron>().is_err(), "{text} was taken");
    }
    assert_eq!(said("0 0 30 2 *"), "There is no such day in any year.");
    assert_eq!(said("0 0 31 4,6,9,11 *"), "There is no such day in any year.");
    let leap: Cron = "0 0 29 2 *".parse().unwrap();
    let zone = TimeZone::UTC;
    let after = zone.to_timestamp(date(2096, 3, 1).at(0, 0, 0, 0)).unwrap();
    assert_eq!(leap.next_after(after, &zone).unwrap().to_string(), "2104-02-29T00:00:00Z");
}

#[test]
fn words_and_names_mean_what_they_say() {
    let zone = TimeZone::UTC;
    let five = |text: &str| -> Vec<Timestamp> {
        let cron: Cron = text.parse().unwrap();
        let until = start() + SignedDuration::from_hours(24 * 2_000);
        cron.between(start(), until, &zone).take(5).collect()
    };
    for (word, spelt) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        (" @Monthly ", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("0 0 * JAN-mar Mon", "0 0 * 1-3 1"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * fri-sun", "0 0 * * 5,6,0"),
        ("0  6\t* * *", "0 6 * * *"),
    ] {
        assert_eq!(five(word), five(spelt), "{word}");
        assert_eq!(five(word).len(), 5);
    }
}

#[test]
fn in_the_second_of_two_equal_hours_the_last_time_is_one_of_the_first() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let cron: Cron = "*/5 * * * *".parse().unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // Six minutes past two, again: what ran at five to three has not been and gone an hour ago.
    let last = cron.last_until(at("2026-10-25T01:06:00Z"), &zone);
    assert_eq!(last, Some(at("2026-10-25T00:55:00Z")));
    assert_eq!(
        cron.last_until(at("2026-10-25T00:06:00Z"), &zone),
        Some(at("2026-10-25T00:05:00Z"))
    );
}
