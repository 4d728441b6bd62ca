//! `status`: what the agent is doing, from the small file that it writes and from its database.

use crate::{
    core::RunState,
    daemon::FULL,
    desired::{self, Desired, addresses},
    identity::{Enrolment, Settings},
    paths::{StateDir, free, replace_file},
    runner::locate,
    store::Store,
};
use anyhow::{Context, Result};
use jiff::Timestamp;
use outcome::words::{count, one_line};
use protocol::{Generation, HostId, JobKind, JournalId, Problem, RunId};
use serde::{Deserialize, Serialize};
use std::{fmt, fs, path::Path};

/// With less than this the agent's own small files cannot be written.
const LEAST_FREE: u64 = 64 * 1024;

/// The states of the connection, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The agent does not run.
    #[default]
    Stopped,
    /// An address is being dialled.
    Dialling,
    /// A pause before the next attempt.
    Waiting,
    /// Connected, the greeting goes on.
    Greeting,
    /// Connected.
    Connected,
    /// Connected, without commands, until the admin decides.
    Held,
}

/// What the running agent writes down for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The state of the connection.
    pub link: Link,
    /// The address, of the connection or of the last attempt.
    pub address: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What last went wrong with the connection.
    pub problem: Option<Problem>,
    /// What else is wrong, such as a state file that was kept aside.
    pub warnings: Vec<String>,
}

impl Live {
    /// Writes it into the state folder.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, state: &StateDir) -> Result<()> {
        replace_file(&state.status(), &serde_json::to_vec_pretty(self)?)
            .context("Failed to write the status file")?;
        Ok(())
    }

    /// What the agent wrote last; nothing when it never ran.
    pub(crate) fn load(state: &StateDir) -> Self {
        fs::read(state.status())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }
}

/// Everything that `status` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether an agent runs on this state folder.
    pub is_running: bool,
    /// Whether this machine is enrolled.
    pub is_enrolled: bool,
    /// The host that it is.
    pub host_id: Option<HostId>,
    /// The manager's key.
    pub manager_key: Option<String>,
    /// Where the manager is dialled.
    pub addresses: Vec<String>,
    /// The connection.
    pub connection: Live,
    /// The journal.
    pub journal: Option<JournalStatus>,
    /// Runs that have begun or wait for their repository.
    pub open_runs: Vec<OpenRun>,
    /// The desired state that is in force.
    pub desired: Option<Generation>,
    /// The restic that would be run.
    pub restic: Option<String>,
    /// Why there is none.
    pub restic_problem: Option<Problem>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenRun {
    /// The run.
    pub id: RunId,
    /// What it does.
    pub kind: JobKind,
    /// The repository it works on, by name where the plans know it.
    pub repository: Option<String>,
    /// Whether it has begun; otherwise it waits for its repository.
    pub has_begun: bool,
    /// When the agent heard of it.
    pub since: Timestamp,
}

/// Where the journal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JournalStatus {
    /// The journal.
    pub id: JournalId,
    /// The newest record.
    pub head: u64,
    /// The newest record that the manager has.
    pub acked: u64,
}

/// Gathers the status. Changes nothing.
///
/// # Errors
/// When the state folder is open to others or the database cannot be read.
pub async fn gather(state: &StateDir, config: &Path) -> Result<Status> {
    state.check()?;
    let is_running = state.lock().is_err();
    let enrolment = state.is_enrolled().then(|| Enrolment::load(state)).transpose()?;
    let mut connection = Live::load(state);
    if !is_running {
        connection.link = Link::Stopped;
    }
    // The running agent cannot write that down: the disk is full.
    let is_full = free(state.path()).is_some_and(|free| free < LEAST_FREE);
    if is_full && connection.warnings.iter().all(|warning| warning != FULL) {
        connection.warnings.push(FULL.to_owned());
    }
    let settings = Settings::load(config)?;
    let (restic, restic_problem) = match locate(&settings).await {
        Ok(restic) => (Some(restic.version().to_string()), None),
        Err(problem) => (None, Some(problem)),
    };
    let desired = match desired::peek(state)? {
        None => None,
        Some(Ok(desired)) => Some(desired),
        Some(Err(why)) => {
            let words = format!("The stored plans cannot be read ({why}).");
            connection.warnings.push(words);
            None
        }
    };
    let enrolled = enrolment.as_ref().map_or(&[][..], |enrolment| &enrolment.addresses);
    let addresses = addresses(desired.as_deref(), enrolled);
    let (journal, open_runs) = read_database(state, desired.as_deref()).await?;
    Ok(Status {
        is_running,
        is_enrolled: enrolment.is_some(),
        host_id: enrolment.as_ref().map(|enrolment| enrolment.host_id),
        manager_key: enrolment.as_ref().map(|enrolment| enrolment.manager_key.to_string()),
        addresses,
        connection,
        journal,
        open_runs,
        desired: desired.map(|desired| desired.generation),
        restic,
        restic_problem,
    })
}

async fn read_database(
    state: &StateDir,
    desired: Option<&Desired>,
) -> Result<(Option<JournalStatus>, Vec<OpenRun>)> {
    if !state.database().exists() {
        return Ok((None, Vec::new()));
    }
    let mut store = Store::open_to_read(&state.database()).await?;
    let memory = store.load().await.context("Failed to read the journal")?;
    let open = memory
        .runs
        .iter()
        .filter(|run| matches!(run.state, RunState::Running | RunState::Queued))
        .map(|run| OpenRun {
            id: run.id,
            kind: run.spec.kind(),
            repository: run
                .repository_id
                .and_then(|id| Some(desired?.repository(Some(id))?.name.clone())),
            has_begun: run.state == RunState::Running,
            since: run.created_at,
        })
        .collect();
    let journal = memory.journal;
    store.close().await?;
    Ok((Some(JournalStatus { id: journal.id, head: journal.head, acked: journal.acked }), open))
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(host) = self.host_id else {
            return writeln!(f, "Not enrolled. Use the install line that the manager shows.");
        };
        writeln!(f, "Agent       {}", if self.is_running { "running" } else { "stopped" })?;
        writeln!(f, "Host        {host}")?;
        if let Some(key) = &self.manager_key {
            writeln!(f, "Manager     {key}")?;
        }
        writeln!(f, "Addresses   {}", one_line(&self.addresses.join(", ")))?;
        write_connection(f, &self.connection)?;
        match &self.journal {
            Some(journal) => writeln!(
                f,
                "Journal     {}, {} not yet with the manager",
                count(journal.head, "record"),
                journal.head.saturating_sub(journal.acked)
            )?,
            None => writeln!(f, "Journal     empty")?,
        }
        match &self.desired {
            Some(generation) => writeln!(f, "Plans       generation {}", generation.n)?,
            None => writeln!(f, "Plans       none yet")?,
        }
        for run in &self.open_runs {
            writeln!(f, "Open run    {run}")?;
        }
        match (&self.restic, &self.restic_problem) {
            (Some(version), _) => writeln!(f, "restic      {version}")?,
            (None, Some(problem)) => writeln!(f, "restic      {problem}")?,
            (None, None) => {}
        }
        for warning in &self.connection.warnings {
            writeln!(f, "Warning     {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for OpenRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(repository) = &self.repository {
            write!(f, " of {}", one_line(repository))?;
        }
        let state = if self.has_begun { "going on" } else { "waiting for its repository" };
        write!(f, ", {state}, asked for at {:.0} ({})", self.since, self.id)
    }
}

fn write_connection(f: &mut fmt::Formatter<'_>, live: &Live) -> fmt::Result {
    let word = match live.link {
        Link::Stopped => "none: the agent does not run",
        Link::Dialling => "dialling",
        Link::Waiting => "waiting to dial again",
        Link::Greeting => "greeting",
        Link::Connected => "connected",
        Link::Held => "held: the admin has to decide",
    };
    write!(f, "Connection  {word}")?;
    if let Some(address) = &live.address {
        write!(f, ", {}", one_line(address))?;
    }
    if let Some(since) = &live.since {
        write!(f, ", since {since:.0}")?;
    }
    writeln!(f)?;
    if let Some(problem) = &live.problem {
        writeln!(f, "            {problem}")?;
    }
    Ok(())
}
