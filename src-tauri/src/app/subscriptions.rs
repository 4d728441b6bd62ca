//! The streams that the page follows.

use crate::bridge::Answer;
use futures_util::{Stream, StreamExt as _};
use protocol::{Code, Problem};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Streams at once. A page follows a handful.
const LIMIT: usize = 64;

/// Those that go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    streams: BTreeMap<u64, CancellationToken>,
}

impl Subscriptions {
    /// Hands over what a stream brings, and `None` at its end, until the page stops it or `tell` says
    /// that nobody hears. Returns the number to stop it by.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn begin(
        &self,
        stream: impl Stream<Item = String> + Send + 'static,
        tell: impl Fn(Option<String>) -> bool + Send + 'static,
    ) -> Result<u64, Answer> {
        let stop = CancellationToken::new();
        let id = self.add(stop.clone())?;
        let open = self.clone();
        tauri::async_runtime::spawn(async move {
            let mut stream = pin!(stream.take_until(stop.cancelled_owned()));
            while let Some(piece) = stream.next().await {
                if !tell(Some(piece)) {
                    break;
                }
            }
            tell(None);
            open.end(id);
        });
        Ok(id)
    }

    fn add(&self, stop: CancellationToken) -> Result<u64, Answer> {
        let mut open = self.open();
        if open.streams.len() >= LIMIT {
            let problem =
                Problem::new(Code::TooManyAttempts, "The window follows too many streams.")
                    .guidance("Reload the page.");
            return Err(Answer::refusal(&problem));
        }
        open.last += 1;
        let id = open.last;
        open.streams.insert(id, stop);
        Ok(id)
    }

    /// Stops one. One that has ended already is fine.
    pub(super) fn end(&self, id: u64) {
        if let Some(stop) = self.open().streams.remove(&id) {
            stop.cancel();
        }
    }

    /// Stops all.
    pub(super) fn end_all(&self) {
        for stop in std::mem::take(&mut self.open().streams).into_values() {
            stop.cancel();
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use tokio::sync::mpsc;

    fn told() -> (impl Fn(Option<String>) -> bool + Send, mpsc::Receiver<Option<String>>) {
        let (sender, receiver) = mpsc::channel(2000);
        (move |piece| sender.try_send(piece).is_ok(), receiver)
    }

    #[tokio::test]
    async fn a_stream_is_told_in_order_to_its_end() {
        let subscriptions = Subscriptions::default();
        let (tell, mut told) = told();
        let pieces = stream::iter((0..1000).map(|number| number.to_string()));
        subscriptions.begin(pieces, tell).ok().unwrap();
        for number in 0..1000 {
            assert_eq!(told.recv().await, Some(Some(number.to_string())));
        }
        assert_eq!(told.recv().await, Some(None));
        assert_eq!(told.recv().await, None, "nothing comes after the end");
        assert!(subscriptions.open().streams.is_empty());
    }

    #[tokio::test]
    async fn a_page_stops_one_or_all() {
        let subscriptions = Subscriptions::default();
        let (first, mut first_told) = told();
        let (second, mut second_told) = told();
        let id = subscriptions.begin(stream::pending(), first).ok().unwrap();
        subscriptions.begin(stream::pending(), second).ok().unwrap();
        subscriptions.end(id);
        assert_eq!(first_told.recv().await, Some(None));
        assert_eq!(subscriptions.open().streams.len(), 1);
        subscriptions.end_all();
        assert_eq!(second_told.recv().await, Some(None));
        subscriptions.end(id);
    }

    #[tokio::test]
    async fn there_are_not_too_many() {
        let subscriptions = Subscriptions::default();
        for _ in 0..LIMIT {
            subscriptions.begin(stream::pending(), |_| true).ok().unwrap();
        }
        assert_eq!(subscriptions.begin(stream::pending(), |_| true).unwrap_err().status, 429);
    }
}
