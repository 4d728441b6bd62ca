//! The API of the admin: everything under `/api`. One file an endpoint.
//!
//! The desktop hands its requests to the router in process, with [`Principal::LocalUser`]; the
//! headless server puts [`network`] before it. The router itself trusts neither: a request without
//! a principal is refused by each route on its own.
//!
//! [`Principal::LocalUser`]: crate::auth::Principal::LocalUser
//! [`network`]: crate::auth::network

mod alarms;
pub mod announcements;
pub mod audit;
pub mod away;
pub mod change;
pub mod channels;
pub mod check;
pub mod document;
pub mod enrolments;
pub mod error;
pub mod events;
pub mod extract;
pub mod hosts;
pub mod notices;
pub mod plans;
pub mod repositories;
pub mod runs;
pub mod session;
pub mod slots;
mod store;
pub mod streams;
pub mod system;
#[cfg(test)]
pub(crate) mod tests;
pub mod words;

use crate::{events::Topic, manager::Manager};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, header::CACHE_CONTROL},
    response::Response,
    routing::MethodRouter,
};
use error::{ApiError, answer, internal};
use protocol::{Code, HostId, Problem};
use serde::Deserialize;
use std::any::Any;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::ToSchema;

/// The largest body of a request.
const BODY_LIMIT: usize = 1024 * 1024;

/// What an act that cannot be undone wants to hear.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmForm {
    /// The name of the thing, exactly.
    confirm: Option<String>,
}

/// The admin's API. Every request needs a [`crate::auth::Principal`] among its extensions.
pub fn ui_router(manager: Manager) -> Router {
    routes()
        .fallback(async || {
            ApiError::from(
                Problem::new(Code::NotFound, "There is nothing at this address.")
                    .guidance("What there is, /api/openapi.json says, once one is signed in."),
            )
        })
        .method_not_allowed_fallback(async || {
            ApiError::refused(Code::NotFound, "This address does not take that method.")
        })
        .with_state(manager)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::overriding(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
}

/// Writes, from one table of addresses with who answers which method there, the routes and, for the tests, the
/// document that describes them. A program that serves makes no document: it would be a part of it that is
/// used once, and stays in memory.
macro_rules! endpoints {
    ($($path:literal: $($method:ident $($handler:ident)::+),+;)+) => {
        fn routes() -> Router<Manager> {
            Router::new()$(.route($path, MethodRouter::new()$(.$method($($handler)::+))+))+
        }

        #[cfg(test)]
        #[derive(utoipa::OpenApi)]
        #[openapi(
            info(
                title = "Restic Manager",
                description = "The admin's API.",
                license(name = "MIT OR Apache-2.0")
            ),
            components(schemas(
                crate::events::Event,
                crate::events::Topic,
                runs::stream::LinesView,
                runs::stream::EndView
            )),
            paths($($($($handler)::+),+),+)
        )]
        struct Document;
    };
}

endpoints! {
    "/api/openapi.json": get document::document;
    "/api/session": get session::show::show, post session::create::create, delete session::end::end;
    "/api/system": get system::show::show;
    "/api/system/addresses": put system::addresses::set;
    "/api/events": get events::events;
    "/api/away": get away::show;
    "/api/away/seen": post away::seen;
    "/api/notices": get notices::list::list;
    "/api/notices/{id}/resolve": post notices::resolve::resolve;
    "/api/audit": get audit::list;

    "/api/hosts": get hosts::list::list;
    "/api/hosts/{id}":
        get hosts::show::show, patch hosts::rename::rename, delete hosts::remove::remove;
    "/api/hosts/{id}/mode": put hosts::mode::set;
    "/api/hosts/{id}/tags": put hosts::tags::set;
    "/api/hosts/{id}/release": post hosts::release::release;
    "/api/hosts/{id}/revoke": post hosts::revoke::revoke;
    "/api/hosts/{id}/runs": get hosts::runs::runs, post hosts::start_run::start_run;
    "/api/hosts/{id}/slots": get hosts::slots::slots;
    "/api/slots": get slots::list;

    "/api/runs": get runs::list::list;
    "/api/runs/{id}": get runs::show::show;
    "/api/runs/{id}/cancel": post runs::cancel::cancel;
    "/api/runs/{id}/log": get runs::log::log;
    "/api/runs/{id}/log.txt": get runs::log_text::log_text;
    "/api/runs/{id}/stream": get runs::stream::stream;

    "/api/plans": get plans::list::list, post plans::create::create;
    "/api/plans/presets": get plans::presets::presets;
    "/api/plans/times": get plans::times::times;
    "/api/plans/{id}":
        get plans::show::show, put plans::update::update, delete plans::delete::delete;

    "/api/repositories": get repositories::list::list, post repositories::create::create;
    "/api/repositories/test": post repositories::probe::test;
    "/api/repositories/{id}":
        get repositories::show::show,
        put repositories::update::update,
        delete repositories::delete::delete;
    "/api/repositories/{id}/snapshots": get repositories::snapshots::snapshots;
    "/api/repositories/{id}/snapshots/{snapshot}/tree": get repositories::tree::tree;

    "/api/store": get store::show::show, put store::choose::choose;
    "/api/store/space": get store::space::space;
    "/api/store/repositories/{id}": put store::limit::limit;
    "/api/store/repositories/{id}/bring-back": post store::bring_back::bring_back;

    "/api/enrolments": get enrolments::list::list, post enrolments::create::create;
    "/api/enrolments/{id}": delete enrolments::withdraw::withdraw;
    "/api/announcements": get announcements::list::list;
    "/api/announcements/{id}/approve": post announcements::approve::approve;
    "/api/announcements/{id}/refuse": post announcements::refuse::refuse;

    "/api/alarms": get alarms::list;
    "/api/alarm-channels": get channels::list::list, post channels::create::create;
    "/api/alarm-channels/{id}": put channels::update::update, delete channels::delete::delete;
    "/api/alarm-channels/{id}/test": post channels::test::test;
}

#[expect(clippy::needless_pass_by_value, reason = "the layer gives it away")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of another type");
    tracing::error!(panic = text, "A request panicked");
    answer(internal())
}

/// Tells the sessions of these hosts, and whoever watches, that their desired state changed.
async fn wake(manager: &Manager, hosts: &[HostId]) {
    for host in hosts {
        manager.events().publish(Topic::Host(*host));
        manager.links().wake(*host).await;
    }
}
