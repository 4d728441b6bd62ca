//! The main job, as a person does it in the window: add this machine, initialise, run now, watch,
//! browse, restore.

use super::App;
use crate::{
    agent::{Agent, Rights},
    canary::Answer,
    fleet::{CRAWLING, ENROLMENTS, MACHINE, Secrets, UPLOADING},
    planted_secret,
    rest_server::{Deletes, RestServer},
    tools::Tools,
    wait_for,
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What was seen on the way: pictures, if somewhere to put them was named, and what the pages were
/// made of.
#[derive(Debug, Default)]
pub struct Record {
    folder: Option<PathBuf>,
    /// The pictures, in order.
    pub shots: Vec<PathBuf>,
    /// The pages.
    pub pages: Vec<Answer>,
}

impl Record {
    /// With pictures in this folder.
    #[must_use]
    pub fn with_shots(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..Self::default() }
    }

    /// Keeps the page that is open.
    ///
    /// # Errors
    /// When the window does not answer, or the picture cannot be written.
    pub async fn keep(&mut self, app: &App, name: &str) -> Result<()> {
        self.keep_as(app, name, &format!("the page {name}")).await
    }

    async fn keep_as(&mut self, app: &App, name: &str, to: &str) -> Result<()> {
        self.pages.push(Answer { to: to.to_owned(), bytes: app.source().await?.into_bytes() });
        let Some(folder) = &self.folder else { return Ok(()) };
        let file = folder.join(format!("{}-{name}.png", self.shots.len() + 1));
        app.screenshot(&file).await?;
        self.shots.push(file);
        Ok(())
    }
}

/// Where the backups of the job go.
#[derive(Debug)]
pub enum Destination {
    /// Into the store of the app, in the folder that it offers. Its passwords are minted and never
    /// shown.
    Store,
    /// To a rest-server that is entered by hand.
    RestServer(Box<Entered>),
}

/// A rest-server, and what is typed of it.
#[derive(Debug)]
pub struct Entered {
    /// The rest-server.
    pub server: RestServer,
    /// The location of the repository there.
    pub location: String,
    /// The password for the rest-server.
    pub credential: String,
    /// The repository's password.
    pub password: String,
}

impl Entered {
    /// Starts the rest-server below `root`. Its network can be slowed; a location that outlives this
    /// process is [`RestServer::direct_url`].
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(root: &Path, tools: &Tools) -> Result<Self> {
        let credential = planted_secret("rest credential");
        let users = [(MACHINE, credential.as_str())];
        let server =
            RestServer::start(tools, &root.join("rest-server"), Deletes::Allowed, &users).await?;
        let password = planted_secret("repository password");
        Ok(Self { location: server.url(MACHINE), server, credential, password })
    }

    async fn fill(&self, app: &App) -> Result<()> {
        app.element("//label[contains(., 'A new repository')]").await?.click().await?;
        app.fill("url", &self.location).await?;
        app.fill("username", MACHINE).await?;
        app.fill("credential", &self.credential).await?;
        app.element("//summary[contains(., 'Certificate of the server')]").await?.click().await?;
        app.paste("ca_pem", &self.server.ca_pem).await?;
        app.press("Test the connection").await?;
        app.sees("The server answers, and the place is free.").await?;
        app.fill("password", &self.password).await
    }
}

/// What the job needs beside the app: somewhere to back up to, and an agent on a machine.
#[derive(Debug)]
pub struct MainJob {
    /// Where backups go.
    pub to: Destination,
    /// The agent, enrolled once [`MainJob::add_machine`] is through.
    pub agent: Agent,
    /// The install block that the app showed.
    install: String,
}

impl MainJob {
    /// With an agent below `root` that is not enrolled yet.
    ///
    /// # Errors
    /// When there is no restic.
    pub fn prepare(root: &Path, tools: &Tools, to: Destination) -> Result<Self> {
        let agent = Agent::new(&root.join("agent"), tools.restic()?);
        Ok(Self { to, agent, install: String::new() })
    }

    /// The rest-server.
    ///
    /// # Errors
    /// When backups go elsewhere.
    pub fn server(&self) -> Result<&RestServer> {
        match &self.to {
            Destination::RestServer(entered) => Ok(&entered.server),
            Destination::Store => bail!("there is no rest-server in this job"),
        }
    }

    /// Adds this machine with `source` to be backed up, pastes the install block, and starts the
    /// agent.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn add_machine(
        &mut self,
        app: &App,
        source: &Path,
        record: &mut Record,
    ) -> Result<()> {
        app.sees("No machines yet.").await?;
        record.keep(app, "empty-fleet").await?;
        app.press("Add machine").await?;
        app.fill("name", MACHINE).await?;
        app.fill("paths", &source.display().to_string()).await?;
        match &self.to {
            // Chosen for a new user, with a folder.
            Destination::Store => {
                app.element("//label[contains(@class, 'on') and contains(., 'This computer')]")
                    .await?;
                app.sees("are free there").await?;
            }
            Destination::RestServer(entered) => entered.fill(app).await?,
        }
        record.keep(app, "add-machine").await?;
        app.press("Make the install line").await?;
        app.sees("On the machine, as root").await?;
        record.keep_as(app, "install-line", &format!("POST {ENROLMENTS}")).await?;
        self.install = app.block("install line").await?;
        self.agent.install(&self.install)?;
        self.agent.start(Rights::Full)
    }

    /// What must not be seen anywhere.
    ///
    /// # Errors
    /// When no machine was added yet.
    pub fn secrets(&self) -> Result<Secrets> {
        let token = self.install.lines().nth(1).context("there was no install block yet")?;
        let (repository, credential) = match &self.to {
            Destination::RestServer(it) => (it.password.clone(), it.credential.clone()),
            Destination::Store => self.agent.repository_secrets()?,
        };
        Ok(Secrets { credential, repository, token: token.to_owned() })
    }

    /// Starts a backup from the page of the machine and waits until it is in the middle, as
    /// [`crate::fleet::Fleet::in_the_middle`] does. Returns the run's id.
    ///
    /// # Errors
    /// When it does not get there, or is done before.
    pub async fn in_the_middle(&self, app: &App) -> Result<String> {
        let server = self.server()?;
        server.network.set(UPLOADING);
        self.open_machine(app).await?;
        app.press(&format!("Run now: {MACHINE}")).await?;
        app.press(&format!("View the run on {MACHINE}")).await?;
        let id = opened_run(app).await?;
        wait_for("the backup to be in the middle", async || {
            let run = app.get(&format!("/api/runs/{id}")).await?;
            ensure!(run["finished_at"].is_null(), "the backup was too fast: {run:#}");
            let counts_bytes = run["progress"]["bytes_done"].as_u64().is_some_and(|n| n > 0);
            let has_data = server.packs(MACHINE)? > 0;
            Ok((counts_bytes && has_data).then_some(()))
        })
        .await?;
        server.network.set(CRAWLING);
        Ok(id)
    }

    /// Initialises the repository from where the machine's arrival is watched.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn initialise(&self, app: &App, record: &mut Record) -> Result<()> {
        let button = format!("Initialise: {MACHINE}");
        app.element(&format!("//button[@aria-label='{button}']")).await?;
        record.keep(app, "arrived").await?;
        app.press(&button).await?;
        app.element(&format!("//button[@aria-label='Run now: {MACHINE}']")).await?;
        Ok(())
    }

    /// Runs a backup from the page of the machine and watches it to its end. Returns the run.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn back_up(&self, app: &App, record: &mut Record) -> Result<Value> {
        self.open_machine(app).await?;
        app.press(&format!("Run now: {MACHINE}")).await?;
        let view = format!("View the run on {MACHINE}");
        app.press(&view).await?;
        app.element("//*[@role='progressbar']").await?;
        record.keep(app, "backup-goes-on").await?;
        let run = self.ended(app).await?;
        app.sees("Done after").await?;
        record.keep(app, "backup-ended").await?;
        Ok(run)
    }

    /// Backs up once more, with `unreadable` in the source, and waits until the page names it.
    /// Returns the run.
    ///
    /// # Errors
    /// When the window does not show what it should.
    pub async fn back_up_in_part(
        &self,
        app: &App,
        unreadable: &Path,
        record: &mut Record,
    ) -> Result<Value> {
        self.open_machine(app).await?;
        app.press(&format!("Run now: {MACHINE}")).await?;
        app.press(&format!("View the run on {MACHINE}")).await?;
        let run = self.ended(app).await?;
        app.sees("could not be read").await?;
        app.sees(&unreadable.display().to_string()).await?;
        record.keep(app, "partial").await?;
        Ok(run)
    }

    /// The run of the page that is open, once it has ended for the page too.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&self, app: &App) -> Result<Value> {
        let id = opened_run(app).await?;
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
    pub async fn restore(&self, app: &App, source: &Path, record: &mut Record) -> Result<PathBuf> {
        self.open_machine(app).await?;
        app.press("Snapshots").await?;
        app.element("//*[@aria-label='Snapshots']//a[contains(@class, 'row-link')]")
            .await?
            .click()
            .await?;
        for part in source.components().skip(1) {
            app.press(&part.as_os_str().to_string_lossy()).await?;
        }
        app.sees("awkward").await?;
        record.keep(app, "browse").await?;
        app.press("Restore the whole snapshot").await?;
        app.sees(&format!("Restored on {MACHINE} into")).await?;
        record.keep(app, "restored").await?;
        let run = self.ended(app).await?;
        ensure!(run["status"] == "succeeded", "the restore ended otherwise: {run}");
        Ok(PathBuf::from(app.block("folder").await?))
    }

    /// Opens the page of the store, and waits until it tells of the machine and of its backups.
    ///
    /// # Errors
    /// When it does not.
    pub async fn look_at_store(&self, app: &App, record: &mut Record) -> Result<()> {
        app.press("Store").await?;
        app.sees("of backups on this computer.").await?;
        let row = format!("//*[@aria-label='What lies in the store']//a[.='{MACHINE}']");
        app.element(&row).await?;
        record.keep(app, "store").await
    }

    /// Waits until the agent that was started again is connected, as the page of its machine tells.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn connected(&self, app: &App) -> Result<()> {
        self.open_machine(app).await?;
        app.sees("Connected").await
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

/// The id of the run whose page is open.
async fn opened_run(app: &App) -> Result<String> {
    wait_for("the page of a run", async || {
        let hash = app.script("return location.hash").await?;
        Ok(hash.as_str().and_then(|hash| hash.strip_prefix("#/runs/")).map(str::to_owned))
    })
    .await
}
