//! Alerts told to an endpoint: one POST when one begins, one when it ends.
//!
//! The loop puts them into a bounded queue and waits for nothing; a task sends them, the oldest first, tries again with
//! growing pauses, and gives one up after a time. One that is not taken waits alone (`lane`). What found no room, or
//! was given up, is counted.

mod lane;
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

use lane::{Lane, Waiting};

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
                    "an alert was not told to its endpoint: it comes with too many others"
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
pub(super) fn start(shared: &Arc<Shared>, inbox: mpsc::Receiver<News>) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let webhook = || shared.config.load().alerts.webhook.clone();
        run(&shared.alerting.counts, inbox, webhook).await;
    });
}

/// Sends what comes in, until nobody puts in any more and all of it is told or given up. The endpoint is looked
/// up before each try, since a reload may be the cure; without one there is nobody to tell.
async fn run(
    counts: &Counts,
    mut inbox: mpsc::Receiver<News>,
    webhook: impl Fn() -> Option<AlertWebhook>,
) {
    let mut lane = Lane::new(QUEUE);
    let mut is_open = true;
    while is_open || !lane.is_empty() {
        let due = lane.due();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            news = inbox.recv(), if is_open => {
                match news {
                    Some(news) => queue(counts, &mut lane, news),
                    None => is_open = false,
                }
                continue;
            }
            () = wait => {}
        }
        let Some(waiting) = lane.take(Instant::now()) else { continue };
        let Some(to) = webhook() else { continue };
        let Some(body) = written(&waiting.news) else { continue };
        let posting = post::post(&to, body);
        tokio::pin!(posting);
        let answer = loop {
            tokio::select! {
                answer = &mut posting => break answer,
                news = inbox.recv(), if is_open => match news {
                    Some(news) => queue(counts, &mut lane, news),
                    None => is_open = false,
                },
            }
        };
        judge(counts, &mut lane, waiting, &to, answer);
    }
}

fn queue(counts: &Counts, lane: &mut Lane, news: News) {
    if let Some(oldest) = lane.push(news, Instant::now()) {
        counts.dropped.fetch_add(1, Ordering::Relaxed);
        let alert = oldest.id;
        tracing::warn!(alert, "an alert was not told to its endpoint: {QUEUE} newer ones wait");
    }
}

fn written(news: &News) -> Option<Vec<u8>> {
    serde_json::to_vec(news)
        .inspect_err(|error| {
            tracing::error!(%error, "an alert has no form in json; please report this");
        })
        .ok()
}

/// What a try came to. What one alert says is no reason to keep another waiting.
fn judge(
    counts: &Counts,
    lane: &mut Lane,
    waiting: Waiting,
    to: &AlertWebhook,
    answer: anyhow::Result<()>,
) {
    let Err(error) = answer else {
        counts.sent.fetch_add(1, Ordering::Relaxed);
        lane.answered();
        return;
    };
    counts.failed_tries.fetch_add(1, Ordering::Relaxed);
    let url = crate::secrets::cover(&to.url.to_string()).into_owned();
    let (is_refused, is_answer) = (error.is::<post::Refused>(), error.is::<post::Later>());
    if is_refused || is_answer {
        lane.answered();
    }
    let (alert, since) = (waiting.news.id.clone(), waiting.since);
    if !is_refused {
        let pause = lane.failed(waiting, !is_answer, Instant::now());
        if since.elapsed() + pause < to.give_up {
            tracing::warn!(%url, %error, alert, next = ?pause, "an alert was not told yet");
            return;
        }
        lane.forget(&alert, since);
    }
    counts.dropped.fetch_add(1, Ordering::Relaxed);
    let after = since.elapsed();
    tracing::error!(%url, %error, alert, ?after, "an alert was not told: given up");
}

#[cfg(test)]
mod tests;
