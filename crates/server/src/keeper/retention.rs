//! Which snapshots stay, by the time at which the store received them.
//!
//! What a snapshot says of its own time is its machine's claim: three snapshots dated into the future
//! push the genuine ones out of restic's own counting rules. Those rules are kept here (restic's
//! `ApplyPolicy`, internal/data/snapshot_policy.go), over the manager's own clock, in UTC.

use jiff::{Span, Timestamp, civil::ISOWeekDate, tz::TimeZone};
use outcome::verdict;
use protocol::{Problem, Retention};
use restic::Within;

/// A snapshot as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its full id.
    pub id: String,
    /// When the store received it.
    pub at: Timestamp,
}

/// Splits snapshots into those that stay and those that go, each newest first.
///
/// # Errors
/// When the span of time to keep cannot be read.
pub(super) fn split(
    mut all: Vec<Arrived>,
    retention: &Retention,
) -> Result<(Vec<Arrived>, Vec<Arrived>), Problem> {
    // By id where two came in the same millisecond, so that a preview tells what will happen.
    all.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
    let since = match (within(retention)?, all.first()) {
        (Some(span), Some(newest)) => Some(back(newest.at, span)),
        _ => None,
    };
    let mut rules = rules(retention);
    let oldest = all.len().saturating_sub(1);
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for (index, one) in all.into_iter().enumerate() {
        let mut stays = since.is_some_and(|since| one.at > since);
        for rule in &mut rules {
            stays |= rule.takes(index, one.at, index == oldest);
        }
        if stays { stay.push(one) } else { go.push(one) }
    }
    Ok((stay, go))
}

/// Which bucket a snapshot falls into, by its place from the newest and its time.
type Bucket = fn(usize, Timestamp) -> i64;

/// One counting rule.
struct Rule {
    left: u32,
    bucket: Bucket,
    last: Option<i64>,
}

impl Rule {
    /// Whether this one is the newest of its bucket, while there are buckets left to fill. The oldest
    /// of all stays as long as there are: a history that begins in the middle of a year has a first
    /// of that year.
    fn takes(&mut self, index: usize, at: Timestamp, is_oldest: bool) -> bool {
        let bucket = (self.bucket)(index, at);
        if self.left == 0 || self.last == Some(bucket) && !is_oldest {
            return false;
        }
        self.last = Some(bucket);
        self.left -= 1;
        true
    }
}

fn rules(retention: &Retention) -> Vec<Rule> {
    let counts: [(Option<u32>, Bucket); 6] = [
        (retention.keep_last, |index, _| i64::try_from(index).unwrap_or(i64::MAX)),
        (retention.keep_hourly, |_, at| at.as_second().div_euclid(3_600)),
        (retention.keep_daily, |_, at| at.as_second().div_euclid(86_400)),
        (retention.keep_weekly, |_, at| week(at)),
        (retention.keep_monthly, |_, at| {
            let date = at.to_zoned_datetime(TimeZone::UTC);
            i64::from(date.year()) * 12 + i64::from(date.month())
        }),
        (retention.keep_yearly, |_, at| i64::from(at.to_zoned_datetime(TimeZone::UTC).year())),
    ];
    let rules = counts.into_iter().filter_map(|(left, bucket)| {
        let left = left.filter(|left| *left > 0)?;
        Some(Rule { left, bucket, last: None })
    });
    rules.collect()
}

fn week(at: Timestamp) -> i64 {
    let date: ISOWeekDate = at.to_zoned_datetime(TimeZone::UTC).date().iso_week_date();
    i64::from(date.year()) * 100 + i64::from(date.week())
}

fn within(retention: &Retention) -> Result<Option<Within>, Problem> {
    let text = retention.keep_within.as_deref().map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| Within::parse(text).map_err(|failure| verdict::problem(&failure))).transpose()
}

/// The time this long before. A span that reaches back beyond all time keeps everything.
fn back(from: Timestamp, span: Within) -> Timestamp {
    let read = || {
        let years = Span::new().try_years(span.years).ok()?;
        let months = years.try_months(span.months).ok()?;
        let days = months.try_days(span.days).ok()?;
        days.try_hours(span.hours).ok()
    };
    let earlier =
        read().and_then(|span| from.to_zoned_datetime(TimeZone::UTC).checked_sub(span).ok());
    earlier.map_or(Timestamp::MIN, |earlier| earlier.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(times: &[&str]) -> Vec<Arrived> {
        let one =
            |(n, at): (usize, &&str)| Arrived { id: format!("{n:064x}"), at: at.parse().unwrap() };
        times.iter().enumerate().map(one).collect()
    }

    /// The numbers of those that stay, newest first.
    fn stay(times: &[&str], retention: &Retention) -> Vec<usize> {
        let (stay, go) = split(arrived(times), retention).unwrap();
        assert_eq!(stay.len() + go.len(), times.len());
        stay.iter().map(|one| usize::from_str_radix(&one.id, 16).unwrap()).collect()
    }

    const DAYS: [&str; 6] = [
        "2026-11-20T01:00:00Z",
        "2026-11-21T01:00:00Z",
        "2026-11-22T01:00:00Z",
        "2026-11-23T01:00:00Z",
        "2026-11-23T23:00:00Z",
        "2026-11-24T01:00:00Z",
    ];

    #[test]
    fn the_newest_of_each_day_stays_and_the_last_ones_whatever_their_day() {
        let daily = Retention { keep_daily: Some(3), ..Retention::default() };
        assert_eq!(stay(&DAYS, &daily), [5, 4, 2]);
        let last = Retention { keep_last: Some(2), ..Retention::default() };
        assert_eq!(stay(&DAYS, &last), [5, 4]);
        let both = Retention { keep_last: Some(4), keep_daily: Some(2), ..Retention::default() };
        assert_eq!(stay(&DAYS, &both), [5, 4, 3, 2]);
    }

    #[test]
    fn the_oldest_stays_while_a_rule_has_room() {
        let yearly = Retention { keep_yearly: Some(3), ..Retention::default() };
        assert_eq!(stay(&DAYS, &yearly), [5, 0]);
        let one_year = Retention { keep_yearly: Some(1), ..Retention::default() };
        assert_eq!(stay(&DAYS, &one_year), [5]);
        let weekly = Retention { keep_weekly: Some(2), ..Retention::default() };
        // 22 November 2026 is a Sunday.
        assert_eq!(stay(&DAYS, &weekly), [5, 2]);
        let monthly = Retention { keep_monthly: Some(2), ..Retention::default() };
        assert_eq!(stay(&DAYS, &monthly), [5, 0]);
    }

    #[test]
    fn a_span_counts_from_the_newest_that_arrived() {
        let within =
            |span: &str| Retention { keep_within: Some(span.to_owned()), ..Retention::default() };
        assert_eq!(stay(&DAYS, &within("1d")), [5, 4]);
        assert_eq!(stay(&DAYS, &within("2d3h")), [5, 4, 3, 2]);
        assert_eq!(stay(&DAYS, &within("999999y")), [5, 4, 3, 2, 1, 0]);
        assert!(split(arrived(&DAYS), &within("soon")).is_err());
    }

    #[test]
    fn snapshots_that_arrive_at_once_fill_one_day_only() {
        let mut times = DAYS.to_vec();
        times.extend(["2026-11-24T02:00:00Z"; 50]);
        let daily = Retention { keep_daily: Some(3), ..Retention::default() };
        assert_eq!(stay(&times, &daily).len(), 3);
        assert!(stay(&times, &daily).ends_with(&[4, 2]));
    }

    #[test]
    fn nothing_is_split_into_nothing() {
        let daily = Retention { keep_daily: Some(3), ..Retention::default() };
        assert_eq!(split(Vec::new(), &daily).unwrap(), (Vec::new(), Vec::new()));
    }
}
