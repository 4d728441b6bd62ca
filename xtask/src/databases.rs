//! The databases that checked queries are compiled against.
//!
//! The workspace has two databases, the server's and the agent's, each with its own migrations
//! and its own crate. A crate's queries are described in its own `.sqlx` folder, where a build
//! without a database looks first. So ordinary builds need no database, no `.env`, no variables.
//!
//! To describe the queries of a crate, it is compiled alone, with the address of its own database
//! in `DATABASE_URL` and, for crates whose `sqlx.toml` asks for a name of their own, in
//! `SERVER_DATABASE_URL` or `AGENT_DATABASE_URL`; the macros then write what they learned into
//! `SQLX_OFFLINE_DIR`. This is what `cargo sqlx prepare` does as well. It is done here because
//! that command empties `.sqlx` before it knows whether the crate compiles, does not say which
//! query is stale, and stops at a `sqlx.toml` unless it was built with a feature for it.
//!
//! The databases are made afresh from the migrations each time, in `target/dev`. They hold no
//! data, and a migration that is still being written would not apply to yesterday's.
//!
//! Cargo compiles the crate again because the times of its sources are renewed. They are put back
//! afterwards: otherwise every `check` would cost a rebuild of what depends on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report};

/// A database, and the crate that queries it.
pub(crate) struct Database {
    /// Its name, which is its folder under `migrations` too.
    pub(crate) name: &'static str,
    package: &'static str,
    crate_dir: &'static str,
}

/// Every database of the product.
pub(crate) const ALL: &[Database] = &[
    Database { name: "server", package: "restic-manager-server", crate_dir: "crates/server" },
    Database { name: "agent", package: "restic-manager-agent", crate_dir: "agent" },
];

/// `sqlx-prepare`: renews the `.sqlx` folder of each crate that has queries.
pub(crate) fn prepare(workspace: &Workspace) -> Result<ExitCode> {
    let mut prepared = Vec::new();
    for database in ALL {
        if !database.has_queries(workspace)? {
            println!("{}: no checked queries", database.crate_dir);
            continue;
        }
        database.renew(workspace)?;
        prepared.push(database.crate_dir);
    }
    Ok(report::finish(&json!({ "ok": true, "prepared": prepared })))
}

impl Database {
    /// Whether the crate has a `query!` of any kind.
    pub(crate) fn has_queries(&self, workspace: &Workspace) -> Result<bool> {
        let sources = rust_sources(&workspace.root().join(self.crate_dir))?;
        Ok(sources.iter().any(|source| has_query(&source.text)))
    }

    /// Whether there is a folder that describes queries, be it of queries that are gone.
    pub(crate) fn has_descriptions(&self, workspace: &Workspace) -> bool {
        self.sqlx_dir(workspace).exists()
    }

    /// Fails where the `.sqlx` folder does not fit the queries and the migrations, and says which
    /// file does not.
    pub(crate) fn check(&self, workspace: &Workspace) -> Result<()> {
        let wanted = self.describe_queries(workspace)?;
        let present = descriptions_in(&self.sqlx_dir(workspace))?;
        let complaints = differences(&present, &wanted);
        if !complaints.is_empty() {
            let folder = self.sqlx_dir(workspace);
            let complaints = complaints.join("\n  ");
            bail!("run `cargo xtask sqlx-prepare`: in {}\n  {complaints}", folder.display());
        }
        Ok(())
    }

    /// Makes the `.sqlx` folder fit. It stays as it is where the crate does not compile.
    fn renew(&self, workspace: &Workspace) -> Result<()> {
        let wanted = self.describe_queries(workspace)?;
        let folder = self.sqlx_dir(workspace);
        fs::create_dir_all(&folder).context("failed to create the .sqlx folder")?;
        let present = descriptions_in(&folder)?;
        for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
            fs::remove_file(folder.join(name)).context("failed to remove what is not needed")?;
        }
        for name in wanted.keys() {
            fs::copy(self.fresh_dir(workspace).join(name), folder.join(name))
                .context("failed to copy the description of a query")?;
        }
        println!("{}: {} checked queries", self.crate_dir, wanted.len());
        Ok(())
    }

    /// Compiles the crate against its database, and returns what the macros wrote.
    fn describe_queries(&self, workspace: &Workspace) -> Result<BTreeMap<String, Value>> {
        self.create(workspace)?;
        let fresh = self.fresh_dir(workspace);
        let scratch = workspace.dev_dir().join("scratch");
        for folder in [&fresh, &scratch] {
            if folder.exists() {
                fs::remove_dir_all(folder).context("failed to empty a folder in target/dev")?;
            }
            fs::create_dir_all(folder).context("failed to create a folder in target/dev")?;
        }
        let mut cargo = workspace.cargo();
        cargo.args(["check", "--locked", "--all-targets", "--all-features"]);
        cargo.args(["--package", self.package]);
        cargo.env("SQLX_OFFLINE", "false").env("SQLX_OFFLINE_DIR", &fresh);
        cargo.env("SQLX_TMP", &scratch).env("DATABASE_URL", self.url(workspace));
        cargo.env(format!("{}_DATABASE_URL", self.name.to_uppercase()), self.url(workspace));

        let sources = rust_sources(&workspace.root().join(self.crate_dir))?;
        sources.iter().try_for_each(Source::renew_time)?;
        let compiled = exec::succeed(&mut cargo);
        sources.iter().for_each(Source::restore_time);
        compiled?;
        descriptions_in(&fresh)
    }

    /// Makes the database from its migrations.
    fn create(&self, workspace: &Workspace) -> Result<()> {
        fs::create_dir_all(workspace.dev_dir()).context("failed to create target/dev")?;
        for ending in ["db", "db-wal", "db-shm"] {
            let file = workspace.dev_dir().join(format!("{}.{ending}", self.name));
            if file.exists() {
                fs::remove_file(file).context("failed to remove the former database")?;
            }
        }
        let migrations = workspace.root().join("migrations").join(self.name);
        exec::succeed(self.sqlx(workspace)?.args(["database", "create"]))?;
        exec::succeed(self.sqlx(workspace)?.args(["migrate", "run", "--source"]).arg(migrations))
    }

    fn sqlx(&self, workspace: &Workspace) -> Result<Command> {
        let mut sqlx = CargoTool::Sqlx.command(workspace)?;
        sqlx.env("DATABASE_URL", self.url(workspace));
        Ok(sqlx)
    }

    fn url(&self, workspace: &Workspace) -> String {
        let file = workspace.dev_dir().join(format!("{}.db", self.name));
        format!("sqlite://{}?mode=rwc", file.display())
    }

    fn sqlx_dir(&self, workspace: &Workspace) -> PathBuf {
        workspace.root().join(self.crate_dir).join(".sqlx")
    }

    fn fresh_dir(&self, workspace: &Workspace) -> PathBuf {
        workspace.dev_dir().join(format!("{}.sqlx", self.name))
    }
}

/// The descriptions of queries in a folder, by file name.
fn descriptions_in(folder: &Path) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).context("failed to list descriptions of queries")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("query-") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            let description = serde_json::from_str(&text)
                .with_context(|| format!("failed to understand {}", path.display()))?;
            found.insert(name.to_owned(), description);
        }
    }
    Ok(found)
}

/// What is wrong with the present descriptions, a line each.
fn differences(present: &BTreeMap<String, Value>, wanted: &BTreeMap<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, description) in wanted {
        match present.get(name) {
            Some(same) if same == description => {}
            Some(_) => lines.push(format!("{name} is out of date: {}", sql(description))),
            None => lines.push(format!("{name} is missing: {}", sql(description))),
        }
    }
    for (name, description) in present.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        lines.push(format!("{name} is not needed any more: {}", sql(description)));
    }
    lines
}

#[expect(clippy::disallowed_methods, reason = "cargo compares times of files with the clock's")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A source file as it was before it was touched.
struct Source {
    path: PathBuf,
    text: String,
    modified: SystemTime,
}

impl Source {
    fn renew_time(&self) -> Result<()> {
        let file = File::options().append(true).open(&self.path);
        file.and_then(|file| file.set_modified(now()))
            .with_context(|| format!("failed to touch {}", self.path.display()))
    }

    /// Puts the time back, unless somebody edited the file in the meantime. A time that stays
    /// new costs one compilation, so what goes wrong here is not worth stopping for.
    fn restore_time(&self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
            && let Ok(file) = File::options().append(true).open(&self.path)
        {
            let _ = file.set_modified(self.modified);
        }
    }
}

fn rust_sources(folder: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            sources.extend(rust_sources(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let modified = fs::metadata(&path)?.modified()?;
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            sources.push(Source { path, text, modified });
        }
    }
    Ok(sources)
}

/// The beginning of a query, on one line.
fn sql(description: &Value) -> String {
    let words = description["query"].as_str().unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ").chars().take(80).collect()
}

fn has_query(text: &str) -> bool {
    let macros = ["query!(", "query_as!(", "query_scalar!(", "query_file!(", "query_file_as!("];
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| macros.iter().any(|call| line.contains(call)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{differences, has_query};

    #[test]
    fn each_stale_description_is_named() {
        let described = |names: &[(&str, &str)]| -> BTreeMap<_, _> {
            names.iter().map(|(name, sql)| ((*name).to_owned(), json!({ "query": sql }))).collect()
        };
        let present = described(&[("query-1", "same"), ("query-2", "before"), ("query-3", "gone")]);
        let wanted = described(&[("query-1", "same"), ("query-2", "after"), ("query-4", "new")]);
        let expected = [
            "query-2 is out of date: after",
            "query-4 is missing: new",
            "query-3 is not needed any more: gone",
        ];
        assert_eq!(differences(&present, &wanted), expected);
        assert!(differences(&wanted, &wanted).is_empty());
    }

    #[test]
    fn a_query_in_a_comment_is_none() {
        assert!(has_query("let n = sqlx::query_scalar!(\n\"select 1\""));
        assert!(!has_query("//! Every `query!(…)` is checked.\nfn f() {}"));
    }
}
