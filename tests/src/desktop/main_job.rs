//! The main job, as a person does it in the window: add this machine, initialise, run now, watch,
//! browse, restore.

use super::App;
use crate::{
    agent::{Agent, Rights},
    planted_secret,
    rest_server::{Deletes, RestServer},
    tools::Tools,
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What the machine is called.
const MACHINE: &str = "machine1";

/// Where pictures of the steps go, if anywhere.
#[derive(Debug, Default)]
pub struct Shots {
    folder: Option<PathBuf>,
    /// Those that were taken, in order.
    pub taken: Vec<PathBuf>,
}

impl Shots {
    /// Into this folder.
    #[must_use]
    pub fn into_folder(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), taken: Vec::new() }
    }

    async fn take(&mut self, app: &App, name: &str) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let file = folder.join(format!("{}-{name}.png", self.taken.len() + 1));
        app.screenshot(&file).await?;
        self.taken.push(file);
        Ok(())
    }
}

/// What the job needs beside the app: somewhere to back up to, and an agent on a machine.
#[derive(Debug)]
pub struct MainJob {
    /// The rest-server.
    pub server: RestServer,
    /// The agent, enrolled once [`MainJob::add_machine`] is through.
    pub agent: Agent,
    /// The password for the rest-server.
    pub credential: String,
    /// The repository's password.
    pub password: String,
    /// The install block that the app showed.
    pub install: String,
}

impl MainJob {
    /// Starts the rest-server below `root`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn prepare(root: &Path, tools: &Tools) -> Result<Self> {
        let credential = planted_secret("rest credential");
        let users = [(MACHINE, credential.as_str())];
        let server =
            RestServer::start(tools, &root.join("rest-server"), Deletes::Allowed, &users).await?;
        let agent = Agent::new(&root.join("agent"), tools.restic()?);
        let password = planted_secret("repository password");
        Ok(Self { server, agent, credential, password, install: String::new() })
    }

    /// Adds this machine with `source` to be backed up, pastes the install block, and starts the
    /// agent.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn add_machine(&mut self, app: &App, source: &Path, shots: &mut Shots) -> Result<()> {
        app.sees("No machines yet.").await?;
        shots.take(app, "empty-fleet").await?;
        app.press("Add machine").await?;
        app.fill("name", MACHINE).await?;
        app.fill("paths", &source.display().to_string()).await?;
        app.fill("url", &self.server.url(MACHINE)).await?;
        app.fill("username", MACHINE).await?;
        app.fill("credential", &self.credential).await?;
        app.element("//summary[contains(., 'Certificate of the server')]").await?.click().await?;
        app.paste("ca_pem", &self.server.ca_pem).await?;
        app.press("Test the connection").await?;
        app.sees("The server answers, and the place is free.").await?;
        app.fill("password", &self.password).await?;
        shots.take(app, "add-machine").await?;
        app.press("Make the install line").await?;
        app.sees("On the machine, as root").await?;
        shots.take(app, "install-line").await?;
        self.install = app.block("install line").await?;
        self.agent.install(&self.install)?;
        self.agent.start(Rights::Full)
    }

    /// Initialises the repository from where the machine's arrival is watched.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn initialise(&self, app: &App, shots: &mut Shots) -> Result<()> {
        let button = format!("Initialise: {MACHINE}");
        app.element(&format!("//button[@aria-label='{button}']")).await?;
        shots.take(app, "arrived").await?;
        app.press(&button).await?;
        app.element(&format!("//button[@aria-label='Run now: {MACHINE}']")).await?;
        Ok(())
    }

    /// Runs a backup from the page of the machine and watches it to its end. Returns the run.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn back_up(&self, app: &App, shots: &mut Shots) -> Result<Value> {
        self.open_machine(app).await?;
        app.press(&format!("Run now: {MACHINE}")).await?;
        let view = format!("View the run on {MACHINE}");
        app.press(&view).await?;
        app.sees("Log").await?;
        shots.take(app, "backup-goes-on").await?;
        let run = self.ended(app).await?;
        app.sees("Done after").await?;
        shots.take(app, "backup-ended").await?;
        Ok(run)
    }

    /// The run of the page that is open, once it has ended for the page too.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&self, app: &App) -> Result<Value> {
        let hash = app.script("return location.hash").await?;
        let id = hash.as_str().and_then(|hash| hash.strip_prefix("#/runs/"));
        let id = id.with_context(|| format!("no run is open: {hash}"))?.to_owned();
        let run = wait_for("the run to end", async || {
            let run = app.get(&format!("/api/runs/{id}")).await?;
            Ok((!run["finished_at"].is_null()).then_some(run))
        })
        .await?;
        app.element("//*[starts-with(normalize-space(.), 'Took')]").await?;
        Ok(run)
    }

    /// Opens the newest snapshot, walks to `source`, and restores everything. Returns the folder on
    /// the machine.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn restore(&self, app: &App, source: &Path, shots: &mut Shots) -> Result<PathBuf> {
        self.open_machine(app).await?;
        app.press("Snapshots").await?;
        app.element("//*[@aria-label='Snapshots']//a[contains(@class, 'row-link')]")
            .await?
            .click()
            .await?;
        for part in source.components().skip(1) {
            app.press(&part.as_os_str().to_string_lossy()).await?;
        }
        app.sees("Nothing chosen: everything is restored.").await?;
        shots.take(app, "browse").await?;
        app.press("Restore everything").await?;
        app.sees(&format!("Restored on {MACHINE} into")).await?;
        shots.take(app, "restored").await?;
        let run = self.ended(app).await?;
        ensure!(run["status"] == "succeeded", "the restore ended otherwise: {run}");
        Ok(PathBuf::from(app.block("folder").await?))
    }

    /// Opens the page of the machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open_machine(&self, app: &App) -> Result<()> {
        app.press("Fleet").await?;
        app.press(MACHINE).await?;
        app.element("//h1").await?;
        Ok(())
    }
}
