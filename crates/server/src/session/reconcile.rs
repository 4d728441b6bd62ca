//! What a host needs now, read from the database: asked after every wake, and never told what
//! changed.

use super::{
    commands::{self, Manner, Step, Written},
    core::Met,
    greet::{check_state, unknown},
    needs::{self, Needs},
    socket::{Connection, Ended, Wire},
};
use crate::{
    db::{
        error::DbError,
        hosts::{self, Brief},
        notices::{self, NewNotice},
        runs::{self, Dispatch, EndHere, Run},
    },
    desired::{self, DesiredError, DesiredState, Stated},
    events::Topic,
    hooks::{self, Mistake, Point},
    manager::Manager,
};
use protocol::{
    CancelReason, Code, CommandCancel, CommandGo, CommandNumber, CommandRun, HostId,
    MAX_FRAME_BYTES, RunId, ToAgent,
};
use std::sync::Arc;

impl<W: Wire> Connection<W> {
    pub(super) async fn reconcile(&mut self) -> Result<(), Ended> {
        let needs = needs::of(&self.shared.manager, self.host).await?;
        self.provide(needs).await
    }

    /// Gives the host what it needs.
    pub(super) async fn provide(&mut self, needs: Option<Needs>) -> Result<(), Ended> {
        let Some(needs) = needs else { return Err(Ended::Refused(unknown())) };
        check_state(needs.host.state).map_err(Ended::Refused)?;
        let Some(live) = &self.live else { return Ok(()) };
        // A hold that came or went, and a new life of the manager, change what a hello is answered
        // with: the agent comes back at once and is met as things are now.
        let held = needs.host.hold.as_ref().map(|hold| hold.code);
        if held != live.held && live.met != Met::Renewing {
            return Err(Ended::Closed("the state of this machine has changed"));
        }
        if live.incarnation != self.shared.manager.identity().manager().incarnation {
            return Err(Ended::Closed("the manager has begun a new life"));
        }
        if !self.session.is_live() {
            return Ok(());
        }
        let Needs { host, stated, open } = needs;
        self.send_desired(host, stated).await?;
        self.send_commands(open).await?;
        self.send_wants().await?;
        self.send_trials().await
    }

    async fn send_desired(
        &mut self,
        mut host: Brief,
        mut stated: Arc<Stated>,
    ) -> Result<(), Ended> {
        let manager = self.shared.manager.clone();
        if host.desired_digest.as_ref() != Some(&stated.digest) {
            let Some(again) = Box::pin(restate(&manager, self.host)).await? else { return Ok(()) };
            (host, stated) = (again.host, again.stated);
        }
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        let is_sent = live.sent_generation == Some(host.generation)
            || (live.sent_generation.is_some() && hooks::is_planted(Mistake::KeepStaleGeneration));
        if (host.in_sync() && !live.has_older_plans) || is_sent {
            return Ok(());
        }
        let generation = host.generation(live.incarnation);
        let Stated { sources, digest, .. } = &*stated;
        let compiled = if live.version.has_journal() {
            desired::compile(sources, manager.vault(), generation, digest.clone())
        } else {
            desired::compile_version_1(sources, manager.vault(), generation)
        };
        match compiled {
            Ok(DesiredState { config, schedules }) => {
                live.sent_generation = Some(host.generation);
                let config = ToAgent::ConfigUpdate(Box::new(config));
                let schedules = ToAgent::ScheduleSet(schedules);
                if !(fits(&config) && fits(&schedules)) {
                    return Box::pin(self.tell_too_large()).await;
                }
                self.write(&config).await?;
                self.write(&schedules).await
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, host.id = %self.host, "failed to compile a desired state");
                Box::pin(self.tell_unopened()).await
            }
        }
    }

    async fn tell_unopened(&mut self) -> Result<(), Ended> {
        let notice = NewNotice::of_host(
            self.host,
            Code::Internal,
            "The secrets of one of this machine's repositories do not open; its plans were not sent.",
        )
        .subject("secrets")
        .guidance("Enter the repository's password again.");
        self.tell(&notice).await
    }

    /// The connection stays: commands are of use without the newest plans.
    async fn tell_too_large(&mut self) -> Result<(), Ended> {
        let notice = NewNotice::of_host(
            self.host,
            Code::PlansTooLarge,
            "What the plans of this machine say together is too large to be sent to it. It goes on as it was told \
             before, and does not know what has changed since.",
        )
        .subject("plans")
        .guidance("Shorten the longest lists of paths and excludes, or give the machine fewer plans.");
        self.tell(&notice).await
    }

    async fn tell(&mut self, notice: &NewNotice) -> Result<(), Ended> {
        let manager = &self.shared.manager;
        let mut tx = manager.db().begin().await?;
        notices::open(&mut tx, manager.new_id(), notice, manager.now()).await?;
        tx.commit().await.map_err(DbError::from)?;
        manager.events().publish(Topic::Notices);
        Ok(())
    }

    async fn send_commands(&mut self, open: Vec<Run>) -> Result<(), Ended> {
        if let Some(live) = self.live.as_mut() {
            let acked = live.acked;
            // What is not taken in yet cannot be open here.
            live.begun.retain(|run, seq| *seq > acked || open.iter().any(|it| it.id == *run));
        }
        for run in open {
            Box::pin(self.advance(run)).await?;
        }
        Ok(())
    }

    /// Does what a run needs now; a step may make the next one possible.
    async fn advance(&mut self, run: Run) -> Result<(), Ended> {
        let Some(live) = &self.live else { return Ok(()) };
        let manner = if live.version.has_journal() {
            let caught_up = live.is_caught_up() || hooks::is_planted(Mistake::LoseBeforeCaughtUp);
            Manner::Numbered { caught_up }
        } else {
            Manner::AtOnce
        };
        let mut written = live.written.get(&run.id).copied().unwrap_or_default();
        written.is_open |= live.begun.contains_key(&run.id);
        let now = self.shared.manager.now();
        match commands::next(&run, written, manner, now) {
            None => Ok(()),
            Some(Step::Expire) => self.end_here(run.id, &EndHere::expired()).await,
            Some(Step::Cancel) => self.end_here(run.id, &EndHere::cancelled()).await,
            Some(Step::Lose) => {
                if run.cancel_requested_at.is_some() {
                    self.write_cancel(&run, written, CancelReason::Admin).await?;
                }
                self.end_here(run.id, &EndHere::lost()).await
            }
            Some(Step::WriteRun) => self.write_run(run, written).await,
            Some(Step::WriteGo) => self.write_go(run.id, written).await,
            Some(Step::WriteCancel(reason)) => self.write_cancel(&run, written, reason).await,
        }
    }

    async fn end_here(&mut self, run: RunId, end: &EndHere) -> Result<(), Ended> {
        let manager = &self.shared.manager;
        let mut tx = manager.db().begin().await?;
        // The newer connection registered before it heard anything, so within this transaction
        // nothing that it began is mistaken for forgotten.
        if self.is_replaced() {
            return Ok(());
        }
        runs::finish_here(&mut tx, run, end, manager.now()).await?;
        tx.commit().await.map_err(DbError::from)?;
        manager.events().publish(Topic::Run(run));
        manager.events().run_ended(run);
        manager.events().publish(Topic::Host(self.host));
        Ok(())
    }

    async fn write_run(&mut self, run: Run, written: Written) -> Result<(), Ended> {
        let manager = self.shared.manager.clone();
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        let mut tx = manager.db().begin().await?;
        let to = if live.version.has_journal() { Dispatch::Sent } else { Dispatch::Going };
        if run.dispatch == Dispatch::Waiting
            && !runs::advance(&mut tx, run.id, Dispatch::Waiting, to).await?
        {
            // Someone was faster: it was cancelled or has expired.
            return Ok(());
        }
        let number = match run.command {
            _ if !live.version.has_journal() => None,
            // A number of an earlier life of the manager means nothing to the agent any more.
            Some(number) if number.incarnation == live.incarnation => Some(number),
            Some(_) | None => {
                let n = hosts::next_command(&mut tx, self.host).await?;
                let number = CommandNumber { incarnation: live.incarnation, n };
                runs::set_command(&mut tx, run.id, number).await?;
                Some(number)
            }
        };
        tx.commit().await.map_err(DbError::from)?;
        live.written.insert(run.id, Written { run: true, ..written });
        manager.events().publish(Topic::Run(run.id));
        let command = CommandRun {
            job_id: run.id,
            spec: run.spec,
            args: Vec::new(),
            number,
            expires_at: run.expires_at,
            signature: None,
        };
        hooks::reach(Point::AfterSentBeforeWrite);
        self.write(&ToAgent::CommandRun(Box::new(command))).await
    }

    async fn write_go(&mut self, run: RunId, written: Written) -> Result<(), Ended> {
        let manager = self.shared.manager.clone();
        let mut tx = manager.db().begin().await?;
        for from in [Dispatch::Sent, Dispatch::Accepted] {
            runs::advance(&mut tx, run, from, Dispatch::Going).await?;
        }
        let current = runs::find(&mut *tx, run).await?;
        tx.commit().await.map_err(DbError::from)?;
        let may_go = current.is_some_and(|run| !run.status.is_terminal());
        let Some(live) = self.live.as_mut().filter(|_| may_go) else { return Ok(()) };
        live.written.insert(run, Written { go: true, ..written });
        manager.events().publish(Topic::Run(run));
        hooks::reach(Point::AfterGoingBeforeWrite);
        self.write(&ToAgent::CommandGo(CommandGo { job_id: run })).await
    }

    async fn write_cancel(
        &mut self,
        run: &Run,
        written: Written,
        reason: CancelReason,
    ) -> Result<(), Ended> {
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        live.written.insert(run.id, Written { cancel: true, ..written });
        let number = run.command.filter(|number| number.incarnation == live.incarnation);
        let cancel = CommandCancel { job_id: run.id, number, reason };
        self.write(&ToAgent::CommandCancel(cancel)).await
    }
}

/// Whether a message leaves room in a frame for what is written around it.
fn fits(message: &ToAgent) -> bool {
    const AROUND: usize = 1024;
    message.encode().is_ok_and(|frame| frame.payload.get().len() <= MAX_FRAME_BYTES - AROUND)
}

/// What a host needs once its desired state is made anew.
async fn restate(manager: &Manager, host: HostId) -> Result<Option<Needs>, DesiredError> {
    let mut tx = manager.db().begin().await?;
    desired::touch_hosts_anyway(manager, &mut tx, &[host]).await?;
    let found = hosts::briefs(&mut *tx, &[host]).await?;
    let again = needs::read(&mut tx, found).await?.remove(&host);
    tx.commit().await.map_err(DbError::from)?;
    Ok(again)
}
