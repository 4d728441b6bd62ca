//! What time zones are called between an agent and its manager.

use jiff::{
    fmt::temporal::{DateTimeParser, DateTimePrinter},
    tz::{TimeZone, TimeZoneDatabase},
};

/// What a zone is called: its IANA name, else its rule as POSIX writes one, else its distance from UTC.
/// `None` for one that can only be told by its table.
#[must_use]
pub fn name(zone: &TimeZone) -> Option<String> {
    DateTimePrinter::new().time_zone_to_string(zone).ok()
}

/// The zone that is called so, by the data that the program carries: a name must not lead to a file.
#[must_use]
pub fn named(name: &str) -> Option<TimeZone> {
    DateTimeParser::new().parse_time_zone_with(&TimeZoneDatabase::bundled(), name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn what_a_zone_is_called_leads_back_to_it() {
        let summer: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        for (called, hours) in [
            ("Europe/Berlin", 2),
            ("UTC", 0),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 2),
            ("<+03>-3", 3),
            ("+05:00", 5),
        ] {
            let zone = named(called).unwrap();
            assert_eq!(zone.to_offset(summer).seconds(), hours * 3600, "{called}");
            assert_eq!(name(&zone).as_deref(), Some(called));
        }
        assert_eq!(name(&named("europe/berlin").unwrap()).as_deref(), Some("Europe/Berlin"));
        for nonsense in ["", "Atlantis/Poseidonis", "../../etc/localtime", "25:00"] {
            assert!(named(nonsense).is_none(), "{nonsense}");
        }
    }
}
