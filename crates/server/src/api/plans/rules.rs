//! What a plan must be like.

use crate::{
    api::{
        check,
        error::{ApiError, ApiResult},
    },
    presets,
};
use protocol::{Code, Problem, Retention, is_reserved_tag};
use restic::is_absolute_path;
use schedule::{Cron, CronError};

const MAX_ENTRIES: usize = 500;
const MAX_CHARS: usize = 4096;

/// The paths: at least one, each absolute on one of the systems.
///
/// # Errors
/// Why they are refused.
pub fn paths(paths: &[String]) -> ApiResult<()> {
    if paths.is_empty() {
        return Err(ApiError::invalid("paths", "A plan needs at least one path to back up."));
    }
    entries("paths", paths)?;
    match paths.iter().find(|path| !is_absolute_path(path)) {
        None => Ok(()),
        Some(path) => Err(ApiError::invalid(
            "paths",
            format!("{path} is not absolute; begin it with / or with a drive such as C:\\."),
        )),
    }
}

/// The excludes: patterns of any form.
///
/// # Errors
/// Why they are refused.
pub fn excludes(excludes: &[String]) -> ApiResult<()> {
    entries("excludes", excludes)
}

/// The presets: names of sets that there are, each once.
///
/// # Errors
/// Why they are refused.
pub fn presets(names: &[String]) -> ApiResult<()> {
    for (at, name) in names.iter().enumerate() {
        if presets::find(name).is_none() {
            return Err(ApiError::invalid("presets", "There is no such set of excludes."));
        }
        if names[..at].contains(name) {
            return Err(ApiError::invalid("presets", "A set of excludes is named twice."));
        }
    }
    Ok(())
}

/// The tags: without commas, which restic takes for several tags, and outside of what the manager
/// itself writes.
///
/// # Errors
/// Why they are refused.
pub fn tags(tags: &[String]) -> ApiResult<()> {
    entries("tags", tags)?;
    for tag in tags {
        if tag.contains(',') {
            return Err(ApiError::invalid("tags", "A tag must not contain a comma."));
        }
        if tag.trim() != tag || tag.chars().count() > 100 {
            return Err(ApiError::invalid(
                "tags",
                "A tag must not begin or end with a blank or be longer than 100 characters.",
            ));
        }
        if is_reserved_tag(tag) {
            return Err(ApiError::invalid(
                "tags",
                "Tags that begin with plan:, host: or run: are the manager's own.",
            ));
        }
    }
    Ok(())
}

/// The retention: if there is one, it must keep something.
///
/// # Errors
/// Why it is refused.
pub fn retention(retention: &Retention) -> ApiResult<()> {
    if retention.is_empty() {
        return Err(Problem::new(
            Code::RetentionEmpty,
            "This retention keeps nothing: forget would delete every snapshot.",
        )
        .guidance("Keep at least something, or leave the retention out to keep all.")
        .field("retention")
        .into());
    }
    match retention.keep_within.as_deref() {
        Some(within) if !is_duration(within) => Err(ApiError::invalid(
            "retention.keep_within",
            "It must be a time such as 1y5m7d2h, with years, months, days and hours in this order.",
        )),
        _ => Ok(()),
    }
}

/// The times.
///
/// # Errors
/// Why they are refused.
pub fn cron(text: &str) -> ApiResult<Cron> {
    text.parse().map_err(|error: CronError| ApiError::invalid("cron", error.to_string()))
}

/// restic's durations: numbers with `y`, `m`, `d`, `h`, each at most once and in this order.
fn is_duration(text: &str) -> bool {
    let mut units = "ymdh".chars();
    let mut digits = 0;
    let mut is_positive = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits += 1;
            is_positive |= c != '0';
        } else if digits == 0 || digits > 6 || !units.any(|unit| unit == c) {
            return false;
        } else {
            digits = 0;
        }
    }
    !text.is_empty() && digits == 0 && is_positive
}

fn entries(field: &str, entries: &[String]) -> ApiResult<()> {
    if entries.len() > MAX_ENTRIES {
        return Err(ApiError::invalid(field, "There are more than 500 entries."));
    }
    for entry in entries {
        if entry.trim().is_empty() {
            return Err(ApiError::invalid(field, "An entry is empty."));
        }
        if entry.chars().count() > MAX_CHARS {
            return Err(ApiError::invalid(field, "An entry is longer than 4096 characters."));
        }
        check::plain(field, entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn paths_are_absolute_on_one_of_the_systems() {
        for good in ["/", "/etc", r"C:\Users", "d:/x", r"\\nas\share"] {
            assert!(paths(&list(good)).is_ok(), "{good}");
        }
        for bad in ["", " ", "etc", "./etc", "~", "C:", "C:x", "--files-from", "/a\nb"] {
            assert!(paths(&list(bad)).is_err(), "{bad:?}");
        }
        assert!(paths(&[]).is_err());
        assert!(paths(&vec!["/x".to_owned(); 501]).is_err());
    }

    #[test]
    fn tags_stay_out_of_what_the_manager_writes() {
        assert!(tags(&list("nightly")).is_ok());
        for bad in ["a,b", "plan:x", "run:x", "host:x", "PLAN:x", "Host:x", " a", ""] {
            assert!(tags(&list(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_retention_keeps_something() {
        let keep = |within: &str| Retention {
            keep_within: Some(within.to_owned()),
            ..Retention::default()
        };
        assert!(retention(&Retention { keep_daily: Some(7), ..Retention::default() }).is_ok());
        for good in ["7d", "1y5m7d2h", "12h", "1y2h"] {
            assert!(retention(&keep(good)).is_ok(), "{good}");
        }
        for bad in ["", "7", "d", "7w", "2h1y", "7d7d", "0d", "-1d", "7d ", "9999999d"] {
            assert!(retention(&keep(bad)).is_err(), "{bad:?}");
        }
        assert!(retention(&Retention::default()).is_err());
        assert!(retention(&Retention { keep_last: Some(0), ..Retention::default() }).is_err());
    }
}
