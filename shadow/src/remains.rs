//! What is left at a place and is nobody's: its end, and whom it holds up until then.
//!
//! There is one pass at a time, in which everything is ended at the same time and within one bound.
//! What is to be made waits only where something of its own service is left that nobody has tried to end,
//! or there is much of it, or nobody has looked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foreshadow_control::ServiceName;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::error::ProviderError;

/// How long a start waits for a place, for each of its two questions: a balancer that serves is worth
/// more than one that waits for its provider.
pub(crate) const AT_START: Duration = Duration::from_secs(3);
/// What is left of one service and was tried to be ended, and yet keeps nothing more of it from being
/// made: a node that is away is no reason to be without shadows. More than that would pile up.
const TOLERATED: usize = 4;
/// Things being ended at the same time: what hangs must leave room for the steps of instances.
const AT_ONCE: usize = 4;

/// What is left at one place, by what it is ended with.
pub(crate) struct Remains<K> {
    left: watch::Sender<Left<K>>,
    /// Held over a pass.
    turn: tokio::sync::Mutex<()>,
}

struct Left<K> {
    /// Why nobody knows what is there; absent once that was seen.
    unseen: Option<String>,
    doomed: BTreeMap<K, Doomed>,
    /// Passes begun so far, and those in a row that came to nothing or left something.
    begun: u64,
    failures: u32,
}

struct Doomed {
    /// Its service; absent where nobody knows, so that it may be of any.
    whose: Option<String>,
    /// Why it is still there.
    why: String,
    tries: u32,
}

impl<K> Left<K> {
    /// What keeps an instance of that service, or of any, from being made.
    fn holds(&self, of: Option<&ServiceName>) -> Option<&str> {
        if let Some(unseen) = &self.unseen {
            return Some(unseen);
        }
        let its = |one: &&Doomed| match (&one.whose, of) {
            (Some(whose), Some(of)) => whose == of.as_str(),
            _ => true,
        };
        let mut its = self.doomed.values().filter(its);
        if of.is_none() {
            return its.next().map(|one| one.why.as_str());
        }
        let mut tried = 0;
        its.find(|one| {
            tried += usize::from(one.tries > 0);
            one.tries == 0 || tried > TOLERATED
        })
        .map(|one| one.why.as_str())
    }
}

impl<K> Default for Remains<K> {
    /// Nothing is left as far as anybody knows.
    fn default() -> Self {
        let left = Left { unseen: None, doomed: BTreeMap::new(), begun: 0, failures: 0 };
        Self { left: watch::channel(left).0, turn: tokio::sync::Mutex::default() }
    }
}

impl<K: Ord + Clone + Send + Sync> Remains<K> {
    /// Nobody knows yet what is there.
    pub(crate) fn unseen() -> Self {
        let remains = Self::default();
        remains.forget();
        remains
    }

    fn forget(&self) {
        self.left.send_modify(|left| left.unseen = Some("nobody has looked there yet".to_owned()));
    }

    /// Takes an order to clean up, which `note` notes: nobody knows from now on what is there.
    pub(crate) async fn order(&self, note: impl FnOnce()) {
        let _turn = self.turn.lock().await;
        note();
        self.forget();
    }

    /// Whether what is there was seen, and nothing of it is to be ended any more.
    pub(crate) fn is_clear(&self) -> bool {
        self.left.borrow().holds(None).is_none()
    }

    /// Notes something that could not be ended.
    pub(crate) fn add(&self, what: K, of: &ServiceName, why: &ProviderError) {
        let (whose, why) = (Some(of.as_str().to_owned()), why.to_string());
        self.left.send_modify(|left| {
            left.doomed.insert(what, Doomed { whose, why, tries: 0 });
        });
    }

    /// Resolves once that is no longer to be ended.
    pub(crate) async fn gone(&self, what: &K) {
        let mut left = self.left.subscribe();
        // It cannot be closed while this borrows it.
        drop(left.wait_for(|left| !left.doomed.contains_key(what)).await);
    }

    /// Notes what was seen to be nobody's, with its service: what is to be made for others need not
    /// wait for its end.
    pub(crate) fn found(&self, what: impl IntoIterator<Item = (K, Option<String>)>) {
        self.left.send_modify(|left| {
            left.unseen = None;
            for (key, whose) in what {
                let why = "its turn to be ended has not come yet".to_owned();
                left.doomed.entry(key).or_insert(Doomed { whose, why, tries: 0 });
            }
        });
    }

    /// Lets an instance of that service be made: at once where nothing is left of it, else after a
    /// pass. One pass is for all who waited when it began. Returns how many things were ended that
    /// ran, by the word of `pass`.
    pub(crate) async fn clear(
        &self,
        of: Option<&ServiceName>,
        pass: impl Future<Output = Result<usize, ProviderError>> + Send,
    ) -> Result<usize, ProviderError> {
        let mut left = self.left.subscribe();
        let begun = left.borrow().begun;
        let _turn = tokio::select! {
            biased;
            _ = left.wait_for(|left| left.holds(of).is_none()) => return Ok(0),
            turn = self.turn.lock() => turn,
        };
        if left.borrow().begun > begun {
            return self.outcome(of).map(|()| 0);
        }
        let ended = self.pass(pass).await?;
        self.outcome(of).map(|()| ended)
    }

    /// Makes a pass unless one is under way.
    pub(crate) async fn look(
        &self,
        pass: impl Future<Output = Result<usize, ProviderError>> + Send,
    ) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        if let Err(error) = self.pass(pass).await {
            tracing::debug!(%error, "a look came to nothing");
        }
    }

    fn outcome(&self, of: Option<&ServiceName>) -> Result<(), ProviderError> {
        let left = self.left.borrow();
        left.holds(of).map_or(Ok(()), |why| Err(ProviderError::Other(why.to_owned())))
    }

    async fn pass(
        &self,
        pass: impl Future<Output = Result<usize, ProviderError>> + Send,
    ) -> Result<usize, ProviderError> {
        self.left.send_modify(|left| left.begun += 1);
        let done = pass.await;
        let mut told = None;
        self.left.send_modify(|left| {
            if let (Some(unseen), Err(error)) = (&mut left.unseen, &done) {
                *unseen = error.to_string();
            }
            match left.holds(None).map(str::to_owned) {
                None if left.failures > 0 => {
                    told = Some((None, std::mem::take(&mut left.failures)))
                }
                None => {}
                Some(why) => {
                    left.failures = left.failures.saturating_add(1);
                    told = left.failures.is_power_of_two().then_some((Some(why), left.failures));
                }
            }
        });
        match told {
            Some((Some(error), failures)) => {
                tracing::warn!(error, failures, "what was left behind cannot be seen or ended yet");
            }
            Some((None, _)) => tracing::info!("what was left behind has been cleaned up"),
            None => {}
        }
        done
    }

    /// Ends what was found and is `wanted`, what was tried less often first; what has not come about
    /// within `bound` is left to a later pass. Returns what has.
    pub(crate) async fn end<F>(
        &self,
        bound: Duration,
        wanted: impl Fn(&K) -> bool,
        end: impl Fn(K) -> F,
    ) -> BTreeSet<K>
    where
        F: Future<Output = Result<(), ProviderError>> + Send,
    {
        let mut keys: Vec<(u32, K)> = {
            let left = self.left.borrow();
            let all = left.doomed.iter().filter(|(key, _)| wanted(key));
            all.map(|(key, one)| (one.tries, key.clone())).collect()
        };
        keys.sort_unstable();
        let turns = Semaphore::new(AT_ONCE);
        let ended = Mutex::new(BTreeSet::new());
        let all: FuturesUnordered<_> = keys
            .into_iter()
            .map(|(_, key)| {
                let (ending, turns, ended) = (end(key.clone()), &turns, &ended);
                async move {
                    let _one_of_few = turns.acquire().await;
                    self.tried(&key, format!("its end took longer than {} ms", bound.as_millis()));
                    match ending.await {
                        Err(error) => self.why(&key, error.to_string()),
                        Ok(()) => {
                            self.left.send_modify(|left| drop(left.doomed.remove(&key)));
                            ended.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
                        }
                    }
                }
            })
            .collect();
        // What is late says so itself.
        drop(timeout(bound, all.collect::<()>()).await);
        ended.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn tried(&self, key: &K, why: String) {
        self.left.send_modify(|left| {
            if let Some(one) = left.doomed.get_mut(key) {
                one.tries = one.tries.saturating_add(1);
                one.why = why;
            }
        });
    }

    fn why(&self, key: &K, why: String) {
        self.left.send_modify(|left| {
            if let Some(one) = left.doomed.get_mut(key) {
                one.why = why;
            }
        });
    }
}

/// Cleans up at a start, which does not wait long for it; nothing where it was put off. It goes on in a
/// task of its own, since what is under way is not to be broken off.
pub(crate) async fn at_start(
    provider: &'static str,
    patience: Duration,
    clean: impl Future<Output = Result<usize, ProviderError>> + Send + 'static,
) -> Option<usize> {
    let why = match timeout(patience, tokio::spawn(clean)).await {
        Ok(Ok(Ok(ended))) => return Some(ended),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long to be waited for".to_owned(),
    };
    tracing::error!(
        provider,
        error = why,
        "what earlier runs left behind cannot be seen or ended yet; nothing new is made there before it \
         is seen, nor of the same service before its end was tried"
    );
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_pass_is_for_all_who_waited_when_it_began() {
        let remains = Arc::new(Remains::<u32>::default());
        remains.order(|| {}).await;
        let (passes, begun) = (Arc::new(AtomicU32::new(0)), tokio::time::Instant::now());
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..9 {
            let (remains, passes) = (Arc::clone(&remains), Arc::clone(&passes));
            waiting.spawn(async move {
                let pass = async {
                    passes.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    Err(ProviderError::Other("it does not answer".to_owned()))
                };
                remains.clear(Some(&ServiceName::from("shop")), pass).await.unwrap_err().to_string()
            });
        }
        let told = waiting.join_all().await;
        assert!(told.iter().all(|error| error == "it does not answer"), "{told:?}");
        assert_eq!(passes.load(Ordering::Relaxed), 2, "the first one, and one for those after it");
        assert!(begun.elapsed() < Duration::from_secs(61));
    }

    /// A pass in which nothing can be ended.
    async fn pass(remains: &Remains<usize>) -> Result<usize, ProviderError> {
        let away = |_| async { Err(ProviderError::Other("its node is away".to_owned())) };
        Ok(remains.end(AT_START, |_| true, away).await.len())
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_ended_holds_up_its_service_only_once_there_is_much_of_it() {
        let (remains, shop) = (Remains::<usize>::default(), ServiceName::from("shop"));
        let why = ProviderError::Other("its node is away".to_owned());
        for key in 0..TOLERATED {
            remains.add(key, &shop, &why);
            remains.clear(Some(&shop), pass(&remains)).await.expect("it is made all the same");
            assert!(!remains.is_clear(), "it is still to be ended");
        }
        remains.add(TOLERATED, &shop, &why);
        let error = remains.clear(Some(&shop), pass(&remains)).await.unwrap_err();
        assert_eq!(error.to_string(), "its node is away");
        remains.clear(Some(&ServiceName::from("other")), pass(&remains)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_keeps_the_rest_from_its_end_for_one_pass_at_most() {
        let remains = Remains::<u32>::default();
        remains.found((0..9).map(|key| (key, None)));
        let end = |key| async move { if key < 6 { std::future::pending().await } else { Ok(()) } };
        let bound = Duration::from_secs(30);
        let begun = tokio::time::Instant::now();
        let first = remains.end(bound, |_| true, end).await;
        let second = remains.end(bound, |_| true, end).await;
        assert!(first.is_empty() && second == (6..9).collect(), "{first:?} {second:?}");
        assert_eq!(begun.elapsed(), 2 * bound);
        assert!(remains.outcome(None).unwrap_err().to_string().contains("longer than 30000 ms"));
    }
}
