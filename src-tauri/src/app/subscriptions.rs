//! The streams that the page follows.

use crate::bridge::Answer;
use futures_util::{Stream, StreamExt as _, future::BoxFuture};
use protocol::{Code, Problem};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Streams at once. A page follows a handful.
const LIMIT: usize = 64;

/// Hands the page a piece, and says once the page has it whether it may have more. Without that wait
/// a page that takes nothing would make the queue to it grow, and the server's bounded backlog would
/// never know.
pub(super) type Tell = Box<dyn Fn(Option<String>) -> BoxFuture<'static, bool> + Send>;

/// Those that go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions(Arc<Mutex<Open>>);

/// One life of the page, from one load to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page(u64);

#[derive(Debug, Default)]
struct Open {
    page: u64,
    last: u64,
    streams: BTreeMap<u64, CancellationToken>,
}

impl Subscriptions {
    /// The page that asks now.
    pub(super) fn page(&self) -> Page {
        Page(self.open().page)
    }

    /// Hands over what a stream brings, and `None` at its end, until the page stops it or `tell` says
    /// that nobody hears. Returns the number to stop it by.
    ///
    /// # Errors
    /// When there are too many, or that page is gone.
    pub(super) fn begin(
        &self,
        page: Page,
        stream: impl Stream<Item = String> + Send + 'static,
        tell: Tell,
    ) -> Result<u64, Answer> {
        let stop = CancellationToken::new();
        let id = self.add(page, stop.clone())?;
        let open = self.clone();
        tauri::async_runtime::spawn(async move {
            let mut stream = pin!(stream.take_until(stop.clone().cancelled_owned()));
            while let Some(piece) = stream.next().await {
                let is_heard = tokio::select! {
                    is_heard = tell(Some(piece)) => is_heard,
                    () = stop.cancelled() => false,
                };
                if !is_heard {
                    break;
                }
            }
            open.end(id);
            // Nobody waits for what comes after the end.
            drop(tell(None));
        });
        Ok(id)
    }

    fn add(&self, page: Page, stop: CancellationToken) -> Result<u64, Answer> {
        let mut open = self.open();
        if open.page != page.0 || open.streams.len() >= LIMIT {
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

    /// Stops all, since a new page is loaded: what the last one asked for and was not answered yet
    /// begins no more.
    pub(super) fn end_all(&self) {
        let mut open = self.open();
        open.page += 1;
        for stop in std::mem::take(&mut open.streams).into_values() {
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
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::mpsc;

    /// What is told arrives here; the page takes nothing more than fits.
    fn told(room: usize) -> (Tell, mpsc::Receiver<Option<String>>) {
        let (sender, receiver) = mpsc::channel(room);
        let tell = move |piece: Option<String>| -> BoxFuture<'static, bool> {
            let sender = sender.clone();
            // The end is told without being waited for, as the real page is.
            if piece.is_none() {
                let _ = sender.try_send(None);
                return Box::pin(std::future::ready(true));
            }
            Box::pin(async move { sender.send(piece).await.is_ok() })
        };
        (Box::new(tell), receiver)
    }

    #[tokio::test]
    async fn a_stream_is_told_in_order_to_its_end_and_no_faster_than_it_is_heard() {
        let subscriptions = Subscriptions::default();
        let (tell, mut told) = told(1000);
        let taken = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&taken);
        let pieces = stream::iter(0..999).map(move |number| {
            counts.fetch_add(1, Ordering::Relaxed);
            number.to_string()
        });
        subscriptions.begin(subscriptions.page(), pieces, tell).ok().unwrap();
        for number in 0..999 {
            assert_eq!(told.recv().await, Some(Some(number.to_string())));
        }
        assert_eq!(told.recv().await, Some(None));
        assert_eq!(told.recv().await, None, "nothing comes after the end");
        assert!(subscriptions.open().streams.is_empty());

        let (tell, mut told) = self::told(1);
        let counts = Arc::clone(&taken);
        taken.store(0, Ordering::Relaxed);
        let endless = stream::repeat(()).map(move |()| {
            counts.fetch_add(1, Ordering::Relaxed);
            String::new()
        });
        let id = subscriptions.begin(subscriptions.page(), endless, tell).ok().unwrap();
        told.recv().await.unwrap();
        subscriptions.end(id);
        assert!(taken.load(Ordering::Relaxed) <= 4, "it was taken without being heard");
    }

    #[tokio::test]
    async fn a_page_stops_one_or_all() {
        let subscriptions = Subscriptions::default();
        let (first, mut first_told) = told(1);
        let (second, mut second_told) = told(1);
        let page = subscriptions.page();
        let id = subscriptions.begin(page, stream::pending(), first).ok().unwrap();
        subscriptions.begin(page, stream::pending(), second).ok().unwrap();
        subscriptions.end(id);
        assert_eq!(first_told.recv().await, Some(None));
        assert_eq!(subscriptions.open().streams.len(), 1);
        subscriptions.end_all();
        assert_eq!(second_told.recv().await, Some(None));
        subscriptions.end(id);
        // What the last page asked for begins no more.
        assert!(subscriptions.begin(page, stream::pending(), told(1).0).is_err());
    }

    #[tokio::test]
    async fn there_are_not_too_many() {
        let subscriptions = Subscriptions::default();
        let page = subscriptions.page();
        for _ in 0..LIMIT {
            subscriptions.begin(page, stream::pending(), told(1).0).ok().unwrap();
        }
        let refusal = subscriptions.begin(page, stream::pending(), told(1).0).unwrap_err();
        assert_eq!(refusal.status, 429);
    }
}
