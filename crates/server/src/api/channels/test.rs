//! `POST /api/alarm-channels/{id}/test`

use super::find;
use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::hosts,
    desired,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{AlarmTest, ChannelId, Code, HostId, Problem};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// How long a machine may take: somewhat longer than it gives the other side.
const PATIENCE: Duration = Duration::from_secs(75);

/// From where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestChannelForm {
    /// The machine whose agent sends it.
    #[schema(value_type = String, format = Uuid)]
    host_id: HostId,
}

/// The other side took the message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelTestView {
    /// The machine that sent it.
    pub machine: String,
}

/// Has one machine send a message for trial, and waits for what comes of it. Where a ping leads is told
/// nothing that changes its state.
#[utoipa::path(post, path = "/api/alarm-channels/{id}/test", operation_id = "test_channel",
    tag = "alarms", params(("id" = String, Path, format = Uuid)), request_body = TestChannelForm,
    responses((status = 200, body = ChannelTestView), (status = "default", body = ProblemView)))]
pub async fn test(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<ChannelId>,
    Body(form): Body<TestChannelForm>,
) -> ApiResult<Json<ChannelTestView>> {
    let mut change = Change::begin(&manager, who).await?;
    let channel = find(&mut *change.tx, id).await?;
    let host = form.host_id;
    let found = hosts::find(&mut *change.tx, host).await?;
    let machine = found.ok_or_else(|| ApiError::not_found("machine"))?.name;
    if !manager.links().online().await.contains(&host) {
        let message = format!("{machine} is not connected, so it cannot send the message now.");
        let problem = Problem::new(Code::HostOffline, message);
        return Err(problem.guidance("Choose another machine, or start this one.").into());
    }
    if !hosts::sends_alarms(&mut *change.tx, host).await? {
        let message = format!("The agent of {machine} is too old to send alarms.");
        let problem = Problem::new(Code::CapabilityMissing, message);
        return Err(problem.guidance("Update the agent on that machine.").into());
    }
    let unsealed = desired::unseal_channel(&channel, manager.vault())?;
    let test = AlarmTest { alarm_id: manager.new_id(), channel: unsealed };
    let detail = format!("{} from {machine}", channel.name);
    change.commit("alarm_channel.test", &format!("alarm_channel:{id}"), &detail).await?;
    let answer = manager.trials().ask(host, test).ok_or_else(|| {
        Problem::new(Code::TooManyAttempts, "Too many messages are being tried.")
            .guidance("Wait a moment, then try again.")
    })?;
    manager.links().wake(host).await;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(()))) => Ok(Json(ChannelTestView { machine })),
        Ok(Ok(Err(problem))) => Err(problem.into()),
        Ok(Err(_)) | Err(_) => {
            let problem =
                Problem::new(Code::NoAnswer, format!("{machine} did not answer in time."));
            Err(problem.guidance("Look whether it is still connected, then try again.").into())
        }
    }
}
