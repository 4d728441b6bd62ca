//! The API of the admin: everything under `/api`. One file an endpoint; mounting one documents it.
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
};
use error::{ApiError, answer, internal};
use protocol::{Code, HostId, Problem};
use serde::Deserialize;
use std::any::Any;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

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
    let (router, _) = routes().split_for_parts();
    router
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

/// The document that describes the API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().split_for_parts().1
}

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
    ))
)]
struct Document;

fn routes() -> OpenApiRouter<Manager> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(resources())
        .merge(machines())
        .routes(routes!(session::show::show, session::create::create, session::end::end))
        .routes(routes!(system::show::show))
        .routes(routes!(system::addresses::set))
        .routes(routes!(events::events))
        .routes(routes!(notices::list::list))
        .routes(routes!(notices::resolve::resolve))
        .routes(routes!(audit::list))
        .routes(routes!(away::show))
        .routes(routes!(away::seen))
        .routes(routes!(document::document))
}

fn resources() -> OpenApiRouter<Manager> {
    OpenApiRouter::new()
        .routes(routes!(repositories::list::list, repositories::create::create))
        .routes(routes!(
            repositories::show::show,
            repositories::update::update,
            repositories::delete::delete
        ))
        .routes(routes!(repositories::probe::test))
        .routes(routes!(repositories::snapshots::snapshots))
        .routes(routes!(repositories::tree::tree))
        .routes(routes!(plans::list::list, plans::create::create))
        .routes(routes!(plans::times::times))
        .routes(routes!(plans::presets::presets))
        .routes(routes!(plans::show::show, plans::update::update, plans::delete::delete))
        .routes(routes!(enrolments::list::list, enrolments::create::create))
        .routes(routes!(enrolments::withdraw::withdraw))
        .routes(routes!(announcements::list::list))
        .routes(routes!(announcements::approve::approve))
        .routes(routes!(announcements::refuse::refuse))
        .routes(routes!(channels::list::list, channels::create::create))
        .routes(routes!(channels::update::update, channels::delete::delete))
        .routes(routes!(channels::test::test))
        .routes(routes!(alarms::list))
        .routes(routes!(store::show::show, store::choose::choose))
        .routes(routes!(store::space::space))
        .routes(routes!(store::limit::limit))
        .routes(routes!(store::bring_back::bring_back))
}

fn machines() -> OpenApiRouter<Manager> {
    OpenApiRouter::new()
        .routes(routes!(hosts::list::list))
        .routes(routes!(slots::list))
        .routes(routes!(hosts::slots::slots))
        .routes(routes!(hosts::show::show, hosts::rename::rename, hosts::remove::remove))
        .routes(routes!(hosts::tags::set))
        .routes(routes!(hosts::mode::set))
        .routes(routes!(hosts::revoke::revoke))
        .routes(routes!(hosts::release::release))
        .routes(routes!(hosts::runs::runs, hosts::start_run::start_run))
        .routes(routes!(runs::list::list))
        .routes(routes!(runs::show::show))
        .routes(routes!(runs::cancel::cancel))
        .routes(routes!(runs::log::log))
        .routes(routes!(runs::log_text::log_text))
        .routes(routes!(runs::stream::stream))
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
