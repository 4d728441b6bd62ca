//! `PUT /api/repositories/{id}`

use super::{
    RepositoryView, announce, check_ca, check_secret, check_username, check_whole, find, touch,
    view,
};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::repositories::{self, Repository, credential_place, password_place},
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{Patch, RepositoryId, Secret};
use serde::Deserialize;
use utoipa::ToSchema;

/// A changed repository. Absent leaves a field alone, `null` clears it, a value sets it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateRepositoryForm {
    name: Option<String>,
    url: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    username: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    credential: Patch<Secret<String>>,
    /// The repository's own password can be set, never cleared.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ca_pem: Patch<String>,
    append_only: Option<bool>,
    /// The repository's name, typed: needed to replace the password of one that exists. Nobody can
    /// read what was written with the old one unless it was kept elsewhere.
    confirm: Option<String>,
}

/// Changes a repository. Another location counts as not initialised until it is seen.
#[utoipa::path(put, path = "/api/repositories/{id}", operation_id = "update_repository",
    tag = "repositories", params(("id" = String, Path, format = Uuid)),
    request_body = UpdateRepositoryForm,
    responses((status = 200, body = RepositoryView), (status = "default", body = ProblemView)))]
pub async fn update(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
    Body(form): Body<UpdateRepositoryForm>,
) -> ApiResult<Json<RepositoryView>> {
    let mut change = Change::begin(&manager, who).await?;
    let mut repository = find(&mut *change.tx, id).await?;
    super::not_in_store(&repository)?;
    // Stands in the digest for the secrets, so each change must be another instant.
    let next = repository.updated_at + jiff::SignedDuration::from_millis(1);
    repository.updated_at = change.now.max(next);
    if form.password.is_some() && repository.initialised_at.is_some() {
        check::confirmed(form.confirm.as_deref(), &repository.name)?;
    }
    let before = repository.url.clone();
    let detail = apply(&manager, form, &mut repository)?;
    super::name_is_free(&mut change.tx, &repository.name, Some(id)).await?;
    // Two that are at one place already can still be renamed, and one of them moved.
    if repository.url != before {
        super::location_is_free(&mut change.tx, &repository.url, Some(id)).await?;
    }
    repositories::update(&mut change.tx, &repository).await?;
    let hosts = touch(&manager, &mut change, id).await?;
    change.commit("repository.update", &format!("repository:{id}"), &detail).await?;
    announce(&manager, id, &hosts).await;
    Ok(Json(view(&manager, repository).await?))
}

/// Applies the form. Returns the names of the fields that it set, for the audit log.
fn apply(manager: &Manager, form: UpdateRepositoryForm, to: &mut Repository) -> ApiResult<String> {
    let mut fields = Vec::new();
    if let Some(name) = form.name {
        to.name = check::name("name", &name)?;
        fields.push("name");
    }
    if let Some(url) = form.url {
        if url != to.url {
            to.initialised_at = None;
        }
        to.url = url;
        fields.push("url");
    }
    if let Patch::Set(username) = &form.username {
        check_username(username)?;
    }
    if let Patch::Set(pem) = &form.ca_pem {
        check_ca(pem)?;
    }
    for (field, is_left) in
        [("username", form.username.is_leave()), ("ca_pem", form.ca_pem.is_leave())]
    {
        if !is_left {
            fields.push(field);
        }
    }
    form.username.apply(&mut to.username);
    form.ca_pem.apply(&mut to.ca_pem);
    if let Some(append_only) = form.append_only {
        to.append_only = append_only;
        fields.push("append_only");
    }
    apply_secrets(manager, form.password, form.credential, to, &mut fields)?;
    check_whole(to)?;
    Ok(fields.join(", "))
}

fn apply_secrets(
    manager: &Manager,
    password: Option<Secret<String>>,
    credential: Patch<Secret<String>>,
    to: &mut Repository,
    fields: &mut Vec<&'static str>,
) -> ApiResult<()> {
    let seal = |field, place: String, secret: &Secret<String>| -> ApiResult<Vec<u8>> {
        check_secret(field, secret)?;
        manager.vault().seal(&place, secret.expose_secret().as_bytes()).map_err(ApiError::from)
    };
    if let Some(password) = &password {
        to.password_sealed = seal("password", password_place(to.id), password)?;
        fields.push("password");
    }
    match &credential {
        Patch::Leave => return Ok(()),
        Patch::Clear => to.credential_sealed = None,
        Patch::Set(credential) => {
            to.credential_sealed = Some(seal("credential", credential_place(to.id), credential)?);
        }
    }
    fields.push("credential");
    Ok(())
}
