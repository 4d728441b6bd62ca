//! `GET /api/slots`

use super::{
    error::{ApiResult, ProblemView},
    extract::Params,
};
use crate::{
    auth::Principal,
    manager::Manager,
    slots::{self, Day, Strip},
};
use axum::{Json, extract::State};
use protocol::HostId;
use schedule::slots::Standing;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What became of a slot, or the worst of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandingView {
    /// Its time has hardly come.
    Due,
    /// Its run goes on.
    Running,
    /// Its run succeeded.
    Ran,
    /// A later run made up for it.
    Covered,
    /// The machine was off or slept.
    Asleep,
    /// A gate of the plan was closed.
    Skipped,
    /// The repository did not answer.
    Waiting,
    /// The machine has not told yet.
    Unknown,
    /// A person cancelled its run.
    Cancelled,
    /// Its run wrote a snapshot that lacks something.
    Partial,
    /// Its run was cut off.
    Interrupted,
    /// Nothing ran although it could have.
    Missed,
    /// Its run failed.
    Failed,
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Due => Self::Due,
            Standing::Running => Self::Running,
            Standing::Ran => Self::Ran,
            Standing::Covered => Self::Covered,
            Standing::Asleep => Self::Asleep,
            Standing::Skipped => Self::Skipped,
            Standing::Waiting => Self::Waiting,
            Standing::Unknown => Self::Unknown,
            Standing::Cancelled => Self::Cancelled,
            Standing::Partial => Self::Partial,
            Standing::Interrupted => Self::Interrupted,
            Standing::Missed => Self::Missed,
            Standing::Failed => Self::Failed,
        }
    }
}

/// How many slots stand in one way.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountView {
    /// In which way.
    pub standing: StandingView,
    /// How many.
    pub count: u32,
}

/// The days of one machine, in its own time zone.
#[derive(Debug, Serialize, ToSchema)]
pub struct StripView {
    /// The machine.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// The first day, such as `2026-11-01`.
    #[schema(value_type = String, format = Date)]
    pub first: jiff::civil::Date,
    /// How many slots of each day stand how, the worst first; the last day is today. A day without slots is
    /// empty.
    pub days: Vec<Vec<CountView>>,
}

impl From<&Strip> for StripView {
    fn from(strip: &Strip) -> Self {
        let counts = |day: &Day| -> Vec<CountView> {
            let worst_first = day.counts.iter().rev();
            worst_first
                .map(|(standing, count)| CountView { standing: (*standing).into(), count: *count })
                .collect()
        };
        Self {
            host_id: strip.host_id,
            first: strip.first,
            days: strip.days.iter().map(counts).collect(),
        }
    }
}

/// Which strips.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct SlotsQuery {
    /// Only this machine's.
    #[param(value_type = Option<String>, format = Uuid)]
    host_id: Option<HostId>,
}

/// What became of the slots of the last 30 days, for each machine whose plans run by the clock.
#[utoipa::path(get, path = "/api/slots", operation_id = "list_slots", tag = "hosts",
    params(SlotsQuery),
    responses((status = 200, body = Vec<StripView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
    Params(query): Params<SlotsQuery>,
) -> ApiResult<Json<Vec<StripView>>> {
    let ledger = match query.host_id {
        Some(host) => slots::of_host(&manager, host).await?,
        None => slots::of_all(&manager).await?,
    };
    let is_wanted = |strip: &&Strip| query.host_id.is_none_or(|host| host == strip.host_id);
    Ok(Json(ledger.strips.values().filter(is_wanted).map(StripView::from).collect()))
}
