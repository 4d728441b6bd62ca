//! `PUT /api/system/addresses`

use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
        wake,
    },
    auth::Principal,
    db::{hosts, manager as rows},
    desired,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{MAX_ADDRESSES, is_address};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where agents may dial the manager.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressesForm {
    /// Each `host:port`, best first.
    addresses: Vec<String>,
}

/// Sets where agents dial the manager. Those that are connected learn it at once, the others when
/// they come back. Agents trust the root key and not the address, so a wrong address here endangers
/// nobody, and the addresses of their enrolment stay with them.
#[utoipa::path(put, path = "/api/system/addresses", operation_id = "set_addresses", tag = "system",
    request_body = AddressesForm,
    responses((status = 200, body = AddressesForm), (status = "default", body = ProblemView)))]
pub async fn set(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<AddressesForm>,
) -> ApiResult<Json<AddressesForm>> {
    if form.addresses.len() > MAX_ADDRESSES {
        return Err(ApiError::invalid(
            "addresses",
            format!("There are more than {MAX_ADDRESSES} addresses."),
        ));
    }
    for address in &form.addresses {
        if !is_address(address) {
            return Err(ApiError::invalid(
                "addresses",
                "Each address must be host:port, such as backup.example:9781.",
            ));
        }
    }
    let mut change = Change::begin(&manager, who).await?;
    rows::set_addresses(&mut change.tx, &form.addresses).await?;
    let enrolled = hosts::list(&mut *change.tx).await?.into_iter().map(|host| host.id);
    let hosts =
        desired::touch_hosts_anyway(&manager, &mut change.tx, &enrolled.collect::<Vec<_>>())
            .await?;
    change.commit("system.addresses", "system", &form.addresses.join(" ")).await?;
    wake(&manager, &hosts).await;
    Ok(Json(form))
}
