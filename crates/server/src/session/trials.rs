//! Messages that the agent sends for trial: asked of it, answered to who waits.

use super::{
    socket::{Connection, Ended, Wire},
    trees::cleaned,
};
use protocol::{AlarmTested, ToAgent};

impl<W: Wire> Connection<W> {
    /// Asks what somebody waits for.
    pub(super) async fn send_trials(&mut self) -> Result<(), Ended> {
        let has_journal = self.live.as_ref().is_some_and(|live| live.version.has_journal());
        if !has_journal {
            return Ok(());
        }
        for test in self.shared.manager.trials().take(self.host) {
            self.write(&ToAgent::AlarmTest(Box::new(test))).await?;
        }
        Ok(())
    }

    pub(super) fn trial_told(&mut self, tested: AlarmTested) {
        let AlarmTested { alarm_id, problem } = tested;
        let answer = problem.map_or(Ok(()), |problem| Err(cleaned(problem)));
        self.shared.manager.trials().answer(self.host, alarm_id, answer);
    }
}
