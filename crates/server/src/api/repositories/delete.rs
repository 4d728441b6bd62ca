//! `DELETE /api/repositories/{id}`

use super::find;
use crate::{
    api::{
        ConfirmForm,
        change::Change,
        check,
        error::{ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::repositories,
    events::Topic,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use protocol::{Code, Problem, RepositoryId};

/// Forgets a repository and its password. What lies at the location is untouched. The repository's
/// name confirms; a repository that a plan uses stays.
#[utoipa::path(delete, path = "/api/repositories/{id}", operation_id = "delete_repository",
    tag = "repositories", params(("id" = String, Path, format = Uuid)),
    request_body = ConfirmForm,
    responses((status = 204, description = "Forgotten"), (status = "default", body = ProblemView)))]
pub async fn delete(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
    Body(form): Body<ConfirmForm>,
) -> ApiResult<StatusCode> {
    let mut change = Change::begin(&manager, who).await?;
    let repository = find(&mut *change.tx, id).await?;
    super::not_in_store(&repository)?;
    if !repositories::plans(&mut *change.tx, id).await?.is_empty() {
        return Err(Problem::new(Code::Conflict, "A plan still writes into this repository.")
            .guidance("Delete its plans, or give them another repository, first.")
            .into());
    }
    check::confirmed(form.confirm.as_deref(), &repository.name)?;
    repositories::delete(&mut change.tx, id).await?;
    change.commit("repository.delete", &format!("repository:{id}"), &repository.name).await?;
    manager.events().publish(Topic::Repository(id));
    Ok(StatusCode::NO_CONTENT)
}
