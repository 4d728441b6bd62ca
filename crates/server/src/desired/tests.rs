//! What desired states are made of, what their digests see, and what agents of each version get.

use super::*;
use crate::vault::FileKeyStore;
use jiff::Timestamp;
use protocol::{HookText, Incarnation};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn vault(dir: &std::path::Path) -> Vault {
    Vault::open(&FileKeyStore::new(dir.join("vault.key")), true).unwrap()
}

fn repository(vault: &Vault, seed: u8) -> Repository {
    let id = RepositoryId::new(1, &[seed; 10]);
    Repository {
        id,
        name: format!("repository {seed}"),
        url: format!("rest:https://store.example.org/{seed}"),
        username: Some("box".to_owned()),
        password_sealed: vault.seal(&password_place(id), b"canary-password").unwrap(),
        credential_sealed: Some(vault.seal(&credential_place(id), b"canary-credential").unwrap()),
        ca_pem: None,
        append_only: true,
        store_host_id: None,
        created_at: at(1),
        updated_at: at(1),
        initialised_at: None,
        revision: 0,
    }
}

fn plan(seed: u8, repository: &Repository) -> Plan {
    Plan {
        id: PlanId::new(1, &[seed; 10]),
        name: format!("plan {seed}"),
        repository_id: Some(repository.id),
        paths: vec!["/home".to_owned()],
        excludes: Vec::new(),
        presets: Vec::new(),
        tags: Vec::new(),
        retention: None,
        options: PlanOptions::default(),
        cron: String::new(),
        enabled: true,
        created_at: at(1),
        updated_at: at(1),
        revision: 0,
    }
}

fn channel(vault: &Vault) -> Channel {
    let id = ChannelId::new(1, &[1; 10]);
    Channel {
        id,
        name: "chat".to_owned(),
        kind: ChannelKind::Webhook,
        place: "https://chat.example".to_owned(),
        url_sealed: Some(vault.seal(&channels::url_place(id), b"https://canary").unwrap()),
        token_sealed: Some(vault.seal(&channels::token_place(id), b"canary-token").unwrap()),
        mail: None,
        all_hosts: true,
        created_at: at(1),
        updated_at: at(1),
        revision: 0,
    }
}

fn sources(vault: &Vault) -> Sources {
    let repositories = vec![repository(vault, 1), repository(vault, 2)];
    let plans = vec![plan(1, &repositories[0]), plan(2, &repositories[1])];
    let nature = Nature { os: HostOs::Linux, runs_hooks: RunsHooks::All, stale_after_days: None };
    let addresses = vec!["box:9781".to_owned()];
    let channels = vec![channel(vault)];
    let machine = Some("web-1".to_owned());
    Sources { nature, plans, repositories, addresses, channels, machine }
}

const fn generation(incarnation: Incarnation) -> Generation {
    Generation { incarnation, n: 4 }
}

#[test]
fn the_digest_sees_every_change_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path());
    let before = sources(&vault);
    // Sealing again gives other bytes for the same secret: that is no change.
    assert_eq!(before.digest(), sources(&vault).digest());
    let mut changed = Vec::new();
    let mut change = |act: fn(&mut Sources)| {
        let mut sources = before.clone();
        act(&mut sources);
        changed.push(sources.digest());
    };
    change(|sources| sources.repositories[0].updated_at = at(2));
    change(|sources| sources.repositories[0].url.push('x'));
    change(|sources| sources.repositories[0].credential_sealed = None);
    change(|sources| sources.plans[0].enabled = false);
    change(|sources| sources.plans[0].paths.clear());
    change(|sources| sources.plans[0].cron = "@daily".to_owned());
    change(|sources| sources.plans[0].options.one_file_system = true);
    change(|sources| sources.plans[0].presets.push("trash".to_owned()));
    change(|sources| drop(sources.plans.pop()));
    change(|sources| sources.addresses.clear());
    change(|sources| sources.channels[0].updated_at = at(2));
    change(|sources| sources.channels[0].token_sealed = None);
    change(|sources| sources.channels.clear());
    change(|sources| sources.nature.stale_after_days = Some(3));
    changed.push(before.digest());
    let all = changed.len();
    changed.sort();
    changed.dedup();
    assert_eq!(changed.len(), all);
}

#[test]
fn each_host_gets_the_presets_of_its_own_system_and_options_only_where_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(&vault(dir.path()));
    sources.plans[0].excludes = vec!["*.iso".to_owned()];
    sources.plans[0].presets = vec!["trash".to_owned(), "of a later version".to_owned()];
    sources.plans[1].options.hooks.before = Some(Hook::Named("dump".to_owned()));
    let excludes = |os| {
        let nature = Nature { os, ..sources.nature };
        Sources { nature, ..sources.clone() }.schedules()[0].excludes.clone()
    };
    assert_eq!(excludes(HostOs::Windows), ["*.iso", "$RECYCLE.BIN", "$Recycle.Bin"]);
    assert_eq!(excludes(HostOs::Darwin), ["*.iso", "/Users/*/.Trash/*", ".Trashes"]);
    assert_eq!(excludes(HostOs::Unknown), ["*.iso"]);
    let schedules = sources.schedules();
    assert_eq!(schedules[0].options, None);
    assert_eq!(schedules[1].options().unwrap(), sources.plans[1].options);
}

#[test]
fn an_agent_that_runs_no_hooks_gets_no_plan_that_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path());
    let mut sources = sources(&vault);
    sources.plans[0].cron = "@daily".to_owned();
    sources.plans[0].options.hooks.before = Some(Hook::Named("dump".to_owned()));
    sources.plans[1].options.hooks.timeout_seconds = Some(60);
    let before = sources.digest();
    assert_eq!((sources.schedules().len(), sources.times().len()), (2, 1));
    sources.nature.runs_hooks = RunsHooks::None;
    assert_ne!(sources.digest(), before);
    let schedules = sources.schedules();
    assert_eq!((schedules.len(), schedules[0].id), (1, sources.plans[1].id));
    assert!(sources.times().is_empty(), "what it does not get is not due there");
    let generation = generation(Incarnation::new(1, &[1; 10]));
    let state = compile_version_1(&sources, &vault, generation).unwrap();
    assert!(state.schedules.schedules.is_empty(), "nor without its hooks in version 1");
    sources.nature.runs_hooks = RunsHooks::TextAround;
    assert_eq!(sources.schedules().len(), 1, "version 1 knows no names");
}

#[test]
fn a_version_1_agent_gets_one_repository_and_only_its_plans() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path());
    let mut sources = sources(&vault);
    sources.plans[0].options.one_file_system = true;
    let text = HookText { text: "dump > /x".to_owned() };
    sources.plans[0].options.hooks.before = Some(Hook::Written(text));
    let generation = generation(Incarnation::new(1, &[1; 10]));
    let state = compile_version_1(&sources, &vault, generation).unwrap();
    assert_eq!(state.config.repo_url, Patch::Set("rest:https://store.example.org/1".to_owned()));
    assert!(
        matches!(&state.config.repo_password, Patch::Set(it) if it.expose_secret() == "canary-password")
    );
    assert_eq!(state.schedules.schedules.len(), 1);
    assert_eq!(state.schedules.schedules[0].options, None);
    assert_eq!(state.schedules.schedules[0].pre_hook, "dump > /x");
    let nothing = Sources { plans: Vec::new(), repositories: Vec::new(), ..sources };
    let state = compile_version_1(&nothing, &vault, generation).unwrap();
    assert_eq!(state.config.repo_password, Patch::Clear);
    assert!(state.schedules.schedules.is_empty());
}

#[test]
fn a_compiled_state_shows_no_secret_when_it_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path());
    let sources = sources(&vault);
    let generation = generation(Incarnation::new(1, &[1; 10]));
    let state = compile(&sources, &vault, generation, sources.digest()).unwrap();
    let repositories = state.config.repositories.as_ref().unwrap();
    assert_eq!(repositories[1].password.expose_secret(), "canary-password");
    assert!(!format!("{state:?} {sources:?}").contains("canary"));
}

#[test]
fn secrets_that_do_not_open_are_an_error_and_not_an_empty_password() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = sources(&vault(one.path()));
    let generation = generation(Incarnation::new(1, &[1; 10]));
    assert!(compile(&sources, &vault(two.path()), generation, String::new()).is_err());
}
