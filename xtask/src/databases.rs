//! The databases that checked queries are compiled against.
//!
//! The workspace has two databases, the server's and the agent's, each with its own migrations
//! and its own crate. `query!` takes one `DATABASE_URL` from the environment, so each crate is
//! prepared alone: `cargo sqlx prepare` is called in the crate's folder with the address of its
//! own database, and writes the crate's own `.sqlx` folder. A build without `DATABASE_URL` looks
//! there first, so ordinary builds need no database, no `.env` and no `sqlx.toml`.
//!
//! The databases are made afresh from the migrations each time, in `target/dev`. They hold no
//! data, and a migration that is still being written would not apply to yesterday's.
//!
//! `cargo sqlx prepare` touches the crate's sources so that cargo compiles them again. The times
//! are put back afterwards: otherwise every `check` would cost a rebuild of what depends on them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report};

/// A database, and the crate that queries it.
pub(crate) struct Database {
    /// Its name, which is its folder under `migrations` too.
    pub(crate) name: &'static str,
    crate_dir: &'static str,
}

/// Every database of the product.
pub(crate) const ALL: &[Database] = &[
    Database { name: "server", crate_dir: "crates/server" },
    Database { name: "agent", crate_dir: "agent" },
];

/// `sqlx-prepare`: renews the `.sqlx` folder of each crate that has queries.
pub(crate) fn prepare(workspace: &Workspace) -> Result<ExitCode> {
    let mut prepared = Vec::new();
    for database in ALL {
        if !database.has_queries(workspace)? {
            println!("{}: no checked queries", database.crate_dir);
            continue;
        }
        database.create(workspace)?;
        database.compile_queries(workspace, &["prepare"])?;
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

    /// Where the crate keeps what is known of its queries.
    pub(crate) fn sqlx_dir(&self, workspace: &Workspace) -> PathBuf {
        workspace.root().join(self.crate_dir).join(".sqlx")
    }

    /// Makes the database from its migrations.
    pub(crate) fn create(&self, workspace: &Workspace) -> Result<()> {
        fs::create_dir_all(workspace.dev_dir()).context("failed to create target/dev")?;
        for ending in ["", "-wal", "-shm"] {
            let file = self.file(workspace).with_extension(format!("db{ending}"));
            if file.exists() {
                fs::remove_file(file).context("failed to remove the former database")?;
            }
        }
        let migrations = workspace.root().join("migrations").join(self.name);
        exec::succeed(self.sqlx(workspace)?.args(["database", "create"]))?;
        exec::succeed(self.sqlx(workspace)?.args(["migrate", "run", "--source"]).arg(migrations))
    }

    /// Fails where the `.sqlx` folder does not fit the queries and the migrations.
    pub(crate) fn check(&self, workspace: &Workspace) -> Result<()> {
        if !self.sqlx_dir(workspace).exists() {
            bail!(
                "{} has queries and no .sqlx folder: run `cargo xtask sqlx-prepare`",
                self.crate_dir
            );
        }
        self.compile_queries(workspace, &["prepare", "--check"])
            .context("run `cargo xtask sqlx-prepare`, and commit the .sqlx folder")
    }

    fn compile_queries(&self, workspace: &Workspace, verb: &[&str]) -> Result<()> {
        let crate_dir = workspace.root().join(self.crate_dir);
        let sources = rust_sources(&crate_dir)?;
        let mut sqlx = self.sqlx(workspace)?;
        sqlx.args(verb).args(["--", "--all-targets", "--all-features"]).current_dir(&crate_dir);
        let result = exec::succeed(&mut sqlx);
        sources.iter().for_each(Source::restore_time);
        result
    }

    fn sqlx(&self, workspace: &Workspace) -> Result<Command> {
        let mut sqlx = CargoTool::Sqlx.command(workspace)?;
        let file = self.file(workspace);
        sqlx.env("DATABASE_URL", format!("sqlite://{}?mode=rwc", file.display()));
        sqlx.env_remove("SQLX_OFFLINE");
        Ok(sqlx)
    }

    fn file(&self, workspace: &Workspace) -> PathBuf {
        workspace.dev_dir().join(format!("{}.db", self.name))
    }
}

/// A source file as it was before sqlx touched it.
struct Source {
    path: PathBuf,
    text: String,
    modified: SystemTime,
}

impl Source {
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

fn has_query(text: &str) -> bool {
    let macros = ["query!(", "query_as!(", "query_scalar!(", "query_file!(", "query_file_as!("];
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| macros.iter().any(|call| line.contains(call)))
}

#[cfg(test)]
mod tests {
    use super::has_query;

    #[test]
    fn a_query_in_a_comment_is_none() {
        assert!(has_query("let n = sqlx::query_scalar!(\n\"select 1\""));
        assert!(!has_query("//! Every `query!(…)` is checked.\nfn f() {}"));
    }
}
