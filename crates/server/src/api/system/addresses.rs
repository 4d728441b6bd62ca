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
    if form.addresses.len() > 20 {
        return Err(ApiError::invalid("addresses", "There are more than 20 addresses."));
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
    let hosts = desired::touch_hosts(&mut change.tx, &enrolled.collect::<Vec<_>>()).await?;
    change.commit("system.addresses", "system", &form.addresses.join(" ")).await?;
    wake(&manager, &hosts).await;
    Ok(Json(form))
}

/// Whether it is `host:port`. It becomes part of a shell line, so nothing else is let through.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_v6 = v6.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    (is_v6 || is_name) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn only_host_and_port_are_an_address() {
        for good in ["box:9781", "192.0.2.7:1", "[::1]:9781", "a-b.example.org:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in
            ["", "box", "box:0", "box:65536", ":1", "-x:1", "a b:1", "$(x):1", "[x]:1", "a'b:1"]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
