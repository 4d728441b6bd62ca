//! `POST /api/enrolments`

use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
        hosts::host_name_is_free,
        plans::{
            Assigned, PlanView,
            create::{PlanForMachineForm, for_machine},
            view as plan_view,
        },
        repositories::create::{CreatedRepositoryView, Entered},
    },
    auth::{Principal, token},
    db::{
        enrolments::{self, Enrolment},
        manager as rows,
        plans::{self, Plan},
        repositories::Repository,
    },
    events::Topic,
    identity::MANAGER_NAME,
    manager::Manager,
};
use axum::{Json, extract::State, http::StatusCode};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, PlanId, Problem, Secret, expose};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// How long a token lets a machine in.
const VALID: SignedDuration = SignedDuration::from_hours(1);

/// A new enrolment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrolmentForm {
    /// The name that the machine will get.
    name: String,
    /// The plan that the machine gets when it arrives.
    #[schema(value_type = Option<String>, format = Uuid)]
    plan_id: Option<PlanId>,
    /// Instead of `plan_id`, a plan that is made with the enrolment: all of it, or nothing.
    plan: Option<PlanForMachineForm>,
}

/// A new enrolment with its token, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedEnrolmentView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// The one-time token.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String)]
    pub token: Secret<String>,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What to run on the machine.
    pub install: InstallView,
    /// The plan that was made with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// The repository that was entered with it, and what was minted for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<CreatedRepositoryView>,
}

/// What to run on the machine, with the token in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct InstallView {
    /// For a shell of Linux or macOS, as root.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String)]
    pub unix: Secret<String>,
    /// Whether it installs the agent too; otherwise the agent has to be there.
    pub brings_agent: bool,
}

/// Makes a one-time token that lets one machine in within the hour. What the form describes of a plan
/// and a repository is made with it; where anything is refused, nothing is kept.
#[utoipa::path(post, path = "/api/enrolments", operation_id = "create_enrolment",
    tag = "enrolments", request_body = CreateEnrolmentForm,
    responses((status = 201, body = CreatedEnrolmentView), (status = "default", body = ProblemView)))]
pub async fn create(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<CreateEnrolmentForm>,
) -> ApiResult<(StatusCode, Json<CreatedEnrolmentView>)> {
    let name = check::name("name", &form.name)?;
    let token = token::mint(32)?;
    let mut change = Change::begin(&manager, who).await?;
    host_name_is_free(&mut change, &name, None).await?;
    let addresses = rows::addresses(&mut *change.tx).await?;
    let way = Way {
        addresses: &addresses,
        manager_key: &manager.identity().manager_key(),
        ca_pem: &manager.identity().root_cert_pem(),
        has_agents: manager.programs().has_agents(),
    };
    let unix = unix_block(&way, &token)?;
    let (plan_id, made) = ensure_plan(&manager, &mut change, form.plan_id, form.plan).await?;
    let enrolment = enrolment(&manager, &change, name, plan_id);
    let hash = token::hash(token.expose_secret());
    enrolments::insert(&mut change.tx, &enrolment, &hash).await?;
    let subject = format!("enrolment:{}", enrolment.id);
    change.commit("enrolment.create", &subject, &enrolment.name).await?;
    manager.events().publish(Topic::Enrolments);
    let (plan, repository) = match made {
        Some(made) => made.tell(&manager).await?,
        None => (None, None),
    };
    let Enrolment { id, expires_at, .. } = enrolment;
    let install = InstallView { unix, brings_agent: way.has_agents };
    let created = CreatedEnrolmentView { id, token, expires_at, install, plan, repository };
    Ok((StatusCode::CREATED, Json(created)))
}

/// A plan that was made with a machine's coming, and the repository that was entered with that.
pub(in crate::api) struct Made {
    plan: Plan,
    entered: Option<Entered>,
}

impl Made {
    /// Tells everyone about both, once they are committed, and the answer what they are.
    pub(in crate::api) async fn tell(
        self,
        manager: &Manager,
    ) -> ApiResult<(Option<PlanView>, Option<CreatedRepositoryView>)> {
        let Self { plan, entered } = self;
        manager.events().publish(Topic::Plan(plan.id));
        if let Some(repository) = plan.repository_id {
            manager.events().publish(Topic::Repository(repository));
        }
        let entered = match entered {
            Some(entered) => Some(entered.view(manager).await?),
            None => None,
        };
        Ok((Some(plan_view(plan, Assigned::default(), Vec::new())), entered))
    }
}

/// The plan that the machine will get: one that is there, one that is made for it, or none.
pub(in crate::api) async fn ensure_plan(
    manager: &Manager,
    change: &mut Change,
    known: Option<PlanId>,
    new: Option<PlanForMachineForm>,
) -> ApiResult<(Option<PlanId>, Option<Made>)> {
    match (known, new) {
        (None, None) => Ok((None, None)),
        (Some(known), None) => {
            if plans::find(&mut *change.tx, known).await?.is_none() {
                let problem = Problem::new(Code::PlanUnknown, "There is no such plan.");
                return Err(problem.field("plan_id").into());
            }
            Ok((Some(known), None))
        }
        (None, Some(form)) => {
            let made = for_machine(manager, change, form).await;
            let (plan, entered) = made.map_err(|refused| refused.within("plan"))?;
            if let Some(Repository { id, name, .. }) = entered.as_ref().map(|it| &it.repository) {
                change.note("repository.create", &format!("repository:{id}"), name).await?;
            }
            change.note("plan.create", &format!("plan:{}", plan.id), &plan.name).await?;
            Ok((Some(plan.id), Some(Made { plan, entered })))
        }
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("plan_id", "Choose a plan, or describe a new one, not both."))
        }
    }
}

fn enrolment(
    manager: &Manager,
    change: &Change,
    name: String,
    plan_id: Option<PlanId>,
) -> Enrolment {
    Enrolment {
        id: manager.new_id(),
        name,
        created_at: change.now,
        expires_at: change.now + VALID,
        used_at: None,
        host_id: None,
        withdrawn_at: None,
        plan_id,
    }
}

/// Where the line of a machine leads to, and what proves that.
struct Way<'a> {
    addresses: &'a [String],
    manager_key: &'a str,
    ca_pem: &'a str,
    /// Whether the manager has agents to hand out.
    has_agents: bool,
}

/// The block for a shell. The token goes by standard input and in a request's body: it stands in no list of
/// processes and, in shells that keep no here-documents, in no history.
fn unix_block(way: &Way<'_>, token: &Secret<String>) -> ApiResult<Secret<String>> {
    if way.addresses.is_empty() {
        return Err(ApiError::from(
            Problem::new(Code::Conflict, "The manager has no address that a machine could dial.")
                .guidance("Set one first, such as backup.example:9781."),
        ));
    }
    let token = token.expose_secret();
    Ok(Secret::new(if way.has_agents { installing(way, token) } else { enrolling(way, token) }))
}

/// A key may begin with a dash, hence the equals signs.
fn dialling(way: &Way<'_>) -> String {
    let dial: String = way.addresses.iter().map(|it| format!("--address='{it}' ")).collect();
    format!("{dial}--manager-key='{}'", way.manager_key)
}

/// For a machine that has the agent.
fn enrolling(way: &Way<'_>, token: &str) -> String {
    format!("restic-manager-agent enroll {} <<'TOKEN'\n{token}\nTOKEN\n", dialling(way))
}

/// For a machine that has nothing but a shell and curl. What it fetches comes from whoever holds the key of
/// the certificate in it, under the one name that every manager has; an address proves nothing. It works in a
/// folder of root's own, since temporary folders may be closed to programs. `-q` and `--noproxy` keep out what
/// the machine's own settings might add, `--capath` the authorities that it trusts.
fn installing(way: &Way<'_>, token: &str) -> String {
    let addresses: String = way.addresses.iter().map(|it| format!(" '{it}'")).collect();
    format!(
        r#"sh <<'RESTIC_MANAGER'
set -eu
[ "$(id -u)" = 0 ] || {{ echo 'Paste this as root, for instance after: sudo -i' >&2; exit 1; }}
command -v curl >/dev/null || {{ echo 'Install curl first, and paste this again.' >&2; exit 1; }}
umask 022
mkdir -p /usr/local/lib
d=$(mktemp -d /usr/local/lib/restic-manager.XXXXXX)
trap 'rm -rf "$d"' EXIT
cat >"$d/ca" <<'CA'
{ca}CA
cat >"$d/token" <<'TOKEN'
{token}
TOKEN
for a in{addresses}; do
  got=$(curl -q -sS --noproxy '*' --connect-timeout 10 --cacert "$d/ca" --capath "$d/none" --connect-to "::$a" \
    --data-binary "@$d/token" -o "$d/agent" -w '%{{http_code}}' \
    "https://{name}/agent/programs/$(uname -s)/$(uname -m)/agent") || continue
  [ "$got" = 200 ] || {{ cat "$d/agent" >&2; echo >&2; exit 1; }}
  chmod 700 "$d/agent"
  "$d/agent" install {dialling} <"$d/token"
  exit
done
echo 'The manager was not reached at any of its addresses; nothing was changed.' >&2
exit 1
RESTIC_MANAGER
"#,
        ca = way.ca_pem,
        name = MANAGER_NAME,
        dialling = dialling(way),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way<'static> = Way {
        addresses: &[],
        manager_key: "-KEY",
        ca_pem: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        has_agents: false,
    };

    #[test]
    fn the_token_is_on_a_line_of_its_own_and_never_an_argument() {
        let token = Secret::new("t0ken".to_owned());
        let addresses = ["box:9781".to_owned(), "[::1]:9781".to_owned()];
        for has_agents in [false, true] {
            let way = Way { addresses: &addresses, has_agents, ..WAY };
            let block = unix_block(&way, &token).unwrap();
            let block = block.expose_secret();
            let lines: Vec<&str> = block.lines().filter(|line| line.contains("t0ken")).collect();
            assert_eq!(lines, ["t0ken"]);
            let dialling = "--address='box:9781' --address='[::1]:9781' --manager-key='-KEY'";
            assert!(block.contains(dialling), "{block}");
            assert_eq!(block.contains("BEGIN CERTIFICATE"), has_agents);
        }
        assert!(unix_block(&WAY, &token).is_err());
    }
}
