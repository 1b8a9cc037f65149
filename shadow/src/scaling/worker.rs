//! The task of one service: asks for what is wished, looks at what there is, one call at a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::book::Book;
use super::{Primaries, ScaleEvent, ScaleWish, ServiceScaling, Shared, lock, rows};
use crate::error::{Cause, ProviderError};
use crate::provider::Handle;

/// Primaries of one service that are believed.
const MOST_PRIMARIES: usize = 1_000;
/// How often it is noted that those known are in use: ids of addresses that nobody uses are forgotten.
const NOTE: Duration = Duration::from_secs(24 * 3_600);

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) place: String,
    pub(super) book: Arc<Mutex<Book>>,
    pub(super) wishes: watch::Receiver<Option<ScaleWish>>,
    pub(super) settings: ServiceScaling,
}

impl Worker {
    /// Goes on until it is ended.
    pub(super) async fn run(mut self) {
        let mut done: Option<ScaleWish> = None;
        let mut look_at = Instant::now();
        let mut note_at = Instant::now();
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            let open = wish.clone().filter(|_| wish != done);
            if wish.is_none() {
                // One that is withdrawn and given again later is given anew.
                done = None;
            }
            let (known, [order_in, look_in]) = {
                let mut book = lock(&self.book);
                book.asking = open.as_ref().map(|wish| wish.primaries);
                if open.is_none() {
                    book.withdraw();
                }
                (book.wanted.is_some(), book.pauses())
            };
            let now = Instant::now();
            // What there is comes first: an order means nothing before it is known.
            let order_at = open.as_ref().filter(|_| known).map(|_| now + order_in);
            if let Some(wish) = open.filter(|_| order_at == Some(now)) {
                if self.ask(&wish).await {
                    done = Some(wish);
                    look_at = Instant::now() + self.settings.poll;
                }
                continue;
            }
            let look_next = look_at.max(now + look_in);
            if look_next <= now {
                self.look().await;
                if now >= note_at {
                    note_at = now + NOTE;
                    self.note_in_use().await;
                }
                look_at = Instant::now() + self.settings.poll;
                continue;
            }
            let next = order_at.map_or(look_next, |at| at.min(look_next));
            tokio::select! {
                changed = self.wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.settings.scaler.changed() => look_at = Instant::now(),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Looks at what there is.
    async fn look(&self) {
        match self.settings.scaler.look().await {
            Ok(answer) => {
                self.take(answer, None).await;
            }
            Err(error) => self.failed(None, &told(&error)),
        }
    }

    /// Notes that the ids of those known are in use.
    async fn note_in_use(&self) {
        let service = &self.settings.service;
        let known = lock(&self.book).addresses();
        for address in known {
            if let Err(error) = self.shared.registry.found_id(service.clone(), address).await {
                tracing::error!(%service, %address, %error, "an id that is in use may be forgotten");
            }
        }
    }

    /// Gives an order; whether it was taken.
    async fn ask(&self, wish: &ScaleWish) -> bool {
        let row = {
            let mut book = lock(&self.book);
            (book.intent, book.original) = (Some(wish.primaries), Some(wish.original));
            book.row()
        };
        if let Err(error) = self.write(row).await {
            let text = format!(
                "the order for {} primaries is not given, since it cannot be written down: {error}",
                wish.primaries
            );
            self.failed(Some(wish.primaries), &text);
            return false;
        }
        match self.settings.scaler.scale(wish.primaries).await {
            Ok(answer) => self.take(answer, Some(wish)).await,
            Err(error) => {
                self.failed(Some(wish.primaries), &told(&error));
                false
            }
        }
    }

    /// Takes an answer, to an order where there was one; whether it could be taken.
    async fn take(&self, answer: Primaries, wish: Option<&ScaleWish>) -> bool {
        let answer = canonical(answer);
        if let Err(text) = self.check(&answer).await {
            self.failed(wish.map(|wish| wish.primaries), &text);
            return false;
        }
        let service = &self.settings.service;
        let mut ids = Vec::new();
        let unknown = lock(&self.book).unknown(&answer);
        for address in unknown {
            match self.shared.registry.found_id(service.clone(), address).await {
                Ok(id) => ids.push((address, id)),
                Err(error) => {
                    self.failed(wish.map(|wish| wish.primaries), &error.to_string());
                    return false;
                }
            }
        }
        let (row, events) = {
            let mut book = lock(&self.book);
            let before = book.wanted;
            let (mut events, mut changed) = book.take(&answer, wish.is_some(), &ids);
            if let Some(wish) = wish {
                (book.asked, book.original) = (Some(wish.primaries), Some(wish.original));
                (book.intent, book.asking) = (None, None);
                let (asked, wanted) = (wish.primaries, answer.wanted);
                events.insert(0, ScaleEvent::Taken { before, asked, wanted });
                changed = true;
            } else if let Some(intent) = book.intent.filter(|_| book.asking.is_none()) {
                // An earlier run ended before it knew what became of its order.
                if answer.wanted == intent {
                    book.asked = Some(intent);
                }
                book.intent = None;
                changed = true;
            }
            (changed.then(|| book.row()), events)
        };
        events.into_iter().for_each(|event| self.shared.tell(service, event));
        if let Some(row) = row
            && let Err(error) = self.write(row).await
        {
            tracing::error!(%service, %error, "what is known of primaries may be lost by a restart");
        }
        true
    }

    async fn write(&self, row: rows::Row) -> Result<(), crate::error::ShadowError> {
        rows::write(&self.shared.registry, &self.settings.service, &self.place, row).await
    }

    /// What no primary can be is not taken for one, and nothing else of such an answer is either.
    ///
    /// # Errors
    /// What is wrong with it, as it is told.
    async fn check(&self, answer: &Primaries) -> Result<(), String> {
        let all = || answer.ready.iter().chain(&answer.leaving);
        let malformed = |came_back: String| {
            told(&ProviderError::Refused {
                cause: Cause::Malformed,
                asked: format!(
                    "the {} scaler for the primaries of {}",
                    self.settings.scaler.name(),
                    self.settings.service
                ),
                came_back,
            })
        };
        let count = all().count();
        if count > MOST_PRIMARIES {
            let most = format!("{count} primaries, and {MOST_PRIMARIES} are the most");
            return Err(malformed(most));
        }
        let unusable = |a: &&SocketAddr| a.port() == 0 || a.ip().is_unspecified();
        if let Some(address) = all().find(unusable) {
            return Err(malformed(format!("{address}, to which nobody can connect")));
        }
        let barred = all().find_map(|a| Some(format!("{a}, {}", (self.settings.barred)(*a)?)));
        if let Some(text) = barred {
            return Err(malformed(text));
        }
        let is_known = lock(&self.book).unknown(answer).is_empty();
        if is_known {
            return Ok(());
        }
        let rows = self.shared.registry.rows().await.map_err(|error| error.to_string())?;
        let handles: Vec<_> = rows.iter().filter_map(|row| row.handle.as_ref()).collect();
        let ours = |address: SocketAddr| {
            handles.iter().find(|handle| canonical_address(handle.address) == address)
        };
        let shadow = all().find_map(|address| Some((*address, ours(*address)?)));
        shadow.map_or(Ok(()), |(address, handle)| {
            let Handle { id, service, .. } = handle;
            let text = format!("{address}, where shadow {id} of {service} is, which is no primary");
            Err(malformed(text))
        })
    }

    fn failed(&self, asked: Option<u32>, error: &str) {
        let (pause, event) = lock(&self.book).failed(asked, error.to_owned());
        let service = &self.settings.service;
        let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        match event {
            Some(event) => {
                tracing::warn!(%service, retry_in_ms, "scaling primaries: {error}");
                self.shared.tell(service, event);
            }
            None => tracing::debug!(%service, retry_in_ms, "scaling primaries: {error}"),
        }
    }
}

/// What was asked, what came back and what can be done, in the words of scaling.
fn told(error: &ProviderError) -> String {
    let ProviderError::Refused { cause, asked, came_back } = error else {
        return error.to_string();
    };
    let next = match cause {
        Cause::Quota => {
            "raise the quota or lower `max` of `scaling`; it is asked again after pauses"
        }
        Cause::Missing => {
            "install it or correct `command` of `scaling`; it is run again after a pause"
        }
        Cause::Absent => {
            "make it there or correct `by` of `scaling`; it is asked again after a pause"
        }
        Cause::Malformed => {
            "correct what it answers, see docs/scaling.md; it is asked again after a pause"
        }
        Cause::Unsupported => {
            "let it do both steps, see docs/scaling.md; it is asked again after a pause"
        }
        other => other.next(),
    };
    format!("asked {asked}: {came_back}; {next}")
}

/// Each address as it is written shortest, so that no primary is two.
fn canonical(answer: Primaries) -> Primaries {
    let all = |list: Vec<SocketAddr>| list.into_iter().map(canonical_address).collect();
    Primaries { wanted: answer.wanted, ready: all(answer.ready), leaving: all(answer.leaving) }
}

fn canonical_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
