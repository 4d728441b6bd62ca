//! The secrets of a fleet, and the search for them in all that the fleet wrote, answered and ran.

use crate::{
    agent::Agent,
    api::SIGN_IN,
    arguments::ArgumentWatch,
    canary::{Answer, Canary, search, search_answers},
    desktop::MainJob,
    fleet::{ENROLMENTS, Fleet, Secrets},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use server::{
    db::{Db, manager as rows},
    vault::{FileKeyStore, Vault},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, slice};

/// Returns a sentence for each secret that is where it must not be: in a file below `root`, in an
/// answer of the manager's, or in the arguments of a process. The fleet must have been stopped.
///
/// # Errors
/// When something cannot be searched, or a secret is not even where it must be.
pub async fn escaped(root: &Path, fleet: &Fleet, watch: ArgumentWatch) -> Result<Vec<String>> {
    let canaries = &canaries(fleet).await?;
    let mut found = search(root, canaries)?;
    found.extend(search_answers(&fleet.api.answers(), canaries)?);
    found.extend(watch.finish(canaries, "restic-manager-headless")?);
    Ok(found)
}

/// The same for the main job in the window, and for every page that was `seen` on the way. The app
/// must have been stopped.
///
/// # Errors
/// When something cannot be searched, or a secret is not even where it must be.
pub async fn escaped_from_window(
    root: &Path,
    job: &MainJob,
    seen: &[Answer],
    data: &Path,
    vault_key: &str,
    watch: ArgumentWatch,
) -> Result<Vec<String>> {
    let mut canaries = agent_canaries(&job.agent, &job.secrets()?)?;
    // In the keyring, which is sealed; the copy is for opening the database once more.
    let copy = tempfile::tempdir()?;
    let key_file = copy.path().join("vault.key");
    fs::write(&key_file, vault_key.trim())?;
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600))?;
    canaries.extend(sealed_keys(data, &key_file).await?);
    let vault_key = data_encoding::BASE64.decode(vault_key.trim().as_bytes())?;
    canaries.push(Canary::of_bytes("the vault key", &vault_key, &[]));
    let mut found = search(root, &canaries)?;
    found.extend(search_answers(seen, &canaries)?);
    found.extend(watch.finish(&canaries, "restic-manager")?);
    Ok(found)
}

async fn canaries(fleet: &Fleet) -> Result<Vec<Canary>> {
    let mut canaries = agent_canaries(&fleet.agent, &fleet.secrets)?;
    canaries.extend([
        Canary::new("the admin's password", fleet.manager.password(), &[]),
        Canary::new("the session cookie", fleet.api.session()?, &[]).shown_by(SIGN_IN),
    ]);
    canaries.extend(keys_of_manager(&fleet.manager.data()).await?);
    Ok(canaries)
}

/// What an agent and the manager share, and the agent's own key.
fn agent_canaries(agent: &Agent, secrets: &Secrets) -> Result<Vec<Canary>> {
    let Secrets { repository, credential, token } = secrets;
    let desired = &[agent.state().join("desired.json")];
    let key = agent.state().join("agent.key");
    Ok(vec![
        Canary::new("the repository password", repository, desired),
        Canary::new("the repository's credential", credential, desired),
        Canary::new("the enrolment token", token, &[]).shown_by(&format!("POST {ENROLMENTS}")),
        Canary::of_key("the agent's key", &pem_body(&key)?, slice::from_ref(&key))?,
    ])
}

/// The manager's own secrets: the vault's key, and those that lie sealed beside it and in the clear
/// nowhere.
///
/// # Errors
/// When its folder cannot be read.
pub async fn keys_of_manager(data: &Path) -> Result<Vec<Canary>> {
    let vault_file = data.join("vault.key");
    let text = fs::read_to_string(&vault_file)?;
    let vault_key = data_encoding::BASE64.decode(text.trim().as_bytes())?;
    let mut canaries = sealed_keys(data, &vault_file).await?;
    let vault = Vault::open(&FileKeyStore::new(&vault_file), false)?;
    let ui_key = vault.unseal("ui_certificate.key.1", &sealed_ui_key(data)?)?;
    canaries.push(Canary::of_bytes("the vault key", &vault_key, &[vault_file]));
    canaries.push(Canary::of_key("the key of the interface", ui_key.expose_secret(), &[])?);
    Ok(canaries)
}

/// What lies sealed in the database.
async fn sealed_keys(data: &Path, vault_file: &Path) -> Result<Vec<Canary>> {
    // A copy, since opening a database may change it.
    let copy = tempfile::tempdir()?;
    let database = copy.path().join("server.db");
    for ending in ["", "-wal"] {
        let from = data.join(format!("server.db{ending}"));
        if from.exists() {
            fs::copy(from, copy.path().join(format!("server.db{ending}")))?;
        }
    }
    let db = Db::open(&database).await?;
    let stored = rows::identity(db.read()).await?.context("the manager has no identity")?;
    db.close().await;
    let vault = Vault::open(&FileKeyStore::new(vault_file), false)?;
    let root_key = stored.root_key_sealed.context("the manager has no root key")?;
    let root_key = vault.unseal("manager.root_key.1", &root_key)?;
    let instance_key = vault.unseal("manager.instance_key.1", &stored.instance_key_sealed)?;
    Ok(vec![
        Canary::of_key("the manager's root key", root_key.expose_secret(), &[])?,
        Canary::of_key("the manager's instance key", instance_key.expose_secret(), &[])?,
    ])
}

fn sealed_ui_key(data: &Path) -> Result<Vec<u8>> {
    let stored: Value = serde_json::from_slice(&fs::read(data.join("ui-certificate.json"))?)?;
    let key = stored["key"].as_str().context("the interface has no key")?;
    Ok(data_encoding::BASE64.decode(key.as_bytes())?)
}

fn pem_body(path: &Path) -> Result<Vec<u8>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(data_encoding::BASE64.decode(body.as_bytes())?)
}
