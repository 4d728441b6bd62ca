//! When a plan runs: five-field cron in the time zone of a machine.
//!
//! croner knows the expressions and the calendar. Which moment a time on the wall is, is decided here:
//! the first at which the clock shows it or a later one. So a time in the hour that a change of the clock
//! leaves out counts once, at the end of the jump, and one in the hour that comes twice counts once, the
//! first time.

use crate::wall::Wall;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, civil::date, tz::TimeZone};
use std::{fmt, iter, str::FromStr};

/// A field of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The first.
    Minute,
    /// The second.
    Hour,
    /// The third.
    DayOfMonth,
    /// The fourth.
    Month,
    /// The fifth.
    DayOfWeek,
}

impl Field {
    const ALL: [Self; 5] =
        [Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek];

    fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of the month",
            Self::Month => "month",
            Self::DayOfWeek => "day of the week",
        }
    }

    fn values(self) -> &'static str {
        match self {
            Self::Minute => "0 to 59",
            Self::Hour => "0 to 23",
            Self::DayOfMonth => "1 to 31",
            Self::Month => "1 to 12, or jan to dec",
            Self::DayOfWeek => "0 to 7, where 0 and 7 are Sunday, or sun to sat",
        }
    }

    /// The three-letter names that it takes, from its smallest value on.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
            Self::Month => &[
                "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
            ],
            Self::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        }
    }
}

/// Why something is no expression, in words for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are too few or too many fields.
    #[error(
        "A schedule has five parts (minute, hour, day of the month, month, day of the week), and this one has {0}."
    )]
    Count(usize),
    /// A field cannot be read.
    #[error("“{text}” is no {}: use {}, *, lists such as 1,15, ranges such as 1-5 and steps such as */2.", field.name(), field.values())]
    Field {
        /// Which one.
        field: Field,
        /// What it says.
        text: String,
    },
    /// A word with an @ that is not known.
    #[error(
        "“{0}” is not known. The words are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually."
    )]
    Word(String),
    /// The day never comes.
    #[error("There is no such day in any year.")]
    Never,
}

/// An expression: five fields, or one of the @ words.
///
/// Where day of the month and day of the week both say something, either is enough, as in every cron.
#[derive(Clone)]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let spelt = if text.starts_with('@') { word(text)? } else { text };
        let fields: Vec<&str> = spelt.split_ascii_whitespace().collect();
        let Ok(fields) = <[&str; 5]>::try_from(fields.as_slice()) else {
            return Err(CronError::Count(fields.len()));
        };
        for (field, said) in Field::ALL.into_iter().zip(fields) {
            check(field, said)?;
        }
        let pattern = parse(&fields).ok_or(CronError::Never)?;
        let cron = Self { text: text.to_owned(), pattern };
        // Eight years have every day that there is: 2096 to 2104 is the longest way to a 29 February, and
        // croner goes on for millennia.
        let start = Wall(date(2096, 3, 1).at(0, 0, 0, 0));
        match cron.pattern.find_next_occurrence(&start, true) {
            Ok(_) => Ok(cron),
            Err(_) => Err(CronError::Never),
        }
    }
}

impl Cron {
    /// The first time after this moment; `None` where the calendar ends.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut wall = Wall::at(after, zone);
        loop {
            wall = self.pattern.find_next_occurrence(&wall, false).ok()?;
            // In the second of two equal hours the clock shows times that have counted already.
            let moment = wall.first_shown(zone)?;
            if moment > after {
                return Some(moment);
            }
        }
    }

    /// The last time up to this moment, itself included; `None` where the calendar begins.
    #[must_use]
    pub fn last_until(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let wall = Wall::latest_shown(until, zone)?;
        let moment = self.pattern.find_previous_occurrence(&wall, true).ok()?.first_shown(zone)?;
        // No zone that people use comes to a later one; but a machine says of its zone what it wants.
        (moment <= until).then_some(moment)
    }

    /// All times after the one moment and up to the other, itself included, in order.
    pub fn between<'a>(
        &'a self,
        after: Timestamp,
        until: Timestamp,
        zone: &'a TimeZone,
    ) -> impl Iterator<Item = Timestamp> + 'a {
        iter::successors(self.next_after(after, zone), move |at| self.next_after(*at, zone))
            .take_while(move |at| *at <= until)
    }
}

fn word(text: &str) -> Result<&'static str, CronError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return Err(CronError::Word(text.to_owned())),
    })
}

/// A field by itself: croner takes more than cron does (`L`, `W`, `#`, `?`), and does not say which field
/// it means.
fn check(field: Field, said: &str) -> Result<(), CronError> {
    let refuse = || CronError::Field { field, text: said.to_owned() };
    let parts = said.split([',', '-', '/']);
    let is_plain = |part: &str| {
        part == "*"
            || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
            || field.names().iter().any(|name| name.eq_ignore_ascii_case(part))
    };
    let mut alone = ["*"; 5];
    alone[field as usize] = said;
    if !parts.into_iter().all(is_plain) || parse(&alone).is_none() {
        return Err(refuse());
    }
    Ok(())
}

fn parse(fields: &[&str; 5]) -> Option<croner::Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&fields.join(" ")).ok()
}
