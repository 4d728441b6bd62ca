//! Holds the arrows between the crates, as `ARCHITECTURE.md` draws them.
//!
//! Three rules, over what cargo itself says of the workspace:
//!
//! 1. a crate of ours uses only those of ours that its row names;
//! 2. a crate does not directly use what its row bans, as an ordinary or a build dependency on
//!    any platform (what comes along with something else does not count: axum brings a
//!    WebSocket library for the server without the server choosing it);
//! 3. some crates must not be linked at all, however they come.
//!
//! A member of the workspace without a row fails, so that a new crate has to take its place.

#![expect(clippy::expect_used, reason = "a test that meets the unexpected stops, and says where")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// A crate's place.
struct Row {
    package: &'static str,
    /// The crates of ours that it may use.
    may_use: &'static [&'static str],
    /// What it must not use itself, and why.
    never: &'static [(&'static str, &'static str)],
}

const PROTOCOL: &str = "restic-manager-protocol";
const SCHEDULE: &str = "restic-manager-schedule";
const RESTIC: &str = "restic-manager-restic";
const OUTCOME: &str = "restic-manager-outcome";
const SERVER: &str = "restic-manager-server";
const AGENT: &str = "restic-manager-agent";
const SHELL: &str = "restic-manager";
const TESTS: &str = "restic-manager-tests";
const XTASK: &str = "xtask";

const PURE_TYPES: &str = "wire types are shared by every program, and decide nothing about IO";
const PURE_TIME: &str = "time is computed from what is passed in, so that years can be simulated";
const ONLY_RESTIC: &str = "it runs one program and reads its output; who asked is not its matter";
const ONLY_WORDS: &str = "it turns answers into words, and does nothing";
const SMALL_AGENT: &str = "the agent dials out and listens to nobody, and is small";

const ROWS: &[Row] = &[
    Row {
        package: PROTOCOL,
        // For the types of schedules only.
        may_use: &[SCHEDULE],
        never: &[
            ("tokio", PURE_TYPES),
            ("tokio-util", PURE_TYPES),
            ("sqlx", PURE_TYPES),
            ("axum", PURE_TYPES),
            ("hyper", PURE_TYPES),
            ("reqwest", PURE_TYPES),
            ("rustls", PURE_TYPES),
            ("tungstenite", PURE_TYPES),
            ("tokio-tungstenite", PURE_TYPES),
        ],
    },
    Row {
        package: SCHEDULE,
        may_use: &[],
        never: &[
            ("tokio", PURE_TIME),
            ("tokio-util", PURE_TIME),
            ("sqlx", PURE_TIME),
            ("axum", PURE_TIME),
            ("hyper", PURE_TIME),
            ("reqwest", PURE_TIME),
            ("tungstenite", PURE_TIME),
            ("tokio-tungstenite", PURE_TIME),
        ],
    },
    Row {
        package: RESTIC,
        may_use: &[],
        never: &[
            ("sqlx", ONLY_RESTIC),
            ("axum", ONLY_RESTIC),
            ("hyper", ONLY_RESTIC),
            ("reqwest", ONLY_RESTIC),
            ("tungstenite", ONLY_RESTIC),
            ("tokio-tungstenite", ONLY_RESTIC),
        ],
    },
    Row {
        package: OUTCOME,
        may_use: &[PROTOCOL, RESTIC],
        never: &[
            ("tokio", ONLY_WORDS),
            ("tokio-util", ONLY_WORDS),
            ("sqlx", ONLY_WORDS),
            ("axum", ONLY_WORDS),
            ("hyper", ONLY_WORDS),
            ("reqwest", ONLY_WORDS),
            ("tungstenite", ONLY_WORDS),
            ("tokio-tungstenite", ONLY_WORDS),
        ],
    },
    Row {
        package: SERVER,
        may_use: &[PROTOCOL, SCHEDULE, RESTIC, OUTCOME],
        never: &[("keyring", "a headless host has no keyring session; the shell brings its own")],
    },
    Row {
        package: AGENT,
        may_use: &[PROTOCOL, SCHEDULE, RESTIC, OUTCOME],
        never: &[
            ("axum", SMALL_AGENT),
            ("axum-server", SMALL_AGENT),
            ("utoipa", SMALL_AGENT),
            ("reqwest", SMALL_AGENT),
        ],
    },
    // The desktop browses, restores and maintains through the server, as the network does.
    // From the others come the problem that it tells, and the clock that it hands over.
    Row {
        package: SHELL,
        may_use: &[SERVER, PROTOCOL, SCHEDULE],
        never: &[
            ("sqlx", "the server owns the database"),
            ("restic-manager-restic", "restic is run by the server and the agents"),
        ],
    },
    Row {
        package: TESTS,
        may_use: &[PROTOCOL, SCHEDULE, RESTIC, OUTCOME, SERVER, AGENT],
        never: &[],
    },
    // A newcomer waits for this one first, and a product that does not compile must still be
    // testable.
    Row { package: XTASK, may_use: &[], never: &[("tokio", "it has to compile in seconds")] },
];

/// What must not be linked into a crate in any way: who, whom, why. No name means everybody.
const NOWHERE_IN_THE_TREE: &[(Option<&str>, &str, &str)] = &[
    (None, "aws-lc-sys", "ring is the one cryptography provider"),
    (None, "aws-lc-rs", "ring is the one cryptography provider"),
    (None, "openssl-sys", "TLS is rustls everywhere"),
    (None, "native-tls", "TLS is rustls everywhere"),
    (None, "rusqlite", "sqlx links SQLite, and only one crate of a program may"),
    (Some(PROTOCOL), "tokio", PURE_TYPES),
    (Some(SCHEDULE), "tokio", PURE_TIME),
    (Some(AGENT), "axum", SMALL_AGENT),
    (Some(AGENT), "tauri", SMALL_AGENT),
    (Some(SERVER), "tauri", "the server runs without a desktop"),
    (Some(RESTIC), "tauri", ONLY_RESTIC),
    (Some(TESTS), "tauri", "tests run on machines without a WebKit"),
    (Some(XTASK), "tauri", "it has to compile in seconds"),
];

#[test]
fn every_crate_has_its_place() {
    let metadata = metadata();
    let known: BTreeSet<&str> = ROWS.iter().map(|row| row.package).collect();
    let strangers: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "give these crates a row in this file: {strangers:?}");
}

#[test]
fn crates_use_only_those_of_ours_that_they_may() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = ROWS.iter().map(|row| row.package).collect();
    let mut broken = Vec::new();
    for row in ROWS {
        for used in direct_dependencies(&metadata, row.package) {
            if ours.contains(used.as_str()) && !row.may_use.contains(&used.as_str()) {
                broken.push(format!("{} must not use {used}", row.package));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn crates_do_not_use_what_is_banned_for_them() {
    let metadata = metadata();
    let mut broken = Vec::new();
    for row in ROWS {
        let used = direct_dependencies(&metadata, row.package);
        for (banned, why) in row.never {
            if used.contains(*banned) {
                broken.push(format!("{} must not use {banned}: {why}", row.package));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn nothing_banned_is_linked_by_way_of_others() {
    let metadata = metadata();
    let tree = Tree::new(&metadata);
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let paths = tree.paths_from(&package.id);
        for (who, banned, why) in NOWHERE_IN_THE_TREE {
            if who.is_none_or(|who| who == package.name.as_str())
                && let Some(path) = paths.get(banned)
            {
                broken.push(format!("{path}: {why}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// All features, on all platforms.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .expect("cargo describes the workspace")
}

/// What a member's manifest names outside of its dev-dependencies. A crate that is not there
/// yet uses nothing.
fn direct_dependencies(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let members = metadata.workspace_packages();
    let Some(member) = members.iter().find(|member| member.name.as_str() == package) else {
        return BTreeSet::new();
    };
    member
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
        .collect()
}

/// The resolved dependencies without those that only tests need.
struct Tree<'a> {
    names: BTreeMap<&'a PackageId, &'a str>,
    links: BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
}

impl<'a> Tree<'a> {
    fn new(metadata: &'a Metadata) -> Self {
        let resolve = metadata.resolve.as_ref().expect("cargo resolves the dependencies");
        let names = metadata.packages.iter().map(|it| (&it.id, it.name.as_str())).collect();
        let links = resolve.nodes.iter().map(|node| {
            let linked = node.deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|it| it.kind != DependencyKind::Development)
            });
            (&node.id, linked.map(|dependency| &dependency.pkg).collect())
        });
        Self { names, links: links.collect() }
    }

    /// Everything that a crate links, each with one way to it: `agent → sqlx → …`.
    fn paths_from(&self, root: &'a PackageId) -> BTreeMap<&'a str, String> {
        let mut paths = BTreeMap::new();
        let mut open = vec![(root, self.names[root].to_owned())];
        let mut seen = BTreeSet::new();
        while let Some((id, path)) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            for next in &self.links[id] {
                open.push((next, format!("{path} → {}", self.names[next])));
            }
            paths.insert(self.names[id], path);
        }
        paths
    }
}
