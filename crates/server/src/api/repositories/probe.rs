//! `POST /api/repositories/test`

use super::{check_ca, check_secret, check_username, location};
use crate::{
    api::{
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
    },
    auth::Principal,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{Code, Problem, Secret};
use reqwest::{Certificate, Client, StatusCode, redirect::Policy};
use serde::{Deserialize, Serialize};
use std::{error::Error, io, time::Duration};
use utoipa::ToSchema;

/// How long the server may take: somebody waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to look, before anything is saved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRepositoryForm {
    /// restic's location of a rest-server, without credentials.
    url: String,
    /// The user name for the server.
    username: Option<String>,
    /// The password for the server; absent for one that is still to be minted.
    #[schema(value_type = Option<String>, format = Password)]
    credential: Option<Secret<String>>,
    /// The authority of the server's certificate, PEM.
    ca_pem: Option<String>,
}

/// What was found at a place.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryTestView {
    /// What it is.
    pub state: FoundState,
    /// The same in words for a person.
    pub message: String,
}

/// What a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoundState {
    /// The server answers, and there is no repository yet.
    Empty,
    /// There is a repository.
    Repository,
    /// The server answers and wants a password, and none was given.
    PasswordNeeded,
    /// Nobody was asked: only a rest-server can be, from this computer.
    NotAsked,
}

/// Asks a rest-server what is at a place, from this computer. Nothing is saved or changed. Machines
/// may still see the network in another way.
#[utoipa::path(post, path = "/api/repositories/test", operation_id = "test_repository",
    tag = "repositories", request_body = TestRepositoryForm,
    responses((status = 200, body = RepositoryTestView), (status = "default", body = ProblemView)))]
pub async fn test(
    _who: Principal,
    State(_manager): State<Manager>,
    Body(form): Body<TestRepositoryForm>,
) -> ApiResult<Json<RepositoryTestView>> {
    location::check(&form.url)?;
    let Some(base) = form.url.strip_prefix("rest:") else {
        let message = "Only a rest-server can be asked from here. Go on: the machine itself \
                       tells when it initialises the repository.";
        let state = FoundState::NotAsked;
        return Ok(Json(RepositoryTestView { state, message: message.to_owned() }));
    };
    if let Some(username) = &form.username {
        check_username(username)?;
    }
    if let Some(credential) = &form.credential {
        check_secret("credential", credential)?;
    }
    let client = client(form.ca_pem.as_deref())?;
    let config = format!("{}/config", base.trim_end_matches('/'));
    let mut request = client.head(config);
    if let (Some(username), Some(credential)) = (&form.username, &form.credential) {
        request = request.basic_auth(username, Some(credential.expose_secret()));
    }
    let answer = request.send().await.map_err(|error| unreached(&error))?;
    found(answer.status(), form.credential.is_some()).map(Json).map_err(ApiError::from)
}

/// A client that trusts what restic would: the given authority alone, or the system's.
fn client(ca_pem: Option<&str>) -> ApiResult<Client> {
    use anyhow::Context as _;
    // A second installation finds the first in place, which is what was wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().timeout(PATIENCE).redirect(Policy::none());
    if let Some(pem) = ca_pem {
        check_ca(pem)?;
        let authorities = Certificate::from_pem_bundle(pem.as_bytes())
            .context("failed to read an authority that was checked before")?;
        builder = builder.tls_certs_only(authorities);
    }
    Ok(builder.build().context("failed to set up a client")?)
}

/// What the answer to the question for a repository's configuration says.
fn found(status: StatusCode, has_credential: bool) -> Result<RepositoryTestView, Problem> {
    let view = |state, message: &str| Ok(RepositoryTestView { state, message: message.to_owned() });
    match status {
        StatusCode::OK => view(
            FoundState::Repository,
            "The server answers, and there is a repository. Enter its own password, or choose another path.",
        ),
        StatusCode::NOT_FOUND => {
            view(FoundState::Empty, "The server answers, and the place is free.")
        }
        StatusCode::UNAUTHORIZED if !has_credential => {
            view(FoundState::PasswordNeeded, "The server answers, and wants a user and password.")
        }
        StatusCode::UNAUTHORIZED => Err(Problem::new(
            Code::RepositoryAuth,
            "The server does not take this user and password.",
        )
        .guidance("Look at the server's password file; where it has a line for the user, enter that password.")
        .field("credential")),
        StatusCode::FORBIDDEN => Err(Problem::new(
            Code::RepositoryAuth,
            "The server does not let this user to this path.",
        )
        .guidance("With private repositories the path begins with the user name.")
        .field("url")),
        other => Err(Problem::new(
            Code::RepositoryUnreachable,
            format!("What answers there is no rest-server: it said {}.", other.as_u16()),
        )
        .guidance("Check the address and the port.")
        .field("url")),
    }
}

fn unreached(error: &reqwest::Error) -> Problem {
    if is_certificate(error) {
        return Problem::new(
            Code::CertificateUnknown,
            "Nobody that this computer trusts signed the server's certificate, or it is for another name.",
        )
        .guidance("Paste the certificate of the authority that signed it.")
        .field("ca_pem");
    }
    let message = if error.is_timeout() {
        "The server did not answer within ten seconds."
    } else {
        "The server cannot be reached."
    };
    Problem::new(Code::RepositoryUnreachable, message)
        .guidance("Check the address and the port, and that the server runs.")
        .field("url")
}

/// Whether the server's certificate is why. What an IO error wraps is not among its sources, only
/// what stands behind that.
fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    let invalid = error.downcast_ref::<rustls::Error>();
    if matches!(invalid, Some(rustls::Error::InvalidCertificate(_))) {
        return true;
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.is_some_and(|wrapped| is_certificate(wrapped))
        || error.source().is_some_and(is_certificate)
}
