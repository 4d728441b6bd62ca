//! What every world begins with: the database of a manager with a few enrolled machines, each with a
//! repository and a plan. It is made once and copied for each world.

use super::office::{self, Office, Up};
use crate::dice::Dice;
use anyhow::{Context as _, Result, anyhow};
use axum::extract::State;
use jiff::Timestamp;
use protocol::{HostArch, HostId, HostOs, PROTOCOL_VERSION, PlanId, ProtocolVersion, RepositoryId};
use serde_json::{Value, json};
use server::{
    api::{error::ApiError, extract::Body, plans, repositories},
    auth::Principal,
    db::{
        hosts::{self, NewHost},
        plans as plan_rows, repositories as repository_rows,
    },
};
use std::{fs, path::Path};

/// The most machines of a world.
pub const MACHINES: usize = 3;

/// When the database was made.
pub const MADE_AT: &str = "2026-01-05T08:00:00Z";

/// Watches the database from within: whoever changes a terminal state, or lets a number go back, is found
/// out, whichever statement did it.
const WITNESS: &str = "
    CREATE TABLE witness (what TEXT NOT NULL);
    CREATE TRIGGER witness_end AFTER UPDATE OF status ON runs
    WHEN OLD.status NOT IN ('queued', 'running') AND NEW.status <> OLD.status
    BEGIN INSERT INTO witness VALUES ('run ' || OLD.id || ' was ' || OLD.status || ' and became ' || NEW.status); END;
    CREATE TRIGGER witness_generation AFTER UPDATE OF generation, acked_generation ON hosts
    WHEN NEW.generation < OLD.generation OR NEW.acked_generation < OLD.acked_generation
    BEGIN INSERT INTO witness VALUES ('a generation of ' || OLD.id || ' went back'); END;
    CREATE TRIGGER witness_cursor AFTER UPDATE OF seq ON journals
    WHEN NEW.seq < OLD.seq
    BEGIN INSERT INTO witness VALUES ('the cursor of ' || OLD.host_id || ' went back'); END;
";

/// What a machine is to its manager.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: PlanId,
    /// Its repository.
    pub repository: RepositoryId,
}

/// The prepared database.
#[derive(Clone, Debug)]
pub struct Template {
    database: Vec<u8>,
    /// The machines, and after them one with an agent of version 1.
    pub enrolled: Vec<Enrolled>,
}

impl Template {
    /// Makes it.
    ///
    /// # Errors
    /// When the manager refuses.
    pub async fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("server.db");
        let mut dice = Dice::new(1);
        let at: Timestamp = MADE_AT.parse()?;
        let office = Office::open(&file, dice.next()).await?;
        office.set_clock(at);
        let up = office.start().await?;
        let mut enrolled = Vec::new();
        for index in 0..=MACHINES {
            // The first two machines share one.
            let shared = enrolled.first().filter(|_| index == 1).map(|it: &Enrolled| it.repository);
            enrolled.push(enrol(&up, &mut dice, index, shared, at).await?);
        }
        drop(up);
        office.close().await;
        watch(&file).await?;
        Ok(Self { database: fs::read(&file)?, enrolled })
    }

    /// Puts a copy there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn copy(&self, file: &Path) -> Result<()> {
        office::clear(file);
        fs::write(file, &self.database).with_context(|| format!("no copy in {}", file.display()))
    }
}

async fn watch(file: &Path) -> Result<()> {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
    sqlx::raw_sql(WITNESS).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn enrol(
    up: &Up,
    dice: &mut Dice,
    index: usize,
    shared: Option<RepositoryId>,
    at: Timestamp,
) -> Result<Enrolled> {
    let manager = &up.manager;
    let is_old = index == MACHINES;
    let name = if is_old { "machine-old".to_owned() } else { format!("machine-{}", index + 1) };
    let host: HostId = manager.new_id();
    let mut key = [0; 32];
    key[..10].copy_from_slice(&dice.ten());
    let new = NewHost {
        id: host,
        name: &name,
        hostname: &name,
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        agent_version: "0.1.0",
        protocol_version: if is_old { ProtocolVersion(1) } else { PROTOCOL_VERSION },
        key_fingerprint: key,
        enrolled_at: at,
    };
    let mut tx = manager.db().begin().await?;
    hosts::insert(&mut tx, &new).await?;
    tx.commit().await?;
    let repository = match shared {
        Some(repository) => repository,
        None => repository_of(up, &name).await?,
    };
    let form = from_json(json!({"name": name, "repository_id": repository, "paths": ["/home"],
        "retention": {"keep_last": 5}, "cron": "*/5 * * * *", "host_ids": [host]}))?;
    plans::create::create(Principal::LocalUser, State(manager.clone()), Body(form))
        .await
        .map(drop)
        .map_err(refused)?;
    let plan = plan_rows::find_by_name(manager.db().read(), &name).await?;
    Ok(Enrolled { host, name, plan: plan.context("no plan was made")?, repository })
}

async fn repository_of(up: &Up, name: &str) -> Result<RepositoryId> {
    let manager = &up.manager;
    let url = format!("rest:https://nas.example:8000/{name}/");
    let form = from_json(json!({"name": name, "url": url}))?;
    repositories::create::create(Principal::LocalUser, State(manager.clone()), Body(form))
        .await
        .map(drop)
        .map_err(refused)?;
    let repository = repository_rows::find_by_name(manager.db().read(), name).await?;
    repository.context("no repository was made")
}

/// A form of the API from its JSON.
///
/// # Errors
/// When it does not fit.
pub fn from_json<T: serde::de::DeserializeOwned>(form: Value) -> Result<T> {
    serde_json::from_value(form).context("a form does not fit")
}

/// A refusal of the API as an error.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub fn refused(error: ApiError) -> anyhow::Error {
    anyhow!("the manager refused: {error:?}")
}
