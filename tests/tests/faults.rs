//! What goes wrong around real programs: they are killed, stopped and cut off, their clocks are set, and
//! somebody who watches does not read. Nothing is lost, nothing is done twice, and nobody waits for ever.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

mod faults {
    mod clocks;
    mod cut;
    mod kills;
    mod stopped;
    mod subscribers;

    use serde_json::Value;
    use std::time::Duration;
    use testkit::api::{Api, Flow};
    use tokio::task::JoinHandle;

    /// Follows a run as its page does, to the end: when the stream breaks, from the line that it has. The
    /// numbers of its lines, as they came.
    fn watch(api: &Api, run: &str) -> JoinHandle<Vec<u64>> {
        let (api, run) = (api.clone(), run.to_owned());
        tokio::spawn(async move {
            let (mut numbers, mut is_over) = (Vec::new(), false);
            while !is_over {
                let last = numbers.last().copied().unwrap_or(0);
                let path = format!("/api/runs/{run}/stream?after_line={last}");
                let read = api.stream(&path, |event, data| {
                    numbers.extend(lines(data));
                    is_over = event == "end";
                    if is_over { Flow::Stop } else { Flow::Continue }
                });
                if read.await.is_err() {
                    // A page waits a moment before it comes back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            numbers
        })
    }

    /// The numbers of an event's log lines, if it has some.
    fn lines(data: &Value) -> impl Iterator<Item = u64> {
        let lines = data["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.iter().filter_map(|line| line["seq"].as_u64())
    }
}
