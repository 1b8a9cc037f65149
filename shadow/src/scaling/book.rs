//! What is known of one service's primaries by its scaler: who joined, who leaves, who is gone.

use std::net::SocketAddr;
use std::time::Duration;

use foreshadow_control::InstanceId;
use tokio::time::Instant;

use super::rows::Row;
use super::turnover::Turnover;
use super::{Primaries, ScaleEvent, ScaledPrimary, ScaledService, ServiceScaling};
use crate::backoff::{Backoff, BackoffPolicy};
use crate::error::ShadowError;
use crate::registry::Registry;

/// A primary that is neither ready nor leaving in so many good answers in a row is gone.
const MISSED: u32 = 2;
/// An answer that takes away most of those that serve is believed once answers have said so for this long.
pub(super) const DOUBT: Duration = Duration::from_secs(30);
/// Pauses after failures.
const PAUSES: BackoffPolicy = BackoffPolicy {
    base: Duration::from_secs(1),
    max: Duration::from_secs(60),
    stable_after: Duration::ZERO,
};

pub(super) struct Book {
    scaler: &'static str,
    pub(super) wanted: Option<u32>,
    pub(super) asked: Option<u32>,
    pub(super) original: Option<u32>,
    /// Written down to be asked for.
    pub(super) intent: Option<u32>,
    /// Being asked for, or to be asked for again.
    pub(super) asking: Option<u32>,
    all: Vec<Known>,
    configured: Vec<SocketAddr>,
    answered: Option<Instant>,
    doubted: Option<Doubted>,
    /// How many an earlier run knew to be wanted.
    wanted_before: Option<u32>,
    /// What became of orders, and of looks: an order that is refused must not keep from looking.
    orders: Failing,
    looks: Failing,
    origin: Instant,
    calls: (u64, u64),
    turnover: Turnover,
}

/// An answer that takes away most of those that serve, and all that say so since.
#[derive(Clone, Copy)]
struct Doubted {
    since: Instant,
    /// How many were ready, and wanted, before.
    ready: usize,
    wanted: Option<u32>,
}

/// Failures in a row, and what the last one was.
#[derive(Default)]
struct Failing {
    trouble: Option<String>,
    backoff: Backoff,
}

impl Failing {
    /// How many there were, where it was one until now.
    fn over(&mut self) -> Option<u32> {
        let failures = self.backoff.failures();
        self.backoff.succeeded();
        self.trouble.take().map(|_| failures.max(1))
    }
}

struct Known {
    id: InstanceId,
    address: SocketAddr,
    ready: bool,
    leaving: bool,
    /// Not listed any longer, which is not believed yet.
    unlisted: bool,
    missed: u32,
    joined: Option<Instant>,
}

impl Known {
    fn new(id: InstanceId, address: SocketAddr, joined: Option<Instant>) -> Self {
        Self { id, address, ready: false, leaving: false, unlisted: false, missed: 0, joined }
    }
}

impl Book {
    /// What an earlier run knew: its primaries serve at once, and none of them is new.
    pub(super) async fn of(
        row: Row,
        settings: &ServiceScaling,
        registry: &Registry,
    ) -> Result<Self, ShadowError> {
        let mut all = Vec::new();
        for address in row.addresses {
            let id = registry.found_id(settings.service.clone(), address).await?;
            all.push(Known { ready: true, ..Known::new(id, address, None) });
        }
        all.sort_by_key(|known| known.id);
        Ok(Self {
            scaler: settings.scaler.name(),
            wanted: None,
            asked: row.asked,
            original: row.original,
            intent: row.intent,
            asking: None,
            all,
            configured: Vec::new(),
            answered: None,
            doubted: None,
            wanted_before: row.wanted,
            orders: Failing::default(),
            looks: Failing::default(),
            origin: Instant::now(),
            calls: (0, 0),
            turnover: Turnover::default(),
        })
    }

    pub(super) fn configure(&mut self, settings: &ServiceScaling) {
        self.scaler = settings.scaler.name();
        self.configured.clone_from(&settings.configured);
    }

    pub(super) fn row(&self) -> Row {
        Row {
            asked: self.asked,
            original: self.original,
            intent: self.intent,
            wanted: self.wanted,
            addresses: self.addresses(),
        }
    }

    /// Every address that is known.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|known| known.address).collect()
    }

    /// Addresses that have no id here yet.
    pub(super) fn unknown(&self, answer: &Primaries) -> Vec<SocketAddr> {
        let all = answer.ready.iter().chain(&answer.leaving);
        let mut new: Vec<SocketAddr> =
            all.filter(|a| self.all.iter().all(|known| known.address != **a)).copied().collect();
        new.sort_unstable();
        new.dedup();
        new
    }

    /// Takes a good answer, to an order or a look, with the ids of what was unknown. Returns what it
    /// tells, and whether who is there has changed.
    pub(super) fn take(
        &mut self,
        answer: &Primaries,
        to_order: bool,
        ids: &[(SocketAddr, InstanceId)],
    ) -> (Vec<ScaleEvent>, bool) {
        if let Some(doubt) = self.doubt(answer) {
            return self.keep(answer.wanted, to_order, doubt);
        }
        let (mut events, doubt) = self.judge(answer, to_order);
        // Whoever is there when it is looked for the first time has been there before.
        let is_first = self.answered.is_none();
        self.answered = Some(Instant::now());
        self.calls.0 += 1;
        let count = self.all.len();
        for (address, id) in ids {
            let joined = (!is_first).then(Instant::now);
            self.all.push(Known::new(*id, *address, joined));
            events.push(ScaleEvent::Joined(*id, *address));
        }
        for known in &mut self.all {
            let was_leaving = known.leaving;
            known.leaving = answer.leaving.contains(&known.address);
            let listed = answer.ready.contains(&known.address) || known.leaving;
            known.unlisted = !listed && known.ready && doubt;
            known.ready = (listed || known.unlisted) && !known.leaving;
            // One that was named as leaving and is not any more has left.
            known.missed = match (listed || known.unlisted, was_leaving) {
                (true, _) => 0,
                (false, true) => MISSED,
                (false, false) => known.missed.saturating_add(1),
            };
        }
        let gone = self.all.iter().filter(|known| known.missed >= MISSED);
        events.extend(gone.map(|known| ScaleEvent::Left(known.id, known.address)));
        self.all.retain(|known| known.missed < MISSED);
        self.all.sort_by_key(|known| known.id);
        let changed = !ids.is_empty() || self.all.len() != count;
        let changed = changed || self.wanted != Some(answer.wanted);
        self.wanted = Some(answer.wanted);
        (self.turnover.tell(events, self.origin.elapsed()), changed)
    }

    /// Takes what an answer means for failures; returns what it tells, and whether those whom it lists no longer
    /// are kept for now.
    fn judge(&mut self, answer: &Primaries, to_order: bool) -> (Vec<ScaleEvent>, bool) {
        let before = self.trouble().is_some();
        let unlisted = self.unlisted_text(answer);
        let looks = self.looks.over();
        let orders = if to_order { self.orders.over() } else { None };
        let mut events = Vec::new();
        if let Some(text) = unlisted {
            if !before {
                events.push(ScaleEvent::Failed { asked: None, error: text.clone() });
            }
            self.looks.trouble = Some(text);
            return (events, true);
        }
        let failures = looks.into_iter().chain(orders).max();
        if let Some(failures) = failures.filter(|_| self.orders.trouble.is_none()) {
            events.push(ScaleEvent::Recovered { failures });
        }
        (events, false)
    }

    /// Why those whom an answer does not list are kept: it takes away most of the ready ones at once, more than
    /// one, and no fewer are wanted than before. Nothing where it does not, or has done so for long.
    fn unlisted_text(&mut self, answer: &Primaries) -> Option<String> {
        let is_listed = |a: &SocketAddr| answer.ready.contains(a) || answer.leaving.contains(a);
        let ready = || self.all.iter().filter(|known| known.ready);
        let gone = ready().filter(|known| !is_listed(&known.address)).count();
        let of = ready().count();
        // Those that join meanwhile make it no better.
        let before = self.doubted.map_or(of, |doubted| doubted.ready);
        if gone <= 1 || 2 * gone <= before {
            self.doubted = None;
            return None;
        }
        let now = Instant::now();
        let wanted = self.wanted.or(self.wanted_before);
        let doubted = *self.doubted.get_or_insert(Doubted { since: now, ready: of, wanted });
        // It may have fallen an answer ago, and they go as it was asked.
        let wanted = answer.wanted as usize;
        let asked = wanted < doubted.ready && answer.ready.len() >= wanted;
        let fell = asked || doubted.wanted.is_some_and(|before| answer.wanted < before);
        let is_doubted = !fell && now.saturating_duration_since(doubted.since) < DOUBT;
        is_doubted.then(|| {
            format!(
                "its answer lists {gone} of {of} ready primaries no longer, though {} are wanted: they are \
                 kept, as far as they pass their health checks, until it has said so for {} s, and \
                 shadows stand in",
                answer.wanted,
                DOUBT.as_secs()
            )
        })
    }

    /// Why an answer is not believed as to who is there: it takes away all that serve, and says that some are
    /// wanted. Whether they answer the health checks know better.
    fn doubt(&self, answer: &Primaries) -> Option<String> {
        let known = self.all.len();
        (known > 0 && answer.ready.is_empty() && answer.wanted > 0).then(|| {
            format!(
                "it lists none of {} wanted as ready: the {known} known ones are kept, as far as they \
                 pass their health checks",
                answer.wanted
            )
        })
    }

    /// Takes the number alone.
    fn keep(&mut self, wanted: u32, to_order: bool, doubt: String) -> (Vec<ScaleEvent>, bool) {
        let mut events = Vec::new();
        if self.trouble().is_none() {
            events.push(ScaleEvent::Failed { asked: None, error: doubt.clone() });
        }
        if to_order {
            self.orders.over();
        }
        self.looks.over();
        self.looks.trouble = Some(doubt);
        self.all.iter_mut().for_each(|known| known.unlisted = known.ready);
        self.answered = Some(Instant::now());
        self.calls.0 += 1;
        let changed = self.wanted != Some(wanted);
        self.wanted = Some(wanted);
        (events, changed)
    }

    /// Notes a failure; returns the pause, and what to tell where it is the first in a row.
    pub(super) fn failed(
        &mut self,
        asked: Option<u32>,
        error: String,
    ) -> (Duration, Option<ScaleEvent>) {
        let now = self.origin.elapsed();
        self.calls = (self.calls.0 + 1, self.calls.1 + 1);
        let first = self.trouble().is_none();
        let of = if asked.is_some() { &mut self.orders } else { &mut self.looks };
        let pause = of.backoff.failed(&PAUSES, now, now, rand::random());
        of.trouble = Some(error.clone());
        (pause, first.then_some(ScaleEvent::Failed { asked, error }))
    }

    /// The order that failed is not wanted any more; a new one waits for its pause all the same.
    pub(super) fn withdraw(&mut self) {
        self.orders.trouble = None;
    }

    fn trouble(&self) -> Option<&String> {
        self.orders.trouble.as_ref().or(self.looks.trouble.as_ref())
    }

    /// Time until the next order may be given, and until it may be looked again.
    pub(super) fn pauses(&self) -> [Duration; 2] {
        let now = self.origin.elapsed();
        [self.orders.backoff.remaining(now), self.looks.backoff.remaining(now)]
    }

    pub(super) fn view(&self) -> ScaledService {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let primary = |known: &Known| ScaledPrimary {
            id: known.id,
            address: known.address,
            configured: self.configured.contains(&known.address),
            ready: known.ready,
            leaving: known.leaving,
            unlisted: known.unlisted,
            joined_ms: known.joined.map(|since| ms(since.elapsed())),
        };
        let failing = [&self.orders, &self.looks].into_iter().find(|f| f.trouble.is_some());
        ScaledService {
            scaler: self.scaler,
            wanted: self.wanted,
            asked: self.asked,
            original: self.original,
            asking: self.asking,
            primaries: self.all.iter().map(primary).collect(),
            answered_ms: self.answered.map(|at| ms(at.elapsed())),
            trouble: self.trouble().cloned(),
            failures: failing.map_or(0, |failing| failing.backoff.failures()),
            retry_in_ms: failing
                .map_or(0, |failing| ms(failing.backoff.remaining(self.origin.elapsed()))),
            calls: self.calls,
        }
    }
}
