//! `PUT /api/alarm-channels/{id}`

use super::{
    ChannelView, MailView, announce, are_enrolled, create::mail_place, find, name_is_free, rules,
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
    db::channels::{self, Channel, ChannelKind, token_place, url_place},
    desired,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{ChannelId, Code, HostId, Patch, Problem, Secret};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A changed channel. Absent leaves a field alone, `null` clears it, a value sets it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateChannelForm {
    name: Option<String>,
    /// An address can be set, never cleared.
    #[schema(value_type = Option<String>, format = Password)]
    url: Option<Secret<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    token: Patch<Secret<String>>,
    /// The whole of it.
    mail: Option<MailView>,
    all_hosts: Option<bool>,
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    host_ids: Option<Vec<HostId>>,
    host_tags: Option<Vec<String>>,
    /// The revision that the change is based on: if the channel has another by now, nothing is changed.
    revision: Option<i64>,
}

/// Changes a channel. Its machines, those it leaves included, get a new desired state.
#[utoipa::path(put, path = "/api/alarm-channels/{id}", operation_id = "update_channel", tag = "alarms",
    params(("id" = String, Path, format = Uuid)), request_body = UpdateChannelForm,
    responses((status = 200, body = ChannelView), (status = "default", body = ProblemView)))]
pub async fn update(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<ChannelId>,
    Body(form): Body<UpdateChannelForm>,
) -> ApiResult<Json<ChannelView>> {
    let mut change = Change::begin(&manager, who).await?;
    let mut channel = find(&mut *change.tx, id).await?;
    if form.revision.is_some_and(|revision| revision != channel.revision) {
        let message =
            "Somebody changed this channel since it was opened here; nothing of yours is saved.";
        let problem = Problem::new(Code::Stale, message);
        return Err(problem
            .guidance("Look at the channel as it is now, and change it again.")
            .into());
    }
    let before: BTreeSet<HostId> =
        channels::hosts(&mut *change.tx, id).await?.into_iter().collect();
    let chosen = channels::chosen_hosts(&mut *change.tx, id).await?;
    let hosts = form.host_ids.clone().unwrap_or_else(|| chosen.clone());
    let tags = match form.host_tags.as_deref() {
        Some(tags) => check::host_tags("host_tags", tags)?,
        None => channels::chosen_tags(&mut *change.tx, id).await?,
    };
    apply(&manager, form, &mut channel)?;
    // Stands in the digest for the secrets, so each change must be another instant.
    let next = channel.updated_at + jiff::SignedDuration::from_millis(1);
    channel.updated_at = change.now.max(next);
    channel.revision += 1;
    name_is_free(&mut change.tx, &channel.name, id).await?;
    let added: Vec<HostId> = hosts.iter().copied().filter(|host| !chosen.contains(host)).collect();
    are_enrolled(&mut change.tx, &added).await?;
    channels::update(&mut change.tx, &channel).await?;
    channels::choose(&mut change.tx, id, &hosts, &tags).await?;
    let after = channels::hosts(&mut *change.tx, id).await?;
    let concerned: Vec<HostId> =
        before.into_iter().chain(after).collect::<BTreeSet<_>>().into_iter().collect();
    let touched = desired::touch_hosts(&manager, &mut change.tx, &concerned).await?;
    let name = channel.name.clone();
    let shown = view(&mut change.tx, channel).await?;
    change.commit("alarm_channel.update", &format!("alarm_channel:{id}"), &name).await?;
    announce(&manager, &touched).await;
    Ok(Json(shown))
}

fn apply(manager: &Manager, form: UpdateChannelForm, to: &mut Channel) -> ApiResult<()> {
    let seal = |place: String, secret: &Secret<String>| {
        manager.vault().seal(&place, secret.expose_secret().as_bytes()).map_err(ApiError::from)
    };
    if let Some(name) = form.name {
        to.name = check::name("name", &name)?;
    }
    match &form.token {
        Patch::Leave => {}
        Patch::Clear => to.token_sealed = None,
        Patch::Set(token) => {
            rules::token(to.kind, token)?;
            to.token_sealed = Some(seal(token_place(to.id), token)?);
        }
    }
    if let Some(url) = &form.url {
        if to.kind == ChannelKind::Smtp {
            return Err(ApiError::invalid("url", "Mail has a mail server and no address."));
        }
        let place = rules::address(to.kind, url)?;
        // Whoever sees only the masked token must not be able to have it sent somewhere else.
        if place != to.place && to.token_sealed.is_some() && form.token.is_leave() {
            return Err(ApiError::invalid("token", "For another server, enter the token again."));
        }
        to.place = place;
        to.url_sealed = Some(seal(url_place(to.id), url)?);
    }
    if let Some(mail) = form.mail {
        if to.kind != ChannelKind::Smtp {
            return Err(ApiError::invalid("mail", "Only mail has a mail server."));
        }
        let mail = rules::mail(mail)?;
        let is_other = to.mail.as_ref().is_some_and(|before| before.host != mail.host);
        if is_other && to.token_sealed.is_some() && form.token.is_leave() {
            return Err(ApiError::invalid(
                "token",
                "For another server, enter the password again.",
            ));
        }
        to.place = mail_place(&mail);
        to.mail = Some(mail);
    }
    if let Some(mail) = &to.mail {
        rules::sign_in(mail, to.token_sealed.is_some())?;
    }
    to.all_hosts = form.all_hosts.unwrap_or(to.all_hosts);
    Ok(())
}
