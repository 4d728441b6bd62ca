//! What the clock on the wall shows, and the one moment at which a time of it counts.

use croner::{
    errors::CronError,
    time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use std::cmp::Ordering;

/// A time on the wall, of no place. croner searches in these, where no hour is missing or doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wall(pub(crate) DateTime);

impl Wall {
    /// What the clock shows at this moment in this zone.
    pub(crate) fn at(moment: Timestamp, zone: &TimeZone) -> Self {
        Self(zone.to_datetime(moment))
    }

    /// The latest time that the clock in this zone has shown up to this moment. In the second of two equal
    /// hours that is the end of the first one. `None` where the calendar begins.
    pub(crate) fn latest_shown(moment: Timestamp, zone: &TimeZone) -> Option<Self> {
        let wall = Self::at(moment, zone);
        if wall.first_shown(zone)? >= moment {
            return Some(wall);
        }
        let instant = SignedDuration::from_nanos(1);
        let put_back = zone.preceding(moment.checked_add(instant).ok()?).next()?.timestamp();
        Some(Self::at(put_back.checked_sub(instant).ok()?, zone))
    }

    /// The first moment at which the clock in this zone shows this time or a later one: a time that is
    /// shown twice counts when it is shown first, one that is left out when the clock has jumped over it.
    /// `None` where the calendar ends.
    pub(crate) fn first_shown(self, zone: &TimeZone) -> Option<Timestamp> {
        let shown = zone.to_ambiguous_timestamp(self.0);
        match shown.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                shown.earlier().ok()
            }
            AmbiguousOffset::Gap { .. } => {
                // By the offset of before the jump it is a moment soon after the jump.
                let after = shown.compatible().ok()?;
                let jump = zone.preceding(after.checked_add(SignedDuration::from_nanos(1)).ok()?);
                Some(jump.into_iter().next()?.timestamp())
            }
        }
    }
}

impl CronDateTime for Wall {
    fn to_civil(&self) -> CivilDateTime {
        let [month, day, hour, minute, second] =
            [self.0.month(), self.0.day(), self.0.hour(), self.0.minute(), self.0.second()]
                .map(|part| u32::from(part.unsigned_abs()));
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(i32::from(self.0.year()), month, day),
            CivilTime::from_parts_unchecked(hour, minute, second),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidDate);
        let wall = DateTime::new(
            year,
            part(civil.month())?,
            part(civil.day())?,
            part(civil.hour())?,
            part(civil.minute())?,
            part(civil.second())?,
            0,
        );
        wall.map(|wall| Resolution::Single(Self(wall))).map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}
