//! The admin: asks for runs, cancels them, and changes plans, by the real handlers of the API.

use super::{
    Event, World,
    machine::short,
    say,
    template::{Enrolled, from_json, refused},
};
use anyhow::Result;
use axum::extract::State;
use protocol::RunId;
use serde_json::{Value, json};
use server::{
    api::{
        error::ApiError,
        extract::{Body, PathId},
        hosts::{mode, start_run},
        plans::update,
        runs::cancel,
    },
    auth::Principal,
    db::runs,
    manager::Manager,
};

/// The times of plans.
const CRONS: [&str; 4] = ["*/2 * * * *", "*/3 * * * *", "*/7 * * * *", "30 * * * *"];

/// The times of plans that run seldom.
const PATIENT_CRONS: [&str; 4] = ["*/15 * * * *", "*/20 * * * *", "5,35 * * * *", "*/20 * * * *"];

/// The times of plans where things go wrong for hours.
const LONG_CRONS: [&str; 4] = ["*/30 * * * *", "0 * * * *", "15 */2 * * *", "*/20 * * * *"];

impl World {
    pub(super) async fn administer(&mut self) -> Result<()> {
        if self.is_calm {
            return Ok(());
        }
        let wait = self.millis(1_000, 50_000);
        let wait = self.slowly(wait);
        self.after(wait, Event::Admin);
        let Some(manager) = self.up.as_ref().map(|up| up.manager.clone()) else { return Ok(()) };
        self.make_channels(&manager).await?;
        let machine = usize::try_from(self.dice.below(self.machines.len() as u64))?;
        let mut enrolled = self.machines[machine].enrolled.clone();
        if let Some(old) = self.old.as_ref().map(|old| old.enrolled.clone())
            && self.once_in(4)
        {
            enrolled = old;
        }
        if self.is_patient || self.is_long {
            if !self.is_settled {
                self.is_settled = true;
                for machine in 0..self.machines.len() {
                    let enrolled = self.machines[machine].enrolled.clone();
                    self.change_plan(&manager, &enrolled, json!({"cron": self.crons()[1]})).await?;
                }
                self.poke_all();
            }
            if self.is_patient && !self.once_in(4) {
                // It is seldom that somebody meddles.
                return Ok(());
            }
        }
        if self.far.is_told && self.once_in(8) {
            self.change_channels(&manager).await?;
            self.poke_all();
            return Ok(());
        }
        if self.is_left_alone(machine) {
            return Ok(());
        }
        if self.is_long && self.once_in(5) {
            self.change_mode(&manager, &enrolled).await?;
            self.poke_all();
            return Ok(());
        }
        match self.dice.below(11) {
            0..=4 => self.ask_for_run(&manager, &enrolled).await?,
            5..=6 => self.cancel_one(&manager).await?,
            7..=8 => {
                let crons = self.crons();
                let at = usize::try_from(self.dice.below(crons.len() as u64))?;
                self.change_plan(&manager, &enrolled, json!({"cron": crons[at]})).await?;
            }
            9 => {
                let hooks = match self.dice.below(3) {
                    0 => json!({}),
                    1 => json!({"before": "stop-database"}),
                    _ => json!({"after": "start-database"}),
                };
                let options = json!({"not_on_battery": self.once_in(2),
                    "not_metered": self.once_in(2), "hooks": hooks});
                self.change_plan(&manager, &enrolled, json!({"options": options})).await?;
            }
            _ => {
                let is_enabled = self.once_in(2);
                let change = json!({"enabled": is_enabled, "paths": ["/home", "/etc"]});
                self.change_plan(&manager, &enrolled, change).await?;
            }
        }
        self.poke_all();
        Ok(())
    }

    async fn change_mode(&mut self, manager: &Manager, enrolled: &Enrolled) -> Result<()> {
        let mode = if self.once_in(2) { "intermittent" } else { "always_on" };
        let form = json!({"mode": mode, "stale_after_days": 1 + self.dice.below(3)});
        say!(self, "admin", "says what {} is: {form}", enrolled.name);
        let (state, host) = (State(manager.clone()), PathId(enrolled.host));
        mode::set(Principal::LocalUser, state, host, Body(from_json(form)?))
            .await
            .map(drop)
            .map_err(refused)?;
        self.met.count("machine said to be intermittent or always on");
        Ok(())
    }

    fn crons(&self) -> [&'static str; 4] {
        match (self.is_patient, self.is_long) {
            (true, _) => PATIENT_CRONS,
            (_, true) => LONG_CRONS,
            _ => CRONS,
        }
    }

    async fn ask_for_run(&mut self, manager: &Manager, enrolled: &Enrolled) -> Result<()> {
        let Enrolled { host, name, plan, repository } = enrolled;
        let mut form = match self.dice.below(8) {
            0..=3 => json!({"kind": "backup", "plan_id": plan}),
            4 => json!({"kind": "check", "repository_id": repository}),
            5 => json!({"kind": "stats", "repository_id": repository}),
            6 => json!({"kind": "unlock", "repository_id": repository}),
            _ => json!({"kind": "forget", "plan_id": plan, "confirm": name}),
        };
        form["expires_in_seconds"] = json!(60 + self.dice.below(900));
        let kind = form["kind"].as_str().unwrap_or_default().to_owned();
        let asked = start_run::start_run(
            Principal::LocalUser,
            State(manager.clone()),
            PathId(*host),
            Body(from_json(form)?),
        );
        match asked.await {
            Ok((_, view)) => {
                self.met.count("run asked for");
                say!(self, "admin", "asks {name} for run {}: {kind}", short(view.0.id));
            }
            Err(ApiError::RunOpen(_)) => self.met.count("run asked for twice"),
            // Such as one by a plan that is switched off.
            Err(ApiError::Refused(_)) => self.met.count("request refused"),
            Err(error) => return Err(refused(error)),
        }
        Ok(())
    }

    async fn cancel_one(&mut self, manager: &Manager) -> Result<()> {
        let open = runs::open(manager.db().read()).await?;
        if open.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(self.dice.below(open.len() as u64))?;
        let id: RunId = open[at].id;
        let state = State(manager.clone());
        cancel::cancel(Principal::LocalUser, state, PathId(id)).await.map(drop).map_err(refused)?;
        self.met.count("cancel asked for");
        say!(self, "admin", "cancels run {}", short(id));
        Ok(())
    }

    async fn change_plan(
        &mut self,
        manager: &Manager,
        enrolled: &Enrolled,
        form: Value,
    ) -> Result<()> {
        say!(self, "admin", "changes the plan of {}: {form}", enrolled.name);
        let state = State(manager.clone());
        let (plan, form) = (PathId(enrolled.plan), Body(from_json(form)?));
        update::update(Principal::LocalUser, state, plan, form).await.map(drop).map_err(refused)?;
        self.met.count("plan changed");
        Ok(())
    }

    /// All plans run by hand from now on, so that there can be rest.
    pub(super) async fn end_plans(&mut self) -> Result<()> {
        let Some(manager) = self.up.as_ref().map(|up| up.manager.clone()) else { return Ok(()) };
        let own = self.machines.iter().map(|it| it.enrolled.clone());
        let old = self.old.as_ref().map(|old| old.enrolled.clone());
        let all: Vec<Enrolled> = own.chain(old).collect();
        for enrolled in all {
            self.change_plan(&manager, &enrolled, json!({"cron": null, "enabled": true})).await?;
        }
        self.poke_all();
        Ok(())
    }
}
