//! `GET /api/repositories/{id}/snapshots/{snapshot}/tree`

use super::find;
use crate::{
    api::{
        error::{ApiError, ApiResult, ProblemView},
        extract::Params,
        runs::request::check_path,
    },
    auth::Principal,
    db::{
        folders::{self, Folder},
        repositories, snapshots,
    },
    manager::Manager,
    text,
};
use axum::{
    Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use protocol::{Code, EntryKind, HostId, Problem, RepositoryId, TreeEntry, TreeWant};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How long a machine may take: somewhat longer than it gives its restic.
const PATIENCE: Duration = Duration::from_secs(130);

/// Which folder.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TreeQuery {
    /// Its absolute path inside the snapshot; the root when absent.
    path: Option<String>,
}

/// A folder of a snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub struct TreeView {
    /// Its absolute path inside the snapshot.
    pub path: String,
    /// What is in it, folders first, by name.
    pub entries: Vec<TreeEntryView>,
    /// When it was listed. It never changes.
    #[schema(value_type = String, format = DateTime)]
    pub read_at: Timestamp,
}

/// Something in a folder of a snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub struct TreeEntryView {
    /// Its name, safe to show.
    pub name: String,
    /// Its absolute path inside the snapshot, exactly.
    pub path: String,
    /// `dir`, `file`, `symlink` or `other`.
    pub kind: String,
    /// Whether it can be chosen by itself. A name that is not valid text, or that has control
    /// characters, can only be restored with the folder around it.
    pub can_choose: bool,
    /// Bytes; files only.
    pub size: Option<u64>,
    /// When its content last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub mtime: Option<Timestamp>,
    /// Its rights as `ls -l` shows them.
    pub mode: String,
}

/// What is in one folder of a snapshot. The first time a connected machine is asked, which takes
/// seconds; after that the answer is kept.
#[utoipa::path(get, path = "/api/repositories/{id}/snapshots/{snapshot}/tree",
    operation_id = "list_folder", tag = "repositories",
    params(("id" = String, Path, format = Uuid), ("snapshot" = String, Path), TreeQuery),
    responses((status = 200, body = TreeView), (status = "default", body = ProblemView)))]
pub async fn tree(
    _who: Principal,
    State(manager): State<Manager>,
    Path((id, snapshot_id)): Path<(String, String)>,
    Params(query): Params<TreeQuery>,
) -> ApiResult<Json<TreeView>> {
    let id: RepositoryId = id.parse().map_err(|_| ApiError::not_found("repository"))?;
    let db = manager.db().read();
    find(db, id).await?;
    let path = folder_path(query.path.as_deref().unwrap_or("/"))?;
    if !snapshots::is_known(db, id, &snapshot_id).await? {
        return Err(Problem::new(Code::SnapshotUnknown, "The repository has no such snapshot.")
            .guidance("Read the repository anew, and choose the snapshot by its full id.")
            .into());
    }
    let want = TreeWant { repository_id: id, snapshot_id, path };
    if let Some(folder) = folders::find(db, &want).await? {
        let mut tx = manager.db().begin().await?;
        folders::note_use(&mut tx, &want, manager.now()).await?;
        tx.commit().await.map_err(crate::db::error::DbError::from)?;
        return Ok(Json(view(want, folder)));
    }
    ask(&manager, &want).await?;
    let folder = folders::find(db, &want).await?;
    // Gone already only where very much was opened at the same time.
    let folder = folder.ok_or_else(no_answer)?;
    Ok(Json(view(want, folder)))
}

fn folder_path(path: &str) -> ApiResult<String> {
    check_path("path", path)?;
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

async fn ask(manager: &Manager, want: &TreeWant) -> ApiResult<()> {
    let host = connected(manager, want.repository_id).await?;
    let answer = manager.trees().ask(host, want.clone()).ok_or_else(|| {
        Problem::new(Code::TooManyAttempts, "Too many folders are being read.")
            .guidance("Wait a moment, then open the folder again.")
    })?;
    manager.links().wake(host).await;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(problem))) => Err(problem.into()),
        Ok(Err(_)) | Err(_) => Err(no_answer().into()),
    }
}

/// A machine that is connected and knows the repository.
async fn connected(manager: &Manager, id: RepositoryId) -> ApiResult<HostId> {
    let knows = repositories::hosts(manager.db().read(), id).await?;
    let online = manager.links().online().await;
    knows.into_iter().find(|host| online.contains(host)).ok_or_else(|| {
        Problem::new(
            Code::HostOffline,
            "No machine that knows this repository is connected, and this folder was not opened before.",
        )
        .guidance("Start one of its machines, then open the folder again.")
        .into()
    })
}

fn no_answer() -> Problem {
    Problem::new(Code::NoAnswer, "The machine did not answer in time.")
        .guidance("Look whether it is still connected, then open the folder again.")
}

fn view(want: TreeWant, folder: Folder) -> TreeView {
    let mut entries: Vec<TreeEntryView> =
        folder.entries.into_iter().map(|entry| entry_view(&want.path, entry)).collect();
    entries.sort_by(|a, b| (a.kind != "dir", &a.name).cmp(&(b.kind != "dir", &b.name)));
    TreeView { path: want.path, entries, read_at: folder.read_at }
}

fn entry_view(folder: &str, entry: TreeEntry) -> TreeEntryView {
    let TreeEntry { name, kind, size_bytes, modified_at, permissions } = entry;
    let path = format!("{}/{name}", folder.trim_end_matches('/'));
    let can_choose = check_path("path", &path).is_ok() && !name.contains('\u{fffd}');
    TreeEntryView {
        name: text::clean(&name).into_owned(),
        path,
        kind: EntryKind::as_str(kind).to_owned(),
        can_choose,
        size: size_bytes,
        mtime: modified_at,
        mode: text::name(&permissions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_named_cannot_be_chosen_and_paints_over_nothing() {
        let entry = |name: &str| {
            let kind = EntryKind::File;
            let (size_bytes, modified_at) = (None, None);
            let permissions = String::new();
            let name = name.to_owned();
            entry_view("/etc", TreeEntry { name, kind, size_bytes, modified_at, permissions })
        };
        let plain = entry("we[ird]*na?me");
        assert!(plain.can_choose);
        assert_eq!(plain.path, "/etc/we[ird]*na?me");
        for odd in ["two\nlines", "bad\u{fffd}bytes", "turned\u{202e}txt.exe", "\u{1b}[31mred"] {
            let entry = entry(odd);
            assert!(!entry.can_choose, "{odd:?}");
            assert_eq!(entry.name, text::clean(odd));
            assert_eq!(entry.path, format!("/etc/{odd}"));
        }
    }

    #[test]
    fn a_folder_has_one_name() {
        assert_eq!(folder_path("/").unwrap(), "/");
        assert_eq!(folder_path("/etc/").unwrap(), "/etc");
        for bad in ["", "etc", "/a/../b", "/a/./b", "/a\u{0}"] {
            assert!(folder_path(bad).is_err(), "{bad:?}");
        }
    }
}
