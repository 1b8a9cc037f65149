//! Announced events: what an operator says of demand to come, and how long it is believed.
//!
//! Before an event starts, every quantile of demand within its time counts `lift` times. Of
//! several events the largest lift counts, not the product: an event announced twice is commoner
//! than two that multiply. Once it runs, what was expected at its start is held until demand has
//! stayed below it for an evaluation window; then the measured demand has the last word. An event
//! that lowers demand changes nothing, since only measured demand takes capacity away.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::demand::Outlook;
use crate::{Announced, HorizonView};

/// A larger lift is a slip of the pen.
const MOST_LIFT: f64 = 100.0;
/// Events looked at ahead, those that start soonest; the others come up when these have started.
const MOST_UPCOMING: usize = 64;
/// Demand at this share of what is expected says that the event has come true.
const CAME_TRUE: f64 = 0.8;

/// What must be remembered of announced events between ticks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Announcements {
    /// When the next event starts, and the lower bound of demand then, without it.
    next: Option<(u64, f64)>,
    held: Option<Held>,
}

/// A level that is held since an event runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Held {
    /// Demand without the event.
    base_rps: f64,
    lift: f64,
    /// When demand was last as high as announced; its start, if never.
    reached_ms: u64,
}

/// Events as the laws may use them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Events {
    /// Those that have not started, soonest first; every lift is above 1.
    upcoming: Vec<Announced>,
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Running {
    base_rps: f64,
    lift: f64,
    /// Demand is as high as announced, or the event starts in this tick.
    came_true: bool,
}

/// The announced event that a demand is expected for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// It starts in so many milliseconds, with this lift.
    Upcoming(u64, f64),
    /// It runs with this lift over this demand.
    Running(f64, f64),
}

/// Demand that a step answers to, and the event it is due to, if it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) rps: f64,
    pub(crate) event: Option<Event>,
    /// How much chance is in it already, in standard deviations of what arrives in a second: see
    /// [`Asked::holding`].
    pub(crate) held: f64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upcoming(starts_in_ms, lift) => {
                let starts_in_s = *starts_in_ms as f64 / 1_000.0;
                write!(f, "announced event starts in {starts_in_s:.1} s with lift {lift:.1}")
            }
            Self::Running(lift, base_rps) => {
                write!(f, "announced event runs with lift {lift:.1} over {base_rps:.0} rps")
            }
        }
    }
}

impl Announcements {
    /// Takes what is announced in this tick and tells what of it the laws should count with.
    pub(crate) fn observe(
        &mut self,
        announced: &[Announced],
        outlook: &Outlook,
        now_ms: u64,
        window_ms: u64,
    ) -> Events {
        let running_lift = credible(announced)
            .filter(|event| event.starts_in_ms == 0)
            .map(|event| event.lift)
            .reduce(f64::max);
        let started = self.next.take().filter(|(starts_at_ms, _)| *starts_at_ms <= now_ms);
        self.held = running_lift.and_then(|lift| match (self.held, started) {
            // What is measured while an event runs is no base for the next.
            (Some(held), Some(_)) => Some(Held { lift, reached_ms: now_ms, ..held }),
            (None, Some((_, base_rps))) => Some(Held { base_rps, lift, reached_ms: now_ms }),
            (held, None) => held.map(|held| Held { lift: lift.min(held.lift), ..held }),
        });
        if let Some(held) = &mut self.held
            && outlook.now_rps >= CAME_TRUE * held.base_rps * held.lift
        {
            held.reached_ms = now_ms;
        }
        self.held.take_if(|held| now_ms.saturating_sub(held.reached_ms) >= window_ms);

        let mut upcoming: Vec<Announced> =
            credible(announced).filter(|event| event.starts_in_ms > 0).collect();
        upcoming.sort_by(|a, b| {
            let by_start = a.starts_in_ms.cmp(&b.starts_in_ms);
            by_start.then(b.lift.total_cmp(&a.lift)).then(b.ends_in_ms.cmp(&a.ends_in_ms))
        });
        upcoming.truncate(MOST_UPCOMING);
        self.next = upcoming.first().map(|event| {
            let base_rps = outlook.at(event.starts_in_ms, |h| h.lower_rps);
            (now_ms.saturating_add(event.starts_in_ms), base_rps)
        });
        let running = self.held.map(|held| Running {
            base_rps: held.base_rps,
            lift: held.lift,
            came_true: held.reached_ms == now_ms,
        });
        Events { upcoming, running }
    }
}

/// Events that ask for more, with a lift that can be calculated with.
fn credible(announced: &[Announced]) -> impl Iterator<Item = Announced> {
    let asks = |event: &&Announced| event.lift > 1.0 && event.ends_in_ms > event.starts_in_ms;
    announced
        .iter()
        .filter(asks)
        .map(|event| Announced { lift: event.lift.min(MOST_LIFT), ..*event })
}

impl Outlook {
    /// Highest demand that `quantile` expects within `lead_ms`, announced events included.
    pub(crate) fn asked(&self, lead_ms: u64, quantile: impl Fn(&HorizonView) -> f64) -> Asked {
        let asked = self.confirmed(lead_ms, quantile);
        self.events.running.map_or(asked, |running| asked.or(running.asked()))
    }

    /// The same, without a running event that demand does not confirm: it is held while a
    /// rollback waits, and must not make it wait longer.
    pub(crate) fn confirmed(&self, lead_ms: u64, quantile: impl Fn(&HorizonView) -> f64) -> Asked {
        let plain = Asked::of(self.within(lead_ms, &quantile), None);
        let running = self.events.running;
        let upcoming = self.events.upcoming.iter().filter(|event| event.starts_in_ms <= lead_ms);
        let asked = upcoming.fold(plain, |asked, event| {
            let last_ms = event.ends_in_ms.min(lead_ms);
            let otherwise_rps = self.highest_between(event.starts_in_ms, last_ms, &quantile);
            let rps = match running {
                // The forecast has the running event in it, as far as that came true.
                Some(running) => (otherwise_rps * (event.lift / running.lift).max(1.0))
                    .max(running.base_rps * event.lift),
                None => otherwise_rps * event.lift,
            };
            asked.or(Asked::of(rps, Some(Event::Upcoming(event.starts_in_ms, event.lift))))
        });
        running.filter(|r| r.came_true).map_or(asked, |running| asked.or(running.asked()))
    }

    fn highest_between(
        &self,
        first_ms: u64,
        last_ms: u64,
        quantile: impl Fn(&HorizonView) -> f64,
    ) -> f64 {
        let within = |h: &&HorizonView| first_ms < h.horizon_ms && h.horizon_ms < last_ms;
        let ends = [self.at(first_ms, &quantile), self.at(last_ms, &quantile)];
        self.horizons.iter().filter(within).map(&quantile).chain(ends).fold(0.0, f64::max)
    }
}

impl Asked {
    /// Demand that holds nothing of chance.
    pub(crate) fn of(rps: f64, event: Option<Event>) -> Self {
        Self { rps, event, held: 0.0 }
    }

    /// The same, being a quantile `sigmas` standard deviations above the median of mean demand over
    /// `mean_ms`: it has so much room for chance in it. An event's is a guess at demand without.
    pub(crate) fn holding(self, sigmas: f64, mean_ms: u64) -> Self {
        let held = sigmas.max(0.0) * (1_000.0 / mean_ms.max(1) as f64).sqrt();
        if self.event.is_some() { self } else { Self { held, ..self } }
    }

    fn or(self, other: Self) -> Self {
        if other.rps > self.rps { other } else { self }
    }
}

impl Running {
    fn asked(self) -> Asked {
        let event = Some(Event::Running(self.lift, self.base_rps));
        Asked::of(self.base_rps * self.lift, event)
    }
}
