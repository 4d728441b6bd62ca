//! The desired state: what this machine shall protect, and with what. One owner-only file, replaced
//! as a whole; beside the key it is the one place of secrets.

use crate::paths::{StateDir, keep_aside, replace_file};
use anyhow::{Context, Result};
use jiff::SignedDuration;
use protocol::{
    AlarmChannel, ConfigUpdate, Generation, JobKind, MAX_ADDRESSES, PlanId, RepositoryConfig,
    RepositoryId, Schedule, ScheduleSet, is_address,
};
use serde::{Deserialize, Serialize};
use std::{fs, io::ErrorKind, path::PathBuf};

/// The desired state of one generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Its place in the manager's series.
    pub generation: Generation,
    /// The manager's digest of it, opaque here.
    pub digest: Option<String>,
    /// The `version` of the message, to be repeated in the acknowledgement.
    pub version: i64,
    /// All repositories.
    pub repositories: Vec<RepositoryConfig>,
    /// All plans.
    pub schedules: Vec<Schedule>,
    /// Where the manager says that it can be dialled, best first.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// By which ways this machine tells people that a plan failed or is overdue.
    #[serde(default)]
    pub alarm_channels: Vec<AlarmChannel>,
    /// What this machine is called in the fleet, where the manager says it.
    #[serde(default)]
    pub machine: Option<String>,
    /// For how many days a plan may miss its times before it is overdue, where the machine is intermittent.
    #[serde(default)]
    pub stale_after_days: Option<u32>,
}

impl Desired {
    /// For how long a plan may miss its times before it is overdue; none on a machine that is always on.
    #[must_use]
    pub fn patience(&self) -> SignedDuration {
        let days = self.stale_after_days.unwrap_or(0);
        SignedDuration::from_hours(24 * i64::from(days))
    }

    /// Puts the two messages of one generation together; none if they are not of one generation.
    #[must_use]
    pub fn from_messages(config: ConfigUpdate, set: ScheduleSet) -> Option<Self> {
        let generation = set.generation?;
        if config.generation != Some(generation) {
            return None;
        }
        Some(Self {
            generation,
            digest: set.digest,
            version: set.version,
            repositories: config.repositories?,
            schedules: set.schedules,
            // What is none can be dialled by nobody, and must not reach a terminal.
            addresses: config
                .addresses
                .into_iter()
                .filter(|address| is_address(address))
                .take(MAX_ADDRESSES)
                .collect(),
            alarm_channels: config.alarm_channels,
            machine: config.machine,
            stale_after_days: config.stale_after_days,
        })
    }

    /// The repository of this name; without a name the only one there is.
    #[must_use]
    pub fn repository(&self, id: Option<RepositoryId>) -> Option<&RepositoryConfig> {
        match (id, self.repositories.as_slice()) {
            (Some(id), all) => all.iter().find(|repository| repository.id == id),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The backup plan of this name; without a name the only one there is.
    #[must_use]
    pub fn plan(&self, id: Option<PlanId>) -> Option<&Schedule> {
        let mut plans = self.schedules.iter().filter(|plan| plan.kind == JobKind::Backup);
        match id {
            Some(id) => plans.find(|plan| plan.id == id),
            None => plans.next().filter(|_| plans.next().is_none()),
        }
    }
}

/// What was found in the state folder.
#[derive(Debug)]
pub enum Found {
    /// There is none yet.
    Nothing,
    /// The stored one.
    Stored(Box<Desired>),
    /// It could not be read and was kept aside, here.
    Unreadable {
        /// Where the file is now.
        kept: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads the stored desired state. A file that cannot be read is kept aside: writing over it would
/// destroy the only evidence.
///
/// # Errors
/// When the file cannot be opened, or not be kept aside.
pub fn load(state: &StateDir, stamp: &str) -> Result<Found> {
    match peek(state)? {
        None => Ok(Found::Nothing),
        Some(Ok(desired)) => Ok(Found::Stored(desired)),
        Some(Err(why)) => {
            let path = state.desired();
            let kept = keep_aside(&path, stamp)
                .with_context(|| format!("Failed to keep {} aside", path.display()))?;
            Ok(Found::Unreadable { kept, why })
        }
    }
}

/// Looks at the stored desired state and changes nothing: it, or what is wrong with it, or none.
///
/// # Errors
/// When the file cannot be opened.
pub fn peek(state: &StateDir) -> Result<Option<Result<Box<Desired>, String>>> {
    let path = state.desired();
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("Failed to open {}", path.display()));
        }
    };
    // Only the place of the fault is told: serde's own words may quote the content.
    Ok(Some(serde_json::from_slice(&text).map_err(|error| {
        format!("it is damaged at line {}, column {}", error.line(), error.column())
    })))
}

/// Writes the desired state, all or nothing.
///
/// # Errors
/// As the file system says; the old state is untouched then.
pub fn save(state: &StateDir, desired: &Desired) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(desired).context("Failed to write the desired state as JSON")?;
    replace_file(&state.desired(), &text).context("Failed to store the desired state")?;
    Ok(())
}

/// Where to dial: what the manager says now, then what the enrolment said, so that a list by which
/// nobody can be reached is not the last one.
pub(crate) fn addresses(desired: Option<&Desired>, enrolled: &[String]) -> Vec<String> {
    let told = desired.map_or(&[][..], |desired| &desired.addresses);
    let mut all = told.to_vec();
    for address in enrolled {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{AlarmTarget, ChannelId, Incarnation, Secret};

    fn desired() -> Desired {
        Desired {
            generation: Generation { incarnation: Incarnation::new(1, &[1; 10]), n: 3 },
            digest: Some("d".to_owned()),
            version: 3,
            repositories: vec![RepositoryConfig {
                id: RepositoryId::new(1, &[2; 10]),
                name: "store".to_owned(),
                url: "/srv/store".to_owned(),
                username: None,
                credential: None,
                password: Secret::new("canary".to_owned()),
                ca_pem: None,
            }],
            schedules: Vec::new(),
            addresses: Vec::new(),
            alarm_channels: vec![AlarmChannel {
                id: ChannelId::new(1, &[3; 10]),
                name: "chat".to_owned(),
                target: AlarmTarget::Webhook {
                    url: Secret::new("https://example.org/canary".to_owned()),
                    token: Some(Secret::new("canary".to_owned())),
                },
            }],
            machine: Some("web-1".to_owned()),
            stale_after_days: Some(3),
        }
    }

    #[test]
    fn the_desired_state_reads_back_with_its_secrets() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path());
        save(&state, &desired()).unwrap();
        let Found::Stored(found) = load(&state, "now").unwrap() else { panic!("not found") };
        assert_eq!(*found, desired());
        assert!(!format!("{found:?}").contains("canary"));
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_its_content_is_not_told() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path());
        fs::write(state.desired(), r#"{"generation":"canary"}"#).unwrap();
        let Found::Unreadable { kept, why } = load(&state, "now").unwrap() else {
            panic!("it was read")
        };
        assert!(!why.contains("canary"), "{why}");
        assert_eq!(fs::read_to_string(kept).unwrap(), r#"{"generation":"canary"}"#);
        assert!(matches!(load(&state, "now").unwrap(), Found::Nothing));
    }

    #[test]
    fn addresses_that_are_none_are_not_kept() {
        let generation = desired().generation;
        let mut addresses = vec!["box:9781".to_owned(), "10.0.0.1:22\u{1b}[2J".to_owned()];
        addresses.extend((1..=40).map(|n| format!("box-{n}:1")));
        let config = ConfigUpdate {
            generation: Some(generation),
            repositories: Some(Vec::new()),
            addresses,
            ..ConfigUpdate::default()
        };
        let generation = Some(generation);
        let set = ScheduleSet { version: 3, schedules: Vec::new(), generation, digest: None };
        let kept = Desired::from_messages(config, set).unwrap().addresses;
        assert_eq!(kept[..2], ["box:9781", "box-1:1"]);
        assert_eq!(kept.len(), MAX_ADDRESSES);
    }

    #[test]
    fn two_generations_are_never_mixed() {
        let generation = desired().generation;
        let config = ConfigUpdate {
            generation: Some(Generation { n: 4, ..generation }),
            repositories: Some(Vec::new()),
            ..ConfigUpdate::default()
        };
        let set = ScheduleSet {
            version: 3,
            schedules: Vec::new(),
            generation: Some(generation),
            digest: None,
        };
        assert!(Desired::from_messages(config, set).is_none());
    }
}
