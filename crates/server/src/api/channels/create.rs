//! `POST /api/alarm-channels`

use super::{ChannelView, MailView, announce, are_enrolled, name_is_free, rules, view};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
    },
    auth::Principal,
    db::channels::{self, Channel, ChannelKind, token_place, url_place},
    desired,
    manager::Manager,
};
use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use protocol::{ChannelId, HostId, Secret};
use serde::Deserialize;
use utoipa::ToSchema;

/// What a channel is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindWord {
    /// JSON by `POST`.
    Webhook,
    /// A topic of an ntfy server.
    Ntfy,
    /// A check in the manner of Healthchecks, whose alarm is silence.
    Ping,
    /// Mail.
    Smtp,
}

impl From<KindWord> for ChannelKind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Webhook => Self::Webhook,
            KindWord::Ntfy => Self::Ntfy,
            KindWord::Ping => Self::Ping,
            KindWord::Smtp => Self::Smtp,
        }
    }
}

/// A new channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateChannelForm {
    name: String,
    kind: KindWord,
    /// Where it leads; for all but mail. In that of a ping `{machine}` and `{plan}` stand for the names.
    #[schema(value_type = Option<String>, format = Password)]
    url: Option<Secret<String>>,
    /// A bearer token, or the password of the mail server.
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<Secret<String>>,
    /// The mail server; for mail alone.
    mail: Option<MailView>,
    /// Whether it is for every machine, also those that come later.
    #[serde(default)]
    all_hosts: bool,
    /// The machines that it is for, one by one.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>)]
    host_ids: Vec<HostId>,
    /// The tags of machines that it is for.
    #[serde(default)]
    host_tags: Vec<String>,
}

/// Makes a channel. Its machines learn of it at once, or when they connect.
#[utoipa::path(post, path = "/api/alarm-channels", operation_id = "create_channel", tag = "alarms",
    request_body = CreateChannelForm,
    responses((status = 201, body = ChannelView), (status = "default", body = ProblemView)))]
pub async fn create(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<CreateChannelForm>,
) -> ApiResult<(StatusCode, Json<ChannelView>)> {
    let mut change = Change::begin(&manager, who).await?;
    let (hosts, tags) = (form.host_ids.clone(), check::host_tags("host_tags", &form.host_tags)?);
    let channel = build(&manager, form, manager.new_id(), change.now)?;
    if channels::list(&mut *change.tx).await?.len() >= channels::MOST {
        return Err(ApiError::conflict("There are 50 channels already, which is the most."));
    }
    name_is_free(&mut change.tx, &channel.name, channel.id).await?;
    are_enrolled(&mut change.tx, &hosts).await?;
    channels::insert(&mut change.tx, &channel).await?;
    channels::choose(&mut change.tx, channel.id, &hosts, &tags).await?;
    let concerned = channels::hosts(&mut *change.tx, channel.id).await?;
    let touched = desired::touch_hosts(&manager, &mut change.tx, &concerned).await?;
    let detail = format!("{} ({})", channel.name, channel.kind.as_str());
    let shown = view(&mut change.tx, channel).await?;
    change.commit("alarm_channel.create", &format!("alarm_channel:{}", shown.id), &detail).await?;
    announce(&manager, &touched).await;
    Ok((StatusCode::CREATED, Json(shown)))
}

fn build(
    manager: &Manager,
    form: CreateChannelForm,
    id: ChannelId,
    now: Timestamp,
) -> ApiResult<Channel> {
    let kind = ChannelKind::from(form.kind);
    let name = check::name("name", &form.name)?;
    let seal = |place: String, secret: &Secret<String>| {
        manager.vault().seal(&place, secret.expose_secret().as_bytes()).map_err(ApiError::from)
    };
    let token = form.token.as_ref();
    token.map(|token| rules::token(kind, token)).transpose()?;
    let token_sealed = token.map(|token| seal(token_place(id), token)).transpose()?;
    let (place, url_sealed, mail) = match (kind, form.url, form.mail) {
        (ChannelKind::Smtp, None, Some(mail)) => {
            let mail = rules::mail(mail)?;
            rules::sign_in(&mail, token_sealed.is_some())?;
            (mail_place(&mail), None, Some(mail))
        }
        (ChannelKind::Smtp, _, _) => {
            return Err(ApiError::invalid("mail", "The mail server is needed, and no address."));
        }
        (_, Some(url), None) => {
            let place = rules::address(kind, &url)?;
            (place, Some(seal(url_place(id), &url)?), None)
        }
        (_, None, _) => return Err(ApiError::invalid("url", "An address is needed.")),
        (_, Some(_), Some(_)) => {
            return Err(ApiError::invalid("mail", "Only mail has a mail server."));
        }
    };
    Ok(Channel {
        id,
        name,
        kind,
        place,
        url_sealed,
        token_sealed,
        mail,
        all_hosts: form.all_hosts,
        created_at: now,
        updated_at: now,
        revision: 0,
    })
}

/// Where mail leads, for people.
pub(super) fn mail_place(mail: &channels::Mail) -> String {
    mail.to.join(", ")
}
