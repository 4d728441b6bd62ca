//! `GET /api/store`

use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{
        hosts::{self, HostState},
        repositories::{self, Repository},
        store as rows,
    },
    manager::Manager,
    store::{
        Refused,
        place::{Place, room},
        trash,
    },
};
use anyhow::Context as _;
use axum::{Json, extract::State};
use jiff::Timestamp;
use protocol::{HostId, RepositoryId};
use serde::Serialize;
use utoipa::ToSchema;

/// So many days of its size are told.
const DAYS: u32 = 366;

/// The store.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoreView {
    /// How it stands.
    pub state: StoreState,
    /// Its folder, once one was chosen.
    pub folder: Option<String>,
    /// A folder that could be chosen: beside the database of this manager.
    pub default_folder: String,
    /// Bytes that its disk has.
    pub total_bytes: Option<u64>,
    /// Bytes that are free on its disk.
    pub free_bytes: Option<u64>,
    /// Its repositories, by name.
    pub repositories: Vec<StoredRepositoryView>,
    /// How large they were together, a value for each day on which the store was there, oldest first.
    pub sizes: Vec<StoreSizeView>,
}

/// How large the store was.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoreSizeView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The bytes of all its repositories, without what was deleted and can be brought back.
    pub bytes: u64,
}

/// How the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// No folder was chosen.
    Homeless,
    /// Its folder is there.
    Here,
    /// Its folder is not there: the disk is not connected.
    Away,
}

/// A machine's repository in the store.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredRepositoryView {
    /// The repository.
    #[schema(value_type = String, format = Uuid)]
    pub repository_id: RepositoryId,
    /// Its name.
    pub name: String,
    /// The machine whose it is.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// The name of that machine.
    pub host_name: String,
    /// Whether that machine was removed from the fleet; its repository stays.
    pub has_left: bool,
    /// Its folder.
    pub folder: String,
    /// Bytes in it; absent while the store is away.
    pub used_bytes: Option<u64>,
    /// Bytes that the machine may fill; absent for no limit.
    pub quota_bytes: Option<u64>,
    /// When the newest snapshot arrived, by this computer's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_arrival_at: Option<Timestamp>,
    /// What can be brought back, newest first.
    pub deletions: Vec<DeletionView>,
}

/// What one operation deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletionView {
    /// When the operation began; names it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Until when it can be brought back.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// Its files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of the files are snapshots.
    pub snapshots: u64,
}

impl From<trash::Deletion> for DeletionView {
    fn from(it: trash::Deletion) -> Self {
        let until = it.at.checked_add(trash::KEPT).unwrap_or(it.at);
        Self { at: it.at, until, files: it.files, bytes: it.bytes, snapshots: it.snapshots }
    }
}

/// The store: its folder and disk, what each machine has in it, and what can be brought back.
#[utoipa::path(get, path = "/api/store", operation_id = "show_store", tag = "store",
    responses((status = 200, body = StoreView), (status = "default", body = ProblemView)))]
pub async fn show(_who: Principal, State(manager): State<Manager>) -> ApiResult<Json<StoreView>> {
    Ok(Json(view(&manager).await?))
}

pub(super) async fn view(manager: &Manager) -> ApiResult<StoreView> {
    let mut view = StoreView {
        state: StoreState::Homeless,
        folder: None,
        default_folder: manager.store().default_folder().display().to_string(),
        total_bytes: None,
        free_bytes: None,
        repositories: Vec::new(),
        sizes: Vec::new(),
    };
    let place = match manager.store().place().await {
        Ok(place) => place,
        Err(Refused::Homeless) => return Ok(view),
        Err(refused) => return Err(refused.into()),
    };
    view.folder = Some(place.folder().display().to_string());
    let looking = place.clone();
    let space = tokio::task::spawn_blocking(move || {
        looking.is_here().then(|| room(looking.folder())).flatten()
    });
    let space = space.await.context("failed to look at the disk of the store")?;
    view.state = if space.is_some() { StoreState::Here } else { StoreState::Away };
    view.total_bytes = space.map(|room| room.total);
    view.free_bytes = space.map(|room| room.free);
    let is_here = view.state == StoreState::Here;
    for repository in repositories::list(manager.db().read()).await? {
        if let Some(host) = repository.store_host_id {
            view.repositories.push(stored(manager, &place, repository, host, is_here).await?);
        }
    }
    let sizes = rows::sizes(manager.db().read(), DAYS).await?;
    view.sizes =
        sizes.into_iter().map(|it| StoreSizeView { at: it.taken_at, bytes: it.bytes }).collect();
    Ok(view)
}

async fn stored(
    manager: &Manager,
    place: &Place,
    repository: Repository,
    host: HostId,
    is_here: bool,
) -> ApiResult<StoredRepositoryView> {
    let (db, id) = (manager.db().read(), repository.id);
    let access = rows::access(db, id).await?;
    let owner = hosts::find(db, host).await?;
    let deletions = if is_here { manager.store().deletions(place, id).await? } else { Vec::new() };
    Ok(StoredRepositoryView {
        repository_id: id,
        name: repository.name,
        host_id: host,
        has_left: owner.as_ref().is_none_or(|host| host.state == HostState::Removed),
        host_name: owner.map(|host| host.name).unwrap_or_default(),
        folder: place.repository(id).display().to_string(),
        used_bytes: if is_here { Some(manager.store().used(place, id).await?) } else { None },
        quota_bytes: access.and_then(|access| access.quota),
        last_arrival_at: rows::arrivals(db, id).await?.into_values().max(),
        deletions: deletions.into_iter().map(DeletionView::from).collect(),
    })
}
