//! Questions of many tasks that are answered together. A statement costs more to hand over to SQLite than
//! to run, and a transaction costs a write to the disk: so whoever asks first asks for all who ask
//! meanwhile. Alone, nobody waits for anybody, but for a moment after a crowd.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{
    Mutex as Turn,
    oneshot::{self, error::TryRecvError},
};

/// Questions that are answered at once, at most: what one answer takes, such as a transaction, others wait for,
/// and when one question spoils it each of them is asked alone.
const AT_ONCE: usize = 500;

/// Where so many were answered at once, as many more are on their way, and it is worth to wait for them.
const A_CROWD: usize = 4;
/// How long a crowd is waited for.
const GATHER_FOR: Duration = Duration::from_millis(10);

/// Questions that wait, each with the way back.
type Waiting<Q, A> = Vec<(Q, oneshot::Sender<A>)>;

/// Where the questions of one kind meet.
#[derive(Debug)]
pub struct Together<Q, A> {
    waiting: Mutex<Waiting<Q, A>>,
    turn: Turn<()>,
    /// How many were answered at once the last time.
    last: AtomicUsize,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Turn::default(), last: AtomicUsize::new(1) }
    }
}

impl<Q: Clone, A> Together<Q, A> {
    /// Asks, in this task or in that of somebody who asks at the same time. `answer` gives an answer to
    /// each question, in their order; without one it is `None`. When it fails for several, each is asked
    /// alone: one that cannot be answered must not stand in the way of the others.
    ///
    /// # Errors
    /// When it fails for this question.
    pub async fn ask<E, F>(&self, question: Q, answer: impl Fn(Vec<Q>) -> F) -> Result<Option<A>, E>
    where
        F: Future<Output = Result<Vec<A>, E>>,
    {
        let (sender, mut answered) = oneshot::channel();
        self.lock().push((question.clone(), sender));
        loop {
            tokio::select! {
                biased;
                answered = &mut answered => match answered {
                    Ok(answer) => return Ok(Some(answer)),
                    // Whoever asked for all has failed or gone away.
                    Err(_) => break,
                },
                turn = self.turn.lock() => {
                    self.gather().await;
                    let waiting = self.next();
                    self.last.store(waiting.len(), Ordering::Relaxed);
                    let is_alone = waiting.len() == 1;
                    let asked = answer_all(waiting, &answer).await;
                    drop(turn);
                    match (answered.try_recv(), asked) {
                        (Ok(answer), _) => return Ok(Some(answer)),
                        // So many came before that this one waits still.
                        (Err(TryRecvError::Empty), _) => {}
                        (Err(TryRecvError::Closed), Err(error)) if is_alone => return Err(error),
                        (Err(TryRecvError::Closed), _) => break,
                    }
                }
            }
        }
        Ok(Box::pin(answer(vec![question])).await?.pop())
    }

    /// Gives others turns for as long as more of them ask, and a crowd a moment more.
    async fn gather(&self) {
        if self.last.load(Ordering::Relaxed) >= A_CROWD {
            tokio::time::sleep(GATHER_FOR).await;
        }
        let mut before = 0;
        loop {
            tokio::task::yield_now().await;
            let now = self.lock().len();
            if now <= before || now >= AT_ONCE {
                return;
            }
            before = now;
        }
    }

    /// Those who came first.
    fn next(&self) -> Waiting<Q, A> {
        let mut waiting = self.lock();
        let count = waiting.len().min(AT_ONCE);
        waiting.drain(..count).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting<Q, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer_all<Q, A, E, F>(
    waiting: Waiting<Q, A>,
    answer: &impl Fn(Vec<Q>) -> F,
) -> Result<(), E>
where
    F: Future<Output = Result<Vec<A>, E>>,
{
    if waiting.is_empty() {
        return Ok(());
    }
    let (questions, senders): (Vec<Q>, Vec<_>) = waiting.into_iter().unzip();
    // Those who wait for somebody else's answer need no room to find one.
    let answers = Box::pin(answer(questions)).await?;
    for (sender, answer) in senders.into_iter().zip(answers) {
        // Who has gone away meanwhile does not want to know.
        let _ = sender.send(answer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, future::join_all};
    use std::cell::RefCell;

    /// What was asked at once, each time.
    type Calls = RefCell<Vec<Vec<u32>>>;

    async fn double(calls: &Calls, questions: Vec<u32>) -> Result<Vec<u32>, &'static str> {
        calls.borrow_mut().push(questions.clone());
        tokio::task::yield_now().await;
        if questions.contains(&13) {
            return Err("unlucky");
        }
        Ok(questions.iter().map(|n| n * 2).collect())
    }

    #[tokio::test]
    async fn those_who_ask_at_once_are_answered_at_once_each_with_its_own_answer() {
        let (together, calls) = (Together::default(), Calls::default());
        assert_eq!(together.ask(1, |all| double(&calls, all)).await, Ok(Some(2)));
        let answers = join_all((0..50).map(|n| together.ask(n, |all| double(&calls, all)))).await;
        for (n, answer) in (0..50).zip(answers) {
            if n == 13 {
                assert_eq!(answer, Err("unlucky"));
            } else {
                assert_eq!(answer, Ok(Some(n * 2)), "one that fails takes nobody with it");
            }
        }
        let calls = calls.into_inner();
        assert_eq!(calls[..2], [vec![1], (0..50).collect()]);
        assert!(calls[2..].iter().all(|alone| alone.len() == 1));
        assert_eq!(calls.len(), 52, "who is alone is not asked twice");
    }

    #[tokio::test]
    async fn no_more_than_a_bound_are_answered_at_once_and_each_still_once() {
        let (together, calls) = (Together::default(), Calls::default());
        let answers =
            join_all((100..1_300).map(|n| together.ask(n, |all| double(&calls, all)))).await;
        for (n, answer) in (100..1_300).zip(answers) {
            assert_eq!(answer, Ok(Some(n * 2)));
        }
        let calls = calls.into_inner();
        assert!(calls.iter().all(|call| call.len() <= AT_ONCE));
        let asked: Vec<u32> = calls.into_iter().flatten().collect();
        assert_eq!(asked, (100..1_300).collect::<Vec<u32>>(), "in the order that they came");
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_crowd_was_answered_who_comes_next_waits_for_others() {
        let (together, calls) = (Together::default(), Calls::default());
        let ask = |n| together.ask(n, |all| double(&calls, all));
        let later = |n| async move {
            tokio::time::sleep(GATHER_FOR / 2).await;
            ask(n).await
        };
        join_all((0..4).map(ask)).await;
        // Two that are no crowd do not keep a third waiting.
        assert_eq!(tokio::join!(ask(10), later(11)), (Ok(Some(20)), Ok(Some(22))));
        assert_eq!(tokio::join!(ask(20), later(21)), (Ok(Some(40)), Ok(Some(42))));
        let calls = calls.into_inner();
        assert_eq!(calls, [vec![0, 1, 2, 3], vec![10, 11], vec![20], vec![21]]);
    }

    #[tokio::test]
    async fn who_asked_for_others_and_goes_away_leaves_them_an_answer() {
        let (together, calls) = (Together::default(), Calls::default());
        let ask = |n| Box::pin(together.ask(n, |all| double(&calls, all)));
        let (mut first, mut second) = (ask(1), ask(2));
        // The first takes both questions, and goes before they are answered.
        assert_eq!(first.as_mut().now_or_never(), None);
        assert_eq!(second.as_mut().now_or_never(), None);
        while calls.borrow().is_empty() {
            assert_eq!(first.as_mut().now_or_never(), None);
        }
        assert_eq!(*calls.borrow(), [vec![1, 2]]);
        drop(first);
        assert_eq!(second.await, Ok(Some(4)));
        assert_eq!(ask(3).await, Ok(Some(6)));
    }
}
