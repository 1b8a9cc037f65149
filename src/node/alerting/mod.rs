//! Alerts told to an endpoint: one POST when one begins, one when it ends.
//!
//! The loop puts them into a bounded queue and waits for nothing; a task sends them in order, tries again with
//! growing pauses, and gives one up after a time. What found no room, or was given up, is counted.

mod post;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foreshadow_config::AlertWebhook;
use foreshadow_control::AlertKind;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;

pub(super) use turns::{Turn, Turns};

/// News that may wait to be sent.
const QUEUE: usize = 256;
/// Pause after the first try that failed; each next is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What an endpoint is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct News {
    /// The same for the beginning and the end of one alert, and for every try to tell of it.
    id: String,
    alert: AlertKind,
    state: State,
    service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    text: String,
    /// When it began and when this was so, milliseconds since 1970.
    since_ms: u64,
    at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Begins,
    Ends,
}

/// The way from the loop to whoever is told.
pub(crate) struct Alerting {
    queue: mpsc::Sender<News>,
    counts: Counts,
}

/// What became of news since start.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed_tries: AtomicU64,
    dropped: AtomicU64,
}

/// [`Counts`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) sent: u64,
    pub(crate) failed_tries: u64,
    pub(crate) dropped: u64,
}

impl Alerting {
    /// The way, and its end for [`start`].
    pub(super) fn new() -> (Self, mpsc::Receiver<News>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        (Self { queue, counts: Counts::default() }, inbox)
    }

    /// Passes on what began and ended; never waits.
    pub(super) fn tell(&self, news: impl Iterator<Item = News>) {
        for news in news {
            if self.queue.try_send(news).is_err() {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "an alert was not told to its endpoint: too many wait for it already"
                );
            }
        }
    }

    pub(crate) fn told(&self) -> Told {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { sent, failed_tries, dropped } = &self.counts;
        Told { sent: count(sent), failed_tries: count(failed_tries), dropped: count(dropped) }
    }
}

/// Sends what comes, until the node is gone.
pub(super) fn start(shared: &Arc<Shared>, mut inbox: mpsc::Receiver<News>) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let webhook = || shared.config.load().alerts.webhook.clone();
        while let Some(news) = inbox.recv().await {
            send(&shared.alerting.counts, &news, webhook).await;
        }
    });
}

/// Tells of one thing, as often as it takes. The endpoint is looked up before each try, since a reload may
/// be the cure; without one there is nobody to tell.
async fn send(counts: &Counts, news: &News, webhook: impl Fn() -> Option<AlertWebhook>) {
    let body = match serde_json::to_vec(news) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an alert has no form in json; please report this");
            return;
        }
    };
    let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let Some(to) = webhook() else { return };
        let error = match post::post(&to, body.clone()).await {
            Ok(()) => {
                counts.sent.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => error,
        };
        counts.failed_tries.fetch_add(1, Ordering::Relaxed);
        let url = crate::secrets::cover(&to.url.to_string()).into_owned();
        // What one alert says is no reason to keep another waiting.
        let is_refused = error.is::<post::Refused>();
        if is_refused || start.elapsed() + pause >= to.give_up {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            let after = start.elapsed();
            tracing::error!(%url, %error, alert = news.id, ?after, "an alert was not told: given up");
            return;
        }
        tracing::warn!(%url, %error, alert = news.id, next = ?pause, "an alert was not told yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests;
