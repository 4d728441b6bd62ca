//! `GET /api/runs/{id}/log.txt`

use super::find;
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::{error::DbError, logs, runs::Run},
    manager::Manager,
    text,
};
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use protocol::{Code, JobStatus, LogLine, Problem, RunId};
use std::fmt::Write as _;

const PAGE: u32 = 1000;

/// A run's whole log as plain text, for keeping and for asking others.
#[utoipa::path(get, path = "/api/runs/{id}/log.txt", operation_id = "download_run_log",
    tag = "runs", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = ProblemView)))]
pub async fn log_text(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RunId>,
) -> ApiResult<Response> {
    let run = find(&manager, id).await?;
    let first = never_began(&run).map(|line| Ok(Bytes::from(line)));
    // A page at a time, as fast as it is taken: a log can be larger than memory should be.
    let pages = stream::try_unfold(0, move |after| {
        let manager = manager.clone();
        async move {
            let lines = logs::lines(manager.db().read(), id, after, PAGE).await?;
            let last = lines.last().map(|line| line.seq);
            Ok::<_, DbError>(last.map(|last| (Bytes::from(write(&lines)), last)))
        }
    });
    let pages = stream::iter(first).chain(pages);
    let name = format!("attachment; filename=\"{}-{id}.log\"", run.kind.as_str());
    let headers =
        [(CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// What stands in place of the log of a run that ended before the machine began it.
fn never_began(run: &Run) -> Option<String> {
    let never_began = run.started_at.is_none()
        && matches!(run.status, JobStatus::Failed | JobStatus::Expired | JobStatus::Cancelled);
    let ended = run.finished_at.filter(|_| never_began)?;
    let why = Problem {
        code: run.code.unwrap_or(Code::Unknown),
        message: run.error.clone().unwrap_or_default(),
        guidance: run.guidance.clone(),
        field: None,
    };
    Some(format!("{ended} event  It never began. {}\n", text::clean(&why.to_string())))
}

fn write(lines: &[LogLine]) -> String {
    let mut page = String::new();
    for line in lines {
        // Writing into a string cannot fail.
        let _ =
            writeln!(page, "{} {:6} {}", line.ts, line.stream.as_str(), text::clean(&line.payload));
    }
    page
}
