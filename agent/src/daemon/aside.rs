//! Work beside the runs: it looks at things and tells what it found, and the loop never waits for it.

use super::Daemon;
use crate::{
    alarms::{self, Roots},
    core::{Attempt, DeliveryKey, Gates, Parcel, Process, Reading, Recovered},
    gates,
    points::{self, Point},
    reach,
    runner::reading,
};
use jiff::Timestamp;
use protocol::{AlarmId, Problem, RepositoryConfig, RepositoryId, RunId, TreeEntry, TreeWant};

/// What came of work beside the runs.
#[derive(Debug)]
pub(super) enum SideResult {
    Read(RepositoryId, Option<Reading>),
    Recovered(RunId, Recovered),
    Listed(TreeWant, Result<Vec<TreeEntry>, Problem>),
    Probed(RepositoryId, bool),
    Gates(Gates),
    Delivered(DeliveryKey, Attempt),
    Tried(AlarmId, Attempt),
}

impl Daemon {
    pub(super) fn recover(
        &mut self,
        run_id: RunId,
        left_over: Option<(Process, Timestamp)>,
        repository: Option<Box<RepositoryConfig>>,
        look_for_snapshot: bool,
    ) {
        let tools = self.tools.clone().ok();
        let self_host = self.brain.facts().host_id;
        self.side_tasks.spawn(async move {
            let found = reading::recover(
                self_host,
                run_id,
                left_over,
                repository,
                look_for_snapshot,
                tools,
            )
            .await;
            SideResult::Recovered(run_id, found)
        });
    }

    pub(super) fn probe(&mut self, id: RepositoryId, location: String) {
        let manager = self.pass_through.addresses();
        self.side_tasks.spawn(async move {
            SideResult::Probed(id, reach::answers(&location, &manager).await)
        });
    }

    pub(super) fn look_at_gates(&mut self, asked: Gates) {
        let helpers = self.helpers.clone();
        self.side_tasks
            .spawn(async move { SideResult::Gates(gates::closed(asked, &helpers).await) });
    }

    pub(super) fn deliver(&mut self, key: DeliveryKey, parcel: Box<Parcel>) {
        points::reach(Point::BeforeAlarmSent);
        self.side_tasks.spawn(async move {
            let attempt = alarms::deliver(&parcel, &Roots::System).await;
            points::reach(Point::AfterAlarmSent);
            SideResult::Delivered(key, attempt)
        });
    }

    pub(super) fn try_channel(&mut self, parcel: Box<Parcel>) {
        self.side_tasks.spawn(async move {
            let attempt = alarms::deliver(&parcel, &Roots::System).await;
            SideResult::Tried(parcel.message.id, attempt)
        });
    }

    pub(super) fn read(&mut self, repository: RepositoryConfig) {
        let tools = self.tools.clone().ok();
        let now = self.clock.now();
        self.side_tasks.spawn(async move {
            let reading = match tools {
                Some(tools) => reading::read(&repository, &tools, now).await,
                None => None,
            };
            SideResult::Read(repository.id, reading)
        });
    }

    pub(super) fn list(&mut self, repository: RepositoryConfig, want: TreeWant) {
        let tools = self.tools.clone();
        self.side_tasks.spawn(async move {
            let listed = match tools {
                Ok(tools) => reading::list(&repository, &want, &tools).await,
                Err(problem) => Err(problem),
            };
            SideResult::Listed(want, listed)
        });
    }
}
