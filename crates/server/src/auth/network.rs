//! What stands between the network and the API: the hosts and origins it answers to, and the
//! session behind a cookie.
//!
//! A page of another site can make a browser send requests here, and by DNS rebinding even read the
//! answers, so a request must name a host that this listener was told to answer to, and one that
//! says where it came from must come from there.

use super::{Principal, SessionKey, attempts::Attempts, password, token};
use crate::{
    api::error::{ApiError, ApiResult},
    db::{
        manager as rows,
        sessions::{self, Session},
    },
    manager::Manager,
};
use anyhow::Context as _;
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, Problem, Secret};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// The name of the session cookie. The prefix makes browsers insist on `Secure`, the root path and
/// no domain, so that no neighbour can set it.
pub const COOKIE: &str = "__Host-restic-manager";

/// How long a session lives without being used.
pub const IDLE: SignedDuration = SignedDuration::from_hours(12);

/// A session's last use is written at most this often.
const TOUCH: SignedDuration = SignedDuration::from_mins(1);

/// The guard of a network listener. One is shared by all its requests.
#[derive(Debug)]
pub struct Network {
    manager: Manager,
    hosts: BTreeSet<String>,
    attempts: Mutex<Attempts>,
    // Hashing takes 19 MiB and a processor: two at a time are enough for one admin.
    hashing: Semaphore,
}

impl Network {
    /// A guard that answers to these hosts, each `name:port`, or a name alone for port 443.
    pub fn new(manager: Manager, hosts: impl IntoIterator<Item = String>) -> Arc<Self> {
        Arc::new(Self {
            manager,
            hosts: hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
            attempts: Mutex::default(),
            hashing: Semaphore::new(2),
        })
    }

    /// Puts the guard before a router.
    pub fn guard(self: &Arc<Self>, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::clone(self), admit))
    }

    /// Signs in. Returns the cookie's value, and the session.
    ///
    /// # Errors
    /// When the password is wrong, or there were too many attempts.
    pub async fn sign_in(
        &self,
        peer: IpAddr,
        password: Secret<String>,
    ) -> ApiResult<(Secret<String>, Session)> {
        let now = self.manager.now();
        self.attempts().try_count(peer, now).map_err(ApiError::TooManyAttempts)?;
        if !self.is_password(password).await? {
            tracing::warn!(peer = %peer, "A sign-in failed");
            return Err(ApiError::refused(Code::SignInFailed, "The password is wrong."));
        }
        self.attempts().succeeded(peer);
        let cookie = token::mint(32)?;
        let session = Session { created_at: now, last_used_at: now, expires_at: now + IDLE };
        let mut tx = self.manager.db().begin().await?;
        sessions::delete_expired(&mut tx, now).await?;
        sessions::insert(&mut tx, &token::hash(cookie.expose_secret()), &session).await?;
        let detail = format!("from {peer}");
        crate::db::audit::insert(&mut tx, now, "admin", "session.open", "", &detail).await?;
        tx.commit().await.context("failed to open a session")?;
        Ok((cookie, session))
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_password(&self, password: Secret<String>) -> ApiResult<bool> {
        let Some(hash) = rows::password_hash(self.manager.db().read()).await? else {
            return Err(Problem::new(Code::Conflict, "No password is set yet.")
                .guidance("Set one on the server: restic-manager-headless password.")
                .into());
        };
        let _permit = self.hashing.acquire().await.context("the hashing gate is closed")?;
        let verified = tokio::task::spawn_blocking(move || password::verify(&password, &hash));
        Ok(verified.await.context("failed to verify a password")??)
    }

    /// The principal behind the cookie of these headers.
    async fn principal(&self, headers: &HeaderMap) -> ApiResult<Option<Principal>> {
        let Some(cookie) = cookie(headers) else { return Ok(None) };
        let key = SessionKey(token::hash(cookie));
        let now = self.manager.now();
        let Some(session) = sessions::find(self.manager.db().read(), &key.0).await? else {
            return Ok(None);
        };
        if session.expires_at <= now {
            return Ok(None);
        }
        if now.duration_since(session.last_used_at) >= TOUCH {
            self.touch(key, now).await?;
        }
        Ok(Some(Principal::Admin { session: key }))
    }

    async fn touch(&self, key: SessionKey, now: Timestamp) -> ApiResult<()> {
        let mut tx = self.manager.db().begin().await?;
        sessions::touch(&mut tx, &key.0, now, now + IDLE).await?;
        tx.commit().await.context("failed to keep a session alive")?;
        Ok(())
    }

    fn is_host(&self, host: &str) -> bool {
        self.hosts.contains(&host.to_ascii_lowercase())
    }

    /// Whether the request names this listener, and comes from its own pages or from no page.
    fn admits(&self, request: &Request) -> Result<(), Problem> {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = request.uri().authority().map(axum::http::uri::Authority::as_str);
        let host = host.or_else(|| text(header::HOST)).unwrap_or_default();
        if !self.is_host(host) {
            return Err(Problem::new(Code::ForeignOrigin, "This address is not answered to.")
                .guidance("Use the configured address, or add this one with --ui-host."));
        }
        let foreign = || Problem::new(Code::ForeignOrigin, "The request came from another site.");
        if let Some(origin) = text(header::ORIGIN)
            && !origin.strip_prefix("https://").is_some_and(|origin| self.is_host(origin))
        {
            return Err(foreign());
        }
        let site = request.headers().get("sec-fetch-site").map(|value| value.as_bytes());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match site {
            None | Some(b"same-origin" | b"none") => Ok(()),
            // Following a link from elsewhere opens the page; it must not reach the API.
            Some(_) if reads && !request.uri().path().starts_with("/api") => Ok(()),
            Some(_) => Err(foreign()),
        }
    }
}

/// The address that a request came from.
#[must_use]
pub fn peer(request: &axum::http::Extensions) -> IpAddr {
    let info = request.get::<ConnectInfo<SocketAddr>>();
    info.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(address)| address.ip())
}

async fn admit(State(network): State<Arc<Network>>, mut request: Request, next: Next) -> Response {
    if let Err(problem) = network.admits(&request) {
        return crate::api::error::answer(problem);
    }
    match network.principal(request.headers()).await {
        Err(error) => return error.into_response(),
        Ok(Some(principal)) => {
            request.extensions_mut().insert(principal);
        }
        // What was there cannot have come from here.
        Ok(None) => {
            request.extensions_mut().remove::<Principal>();
        }
    }
    request.extensions_mut().insert(network);
    next.run(request).await
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The `Set-Cookie` of a session.
#[must_use]
pub fn set_cookie(value: &Secret<String>) -> String {
    format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict", value.expose_secret())
}

/// The `Set-Cookie` that ends one.
#[must_use]
pub fn clear_cookie() -> String {
    format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}
