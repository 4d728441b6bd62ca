//! How the API refuses: a problem with a stable code, and the status that goes with it.
//!
//! Nothing internal leaves: what broke inside is logged here, once and with its causes, and the
//! answer only says that it did.

use crate::{db::error::DbError, desired::DesiredError, vault::VaultError};
use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use protocol::{Code, Problem, RunId};
use serde::Serialize;
use utoipa::ToSchema;

/// What every handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

/// A request that was not granted.
#[derive(Debug)]
pub enum ApiError {
    /// It is refused, and this is why.
    Refused(Box<Problem>),
    /// An open run does the same already.
    RunOpen(RunId),
    /// Too many attempts; the seconds until the next one is looked at.
    TooManyAttempts(u64),
    /// Something broke inside.
    Internal(anyhow::Error),
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemView {
    /// The stable reason; branch on this, never on the text.
    #[schema(value_type = crate::api::words::CodeWord)]
    pub code: Code,
    /// What happened and what was kept.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// The field of the request that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The open run that stands in the way, with `conflict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub run_id: Option<RunId>,
}

impl From<Problem> for ProblemView {
    fn from(problem: Problem) -> Self {
        let Problem { code, message, guidance, field } = problem;
        Self { code, message, guidance, field, run_id: None }
    }
}

impl ApiError {
    /// A refusal with this code.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Problem::new(code, message).into()
    }

    /// A field of the request is not acceptable.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Problem::new(Code::InvalidInput, message).field(field).into()
    }

    /// The same refusal for a form that is a part of another: its field's name tells where.
    pub fn within(self, part: &str) -> Self {
        match self {
            Self::Refused(mut problem) => {
                problem.field = problem.field.map(|field| format!("{part}.{field}"));
                Self::Refused(problem)
            }
            Self::RunOpen(_) | Self::TooManyAttempts(_) | Self::Internal(_) => self,
        }
    }

    /// There is nothing of this id.
    pub fn not_found(what: &str) -> Self {
        Self::refused(Code::NotFound, format!("There is no such {what}; it may have been removed."))
    }

    /// The state of things does not allow it now.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::refused(Code::Conflict, message)
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<DesiredError> for ApiError {
    fn from(error: DesiredError) -> Self {
        match error {
            DesiredError::TooLarge(_) => Problem::new(
                Code::PlansTooLarge,
                "With this, what the plans of a machine say together would be more than 768 KiB, and could not \
                 be sent to it. Nothing was changed.",
            )
            .guidance("Shorten the longest lists of paths and excludes, or give the machine fewer plans.")
            .into(),
            DesiredError::Db(_) | DesiredError::Vault(_) => Self::Internal(error.into()),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(problem) => answer(*problem),
            Self::RunOpen(run_id) => {
                let problem =
                    Problem::new(Code::Conflict, "The same run is waiting or going already.")
                        .guidance("Open it to follow or cancel it.");
                let view = ProblemView { run_id: Some(run_id), ..problem.into() };
                (status(Code::Conflict), Json(view)).into_response()
            }
            Self::TooManyAttempts(seconds) => {
                let problem = Problem::new(Code::TooManyAttempts, "Too many attempts to sign in.")
                    .guidance(format!("Try again in {}.", wait_words(seconds)));
                let mut response = answer(problem);
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                response
            }
            Self::Internal(error) => {
                tracing::error!(error = format!("{error:#}"), "Failed to answer a request");
                answer(internal())
            }
        }
    }
}

/// The only thing that is told of what broke inside.
#[must_use]
pub fn internal() -> Problem {
    Problem::new(Code::Internal, "Something broke in the manager; nothing was changed.")
        .guidance("Its log has the cause.")
}

/// A refusal as a response.
#[must_use]
pub fn answer(problem: Problem) -> Response {
    (status(problem.code), Json(ProblemView::from(problem))).into_response()
}

fn wait_words(seconds: u64) -> String {
    match seconds {
        0..=1 => "a second".to_owned(),
        2..=119 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

/// The HTTP status that goes with a code.
#[must_use]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidInput
        | Code::RepositoryUrlInvalid
        | Code::RetentionEmpty
        | Code::RetentionUnknown
        | Code::NotConfirmed
        | Code::PlanUnknown
        | Code::RepositoryUnknown
        | Code::SnapshotUnknown
        | Code::PlansTooLarge
        | Code::StoreHomeless
        | Code::KindUnknown => StatusCode::UNPROCESSABLE_ENTITY,
        Code::NotFound | Code::HostUnknown | Code::TokenUnknown | Code::AnnouncementOver => {
            StatusCode::NOT_FOUND
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::SignInFailed
        | Code::ForeignOrigin
        | Code::PolicyForbids
        | Code::HostRevoked
        | Code::CommitmentBroken
        | Code::AnnouncementRefused => StatusCode::FORBIDDEN,
        Code::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
        Code::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
        Code::KeyringMissing
        | Code::KeyringLocked
        | Code::KeyringFailed
        | Code::VaultKeyMissing
        | Code::VaultKeyWrong
        | Code::DatabaseTooNew
        | Code::DataUnusable
        | Code::StoreAway
        | Code::SnapshotsSuspect
        | Code::ListenFailed
        | Code::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Code::TooLarge | Code::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Conflict
        | Code::Stale
        | Code::HostOffline
        | Code::TokenExpired
        | Code::TokenUsed
        | Code::ClientKeyMissing
        | Code::KeyAlreadyEnrolled
        | Code::AgentTooOld
        | Code::CapabilityMissing
        | Code::CloneSuspected
        | Code::EnrolmentSuspect
        | Code::ManagerBehind
        | Code::AgentBehind
        | Code::JournalForked
        | Code::JournalDamaged
        | Code::ConnectionReplaced
        | Code::FrameInvalid
        | Code::HelloExpected
        | Code::Expired
        | Code::Cancelled
        | Code::Interrupted
        | Code::Lost
        | Code::OnBattery
        | Code::Metered
        | Code::RepositoryBusy
        | Code::TimedOut
        | Code::Stalled
        | Code::HookFailed
        | Code::HookUnknown
        | Code::ChannelUnreachable
        | Code::ChannelRefused
        | Code::ResticMissing
        | Code::ResticTooOld
        | Code::RepositoryMissing
        | Code::RepositoryExists
        | Code::WrongPassword
        | Code::RepositoryLocked
        | Code::RepositoryAuth
        | Code::RepositoryAppendOnly
        | Code::RepositoryUnreachable
        | Code::CertificateUnknown
        | Code::RepositoryDamaged
        | Code::SourceMissing
        | Code::SourceEmpty
        | Code::DiskFull
        | Code::FilesUnreadable
        | Code::ResticFailed => StatusCode::CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn body(error: ApiError) -> (StatusCode, String) {
        let response = error.into_response();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_broke_inside_is_not_told() {
        let secret = anyhow::anyhow!("no such table: hunter2").context("failed to read /etc/x");
        let (status, text) = body(secret.into()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains(r#""code":"internal""#), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("/etc/x"), "{text}");
    }

    #[tokio::test]
    async fn too_many_attempts_say_when_to_try_again() {
        let response = ApiError::TooManyAttempts(61).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER], "61");
        let (_, text) = body(ApiError::TooManyAttempts(300)).await;
        assert!(text.contains("5 minutes"), "{text}");
    }
}
