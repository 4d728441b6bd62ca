//! `POST /api/repositories`

use super::{RepositoryView, check_ca, check_secret, check_username, check_whole, view};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
    },
    auth::{Principal, token},
    db::repositories::{self, Repository, credential_place, password_place},
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State, http::StatusCode};
use protocol::{RepositoryId, Secret, expose};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A new repository.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRepositoryForm {
    name: String,
    /// restic's location, without credentials.
    url: String,
    /// The user name for a rest-server.
    username: Option<String>,
    /// The password for the rest-server; minted when there is a user name and no password.
    #[schema(value_type = Option<String>, format = Password)]
    credential: Option<Secret<String>>,
    /// The repository's own password; minted when absent.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret<String>>,
    /// The authority of the server's certificate, PEM.
    ca_pem: Option<String>,
    /// Whether agents may only add.
    #[serde(default)]
    append_only: bool,
}

/// A new repository, and what was minted for it. Minted secrets are in no other answer, ever.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedRepositoryView {
    /// The repository.
    pub repository: RepositoryView,
    /// Its password, if it was minted.
    #[serde(serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub minted_password: Option<Secret<String>>,
    /// The rest-server's password, if it was minted.
    #[serde(serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub minted_credential: Option<Secret<String>>,
    /// What to run beside the rest-server so that it knows a minted password.
    #[serde(serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub htpasswd_line: Option<Secret<String>>,
}

/// Enters a repository. Nothing is created at the location before a run of kind `init`.
#[utoipa::path(post, path = "/api/repositories", operation_id = "create_repository",
    tag = "repositories", request_body = CreateRepositoryForm,
    responses((status = 201, body = CreatedRepositoryView),
        (status = "default", body = ProblemView)))]
pub async fn create(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<CreateRepositoryForm>,
) -> ApiResult<(StatusCode, Json<CreatedRepositoryView>)> {
    let mut change = Change::begin(&manager, who).await?;
    let entered = Entered::enter(&manager, &mut change, form).await?;
    let Repository { id, name, .. } = &entered.repository;
    change.commit("repository.create", &format!("repository:{id}"), name).await?;
    manager.events().publish(Topic::Repository(*id));
    Ok((StatusCode::CREATED, Json(entered.view(&manager).await?)))
}

/// A repository that was entered in a change, with what was minted for it.
pub(in crate::api) struct Entered {
    /// The repository.
    pub(in crate::api) repository: Repository,
    minted: Minted,
}

impl Entered {
    /// Checks the form and enters its repository.
    pub(in crate::api) async fn enter(
        manager: &Manager,
        change: &mut Change,
        form: CreateRepositoryForm,
    ) -> ApiResult<Self> {
        let minted = Minted::of(&form)?;
        let repository = build(manager, change, form, &minted)?;
        super::name_is_free(&mut change.tx, &repository.name, None).await?;
        super::location_is_free(&mut change.tx, &repository.url, None).await?;
        repositories::insert(&mut change.tx, &repository).await?;
        Ok(Self { repository, minted })
    }

    /// What is answered once, after the change was committed.
    pub(in crate::api) async fn view(self, manager: &Manager) -> ApiResult<CreatedRepositoryView> {
        let Self { repository, minted } = self;
        let username = repository.username.clone();
        Ok(CreatedRepositoryView {
            repository: view(manager, repository).await?,
            htpasswd_line: minted.credential.as_ref().zip(username).map(htpasswd_line),
            minted_password: minted.password,
            minted_credential: minted.credential,
        })
    }
}

/// The secrets that the manager makes because the admin gave none.
struct Minted {
    password: Option<Secret<String>>,
    credential: Option<Secret<String>>,
}

impl Minted {
    fn of(form: &CreateRepositoryForm) -> ApiResult<Self> {
        let wants_credential = form.username.is_some() && form.credential.is_none();
        let mint = |wanted: bool| wanted.then(|| token::mint(24)).transpose();
        Ok(Self { password: mint(form.password.is_none())?, credential: mint(wants_credential)? })
    }
}

fn build(
    manager: &Manager,
    change: &Change,
    form: CreateRepositoryForm,
    minted: &Minted,
) -> ApiResult<Repository> {
    let id: RepositoryId = manager.new_id();
    let name = check::name("name", &form.name)?;
    form.username.as_deref().map(check_username).transpose()?;
    form.ca_pem.as_deref().map(check_ca).transpose()?;
    let given = [("password", &form.password), ("credential", &form.credential)];
    for (field, secret) in given {
        secret.as_ref().map(|secret| check_secret(field, secret)).transpose()?;
    }
    let seal = |place: String, secret: &Secret<String>| {
        manager.vault().seal(&place, secret.expose_secret().as_bytes())
    };
    let password = form.password.as_ref().or(minted.password.as_ref());
    let password = password.ok_or_else(|| ApiError::invalid("password", "It is needed."))?;
    let credential = form.credential.as_ref().or(minted.credential.as_ref());
    let repository = Repository {
        id,
        name,
        url: form.url,
        username: form.username,
        password_sealed: seal(password_place(id), password)?,
        credential_sealed: credential.map(|it| seal(credential_place(id), it)).transpose()?,
        ca_pem: form.ca_pem,
        append_only: form.append_only,
        store_host_id: None,
        created_at: change.now,
        updated_at: change.now,
        initialised_at: None,
        revision: 0,
    };
    check_whole(&repository)?;
    Ok(repository)
}

/// The line for the machine of the rest-server. The password goes by standard input: `echo` is part
/// of the shell, so it stands in no list of processes. Without `touch` htpasswd refuses a file that is
/// not there yet, and its own `-c` would empty one that is.
fn htpasswd_line((credential, username): (&Secret<String>, String)) -> Secret<String> {
    let quoted = format!("'{}'", username.replace('\'', r"'\''"));
    let is_plain = username.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let username = if is_plain { username } else { quoted };
    let credential = credential.expose_secret();
    Secret::new(format!(
        "touch .htpasswd && echo '{credential}' | htpasswd -B -i .htpasswd {username}"
    ))
}
