//! What version 1 agents write for "nothing": an unset time is year 1, an empty list is `null`.
//! Times on the wire are RFC 3339.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// The end of year 1, in seconds since the Unix epoch: what lies before it is an unset time.
const END_OF_YEAR_ONE: i64 = -62_104_060_800;

/// For `#[serde(default, deserialize_with = "absent_when_year_one")]`: `null`, a missing field and
/// a year-1 time are all absent.
///
/// # Errors
/// When the text is no RFC 3339 time.
pub fn absent_when_year_one<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let time = Option::<Timestamp>::deserialize(deserializer)?;
    Ok(time.filter(|time| time.as_second() >= END_OF_YEAR_ONE))
}

/// For `#[serde(default, deserialize_with = "empty_when_null")]`: a `null` list is an empty one.
pub(crate) fn empty_when_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::END_OF_YEAR_ONE;
    use jiff::Timestamp;

    #[test]
    fn the_constant_is_the_first_second_of_year_two() {
        let start: Timestamp = "0002-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(start.as_second(), END_OF_YEAR_ONE);
    }
}
