//! Alarm channels: by which ways agents tell people, manager or not, that a plan failed or is overdue. What is
//! secret goes in and never comes out again: tokens, passwords, and addresses, since whoever has one can
//! speak there.

pub mod create;
pub mod delete;
pub mod list;
mod rules;
pub mod test;
pub mod update;

use super::error::{ApiError, ApiResult};
use crate::{
    db::{
        Tx,
        channels::{self, Channel, Mail},
        hosts::{self, HostState},
    },
    events::Topic,
    manager::Manager,
};
use jiff::Timestamp;
use protocol::{ChannelId, Code, HostId, Problem, SmtpSecurity};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use utoipa::ToSchema;

/// A channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: ChannelId,
    /// Its name.
    pub name: String,
    /// `webhook`, `ntfy`, `ping` or `smtp`.
    pub kind: String,
    /// Where it leads, without what is secret.
    pub place: String,
    /// Whether there is a token, or a password of the mail server.
    pub has_token: bool,
    /// The mail server.
    pub mail: Option<MailView>,
    /// Whether it is for every machine, also those that come later.
    pub all_hosts: bool,
    /// The machines that were chosen one by one.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub host_ids: Vec<HostId>,
    /// The tags of machines that were chosen.
    pub host_tags: Vec<String>,
    /// The machines that have it.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub all_host_ids: Vec<HostId>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When an admin last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Grows with each change; a change may say which one it is based on.
    pub revision: i64,
}

/// A mail server, and whose mail goes to whom.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MailView {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured: `tls` from the beginning, `starttls` on request, or `none`.
    pub security: SecurityWord,
    /// The user name, if it asks for one.
    pub username: Option<String>,
    /// Whose mail it is.
    pub from: String,
    /// Who gets it, at least one.
    pub to: Vec<String>,
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityWord {
    /// TLS from the first byte on.
    Tls,
    /// TLS once both sides have said hello; without it nothing is sent.
    Starttls,
    /// None.
    None,
}

impl From<SmtpSecurity> for SecurityWord {
    fn from(security: SmtpSecurity) -> Self {
        match security {
            SmtpSecurity::Tls => Self::Tls,
            SmtpSecurity::Starttls => Self::Starttls,
            SmtpSecurity::None => Self::None,
        }
    }
}

impl From<SecurityWord> for SmtpSecurity {
    fn from(word: SecurityWord) -> Self {
        match word {
            SecurityWord::Tls => Self::Tls,
            SecurityWord::Starttls => Self::Starttls,
            SecurityWord::None => Self::None,
        }
    }
}

impl From<Mail> for MailView {
    fn from(mail: Mail) -> Self {
        let Mail { host, port, security, username, from, to } = mail;
        Self { host, port, security: security.into(), username, from, to }
    }
}

async fn view(db: &mut SqliteConnection, channel: Channel) -> ApiResult<ChannelView> {
    let id = channel.id;
    Ok(ChannelView {
        id,
        host_ids: channels::chosen_hosts(&mut *db, id).await?,
        host_tags: channels::chosen_tags(&mut *db, id).await?,
        all_host_ids: channels::hosts(&mut *db, id).await?,
        name: channel.name,
        kind: channel.kind.as_str().to_owned(),
        place: channel.place,
        has_token: channel.token_sealed.is_some(),
        mail: channel.mail.map(MailView::from),
        all_hosts: channel.all_hosts,
        created_at: channel.created_at,
        updated_at: channel.updated_at,
        revision: channel.revision,
    })
}

async fn find(db: impl sqlx::SqliteExecutor<'_>, id: ChannelId) -> ApiResult<Channel> {
    channels::find(db, id).await?.ok_or_else(|| ApiError::not_found("channel"))
}

async fn name_is_free(tx: &mut Tx, name: &str, own: ChannelId) -> ApiResult<()> {
    match channels::find_by_name(&mut **tx, name).await? {
        Some(other) if other != own => {
            let problem = Problem::new(Code::Conflict, "Another channel has this name already.");
            Err(problem.field("name").into())
        }
        _ => Ok(()),
    }
}

/// Refuses machines that are not enrolled.
async fn are_enrolled(tx: &mut Tx, hosts: &[HostId]) -> ApiResult<()> {
    for host in hosts {
        let state = hosts::find(&mut **tx, *host).await?.map(|host| host.state);
        if state != Some(HostState::Enrolled) {
            return Err(ApiError::invalid("host_ids", "One of the machines is not enrolled."));
        }
    }
    Ok(())
}

/// Tells everyone that channels changed, and the hosts about their new desired state.
async fn announce(manager: &Manager, hosts: &[HostId]) {
    manager.events().publish(Topic::Alarms);
    super::wake(manager, hosts).await;
}
