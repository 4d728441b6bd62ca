//! `doctor`: what is wrong, and what to do about it, one line each.

mod machine;

use crate::{
    connection::dial,
    desired::{self, Desired, addresses},
    hooks::{
        self,
        folder::{Listed, list, look_at},
        policy::Policy,
    },
    identity::{Enrolment, Identity, Settings},
    pass_through::PassThrough,
    paths::StateDir,
    runner::{locate, repository},
    status::{Link, Live},
    tls::{self, Epoch},
};
use outcome::{
    verdict,
    words::{self, count},
};
use protocol::{Code, Hook, Problem, RepositoryConfig};
use restic::{CancelToken, Restic, SnapshotFilter, Timing, Version};
use schedule::Clock;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{fmt, path::Path, time::Duration};

/// How long a repository may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Well,
    /// Works, and should be looked at.
    Warning,
    /// Does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: String,
    /// How good it is.
    pub grade: Grade,
    /// What was found.
    pub message: String,
    /// What to do.
    pub guidance: Option<String>,
}

impl Finding {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.grade != Grade::Bad
    }

    fn well(about: &str, message: impl Into<String>) -> Self {
        Self {
            about: about.to_owned(),
            grade: Grade::Well,
            message: message.into(),
            guidance: None,
        }
    }

    fn warning(about: &str, message: impl Into<String>, guidance: &str) -> Self {
        Self {
            about: about.to_owned(),
            grade: Grade::Warning,
            message: message.into(),
            guidance: Some(guidance.to_owned()),
        }
    }

    fn bad(about: &str, problem: Problem) -> Self {
        Self {
            about: about.to_owned(),
            grade: Grade::Bad,
            message: problem.message,
            guidance: problem.guidance,
        }
    }

    fn broken(about: &str, error: &anyhow::Error) -> Self {
        Self {
            about: about.to_owned(),
            grade: Grade::Bad,
            message: format!("{error:#}"),
            guidance: None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.grade {
            Grade::Well => "ok  ",
            Grade::Warning => "look",
            Grade::Bad => "BAD ",
        };
        writeln!(f, "{mark} {}: {}", self.about, self.message)?;
        if let Some(guidance) = &self.guidance {
            writeln!(f, "     {guidance}")?;
        }
        Ok(())
    }
}

/// Looks at everything that can go wrong on this machine. Changes nothing.
pub async fn examine(state: &StateDir, config: &Path, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = state.check() {
        findings.push(Finding::broken("State folder", &error));
        return findings;
    }
    findings.push(Finding::well(
        "State folder",
        format!("{} is closed to others", state.path().display()),
    ));
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => {
            findings.push(Finding::broken("Settings", &error));
            Settings::default()
        }
    };
    findings.push(running(state));
    findings.extend(machine::service().await);
    findings.extend(machine::disk(state));
    findings.push(clock_finding(clock));
    let restic = locate(&settings).await;
    findings.push(restic_finding(&restic));
    findings.extend(hooks(state, &settings));
    findings.extend(machine::own_name().await);
    findings.extend(manager(state).await);
    findings.extend(repositories(state, restic.ok()).await);
    findings
}

fn running(state: &StateDir) -> Finding {
    match state.lock() {
        Ok(_) => Finding::warning(
            "Agent",
            "it does not run on this state folder",
            &format!(
                "Start its service, or: restic-manager-agent run --state-dir '{}'",
                state.path().display()
            ),
        ),
        Err(_) => match Live::load(state) {
            Live { problem: Some(problem), link, .. }
                if link == Link::Held || problem.code == Code::HostRevoked =>
            {
                Finding::bad("Agent", problem)
            }
            _ => Finding::well("Agent", "it runs"),
        },
    }
}

/// A clock from before this program was written cannot be right, and no certificate holds then.
fn clock_finding(clock: &dyn Clock) -> Finding {
    const BUILT: i64 = 1_793_000_000;
    let now = clock.now();
    if now.as_second() < BUILT {
        return Finding {
            about: "Clock".to_owned(),
            grade: Grade::Bad,
            message: format!("it says {now}, which cannot be right"),
            guidance: Some("Set the clock, and let it be kept by NTP.".to_owned()),
        };
    }
    Finding::well("Clock", format!("{now:.0}"))
}

fn restic_finding(restic: &Result<Restic, Problem>) -> Finding {
    match restic {
        Err(problem) => Finding::bad("restic", problem.clone()),
        Ok(restic) if !restic.version().is_recommended() => Finding::warning(
            "restic",
            format!("{} at {}", restic.version(), restic.program().display()),
            &format!(
                "It works; from {} on failures are told apart and snapshots have sizes.",
                Version::RECOMMENDED
            ),
        ),
        Ok(restic) => Finding::well(
            "restic",
            format!(
                "{} at {}, SHA-256 {}",
                restic.version(),
                restic.program().display(),
                hash_of(restic.program())
            ),
        ),
    }
}

/// By which a program is compared with what its makers published.
fn hash_of(program: &Path) -> String {
    std::fs::read(program).map_or_else(
        |error| format!("unknown ({error})"),
        |content| data_encoding::HEXLOWER.encode(&Sha256::digest(&content)),
    )
}

/// The folder of hooks: what in it would run, and what plans name that would not.
fn hooks(state: &StateDir, settings: &Settings) -> Vec<Finding> {
    let about = "Hooks";
    let folder = hooks::folder::folder(settings, state);
    let mut findings = Vec::new();
    match list(&folder) {
        Ok(Listed::Nothing) => {
            let words = format!("none; {} does not exist", folder.display());
            findings.push(Finding::well(about, words));
        }
        Ok(Listed::Entries(entries)) => {
            let words = format!("{} in {}", count(entries.len(), "file"), folder.display());
            findings.push(Finding::well(about, words));
            for (name, verdict) in entries {
                findings.push(match verdict {
                    Ok(()) => Finding::well(about, format!("{name} can run")),
                    Err(problem) => Finding {
                        grade: Grade::Warning,
                        message: format!("refused: {}", problem.message),
                        ..Finding::bad(about, problem)
                    },
                });
            }
        }
        Err(problem) => findings.push(Finding::bad(about, problem)),
    }
    let policy = hooks::policy::path(settings, state);
    findings.push(match Policy::load(&policy) {
        Err(problem) => Finding::bad("Policy", problem),
        Ok(Policy { inline_hooks: true }) => {
            Finding::well("Policy", format!("{} lets plans bring hooks along", policy.display()))
        }
        Ok(Policy { inline_hooks: false }) => {
            Finding::well("Policy", "plans run hooks of this machine only")
        }
    });
    if let Ok(Some(Ok(desired))) = desired::peek(state) {
        findings.extend(hooks_of_plans(&desired, &folder, &policy));
    }
    findings
}

fn hooks_of_plans(desired: &Desired, folder: &Path, policy: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for plan in &desired.schedules {
        let about = format!("Hooks of the plan {}", words::one_line(&plan.name));
        match hooks::of(plan) {
            Err(problem) => findings.push(Finding::bad(&about, problem)),
            Ok(named) => {
                let mut refused: Vec<Problem> =
                    hooks::allowed(&named, policy).err().into_iter().collect();
                for hook in [named.before, named.on_success, named.on_failure, named.after] {
                    if let Some(Hook::Named(name)) = hook {
                        refused.extend(look_at(folder, &name).err());
                    }
                }
                findings.extend(refused.into_iter().map(|it| Finding::bad(&about, it)));
            }
        }
    }
    findings
}

async fn manager(state: &StateDir) -> Vec<Finding> {
    let about = "Manager";
    let (enrolment, identity) = match (Enrolment::load(state), Identity::load(state)) {
        (Ok(enrolment), Ok(identity)) => (enrolment, identity),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::broken(about, &error)],
    };
    let epoch = Epoch::new(enrolment.manager.epoch);
    let config = match tls::client_config(enrolment.manager_key, &identity, epoch) {
        Ok(config) => config,
        Err(error) => return vec![Finding::broken(about, &error.into())],
    };
    let mut findings = Vec::new();
    for address in &enrolment.addresses {
        findings.push(match dial(address, config.clone()).await {
            Ok(_) => {
                Finding::well(about, format!("{address} answers, and its key is the pinned one"))
            }
            Err(problem) => Finding::bad(about, problem),
        });
    }
    // One address that works is enough.
    if findings.iter().any(Finding::is_well) {
        for finding in &mut findings {
            if finding.grade == Grade::Bad {
                finding.grade = Grade::Warning;
            }
        }
    }
    findings
}

async fn repositories(state: &StateDir, restic: Option<Restic>) -> Vec<Finding> {
    let desired = match desired::peek(state) {
        Ok(Some(Ok(desired))) => desired,
        Ok(Some(Err(why))) => {
            let problem = Problem::new(Code::Internal, format!("the stored plans: {why}"))
                .guidance("Restart the agent: it keeps the file aside and gets the plans anew.");
            return vec![Finding::bad("Plans", problem)];
        }
        Ok(None) => {
            let guidance = "They come with the first connection to the manager.";
            return vec![Finding::warning("Plans", "none yet", guidance)];
        }
        Err(error) => return vec![Finding::broken("Plans", &error)],
    };
    let count = desired.schedules.len();
    let mut findings =
        vec![Finding::well("Plans", format!("{count}, generation {}", desired.generation.n))];
    findings.extend(machine::rights(&desired));
    let Some(restic) = restic else { return findings };
    let timing = Timing { grace: Duration::from_secs(5), patience: PATIENCE };
    let restic = restic.with_timing(timing);
    // The running agent has a port of its own.
    let enrolled = Enrolment::load(state).map(|enrolment| enrolment.addresses).unwrap_or_default();
    let through = match PassThrough::start(addresses(Some(&desired), &enrolled)).await {
        Ok(through) => through,
        Err(error) => {
            findings.push(Finding::broken("Way to the store", &error.into()));
            return findings;
        }
    };
    for repository in desired.repositories {
        findings.push(look_into(&through.resolve(repository), &restic, state).await);
    }
    findings
}

async fn look_into(config: &RepositoryConfig, restic: &Restic, state: &StateDir) -> Finding {
    let about = format!("Repository {}", config.name);
    let repository = match repository::prepare(config, state) {
        Ok(repository) => repository,
        Err(problem) => return Finding::bad(&about, problem),
    };
    let cancel = CancelToken::new();
    let mut sink = drop;
    let all = SnapshotFilter::default();
    let looking = restic.snapshots(&repository, &all, &mut sink, &cancel);
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(snapshots)) => Finding::well(&about, count(snapshots.len(), "snapshot")),
        Ok(Err(failure)) => Finding::bad(&about, verdict::problem(&failure)),
        Err(_) => Finding::bad(
            &about,
            Problem::new(Code::RepositoryUnreachable, "it does not answer")
                .guidance("Check the network and the repository's server."),
        ),
    }
}
