//! One fit after the other, each followed by a rest of nineteen times as long or ten seconds, so
//! that fits of up to half a second take no more than a twentieth of a core.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_config::Config;
use foreshadow_control::{QuantileSpec, ServiceName, Told};
use foreshadow_predictor::long::{Category, Event, Extra, Guests, History, LongSpec, Model};

use super::Reach;
use super::calendar::{as_event, coming, upcoming};
use super::categories::Shapes;
use super::curve::{self, Curve};
use super::heard::{Claim, SignalPart, Signals};
use super::network::{Networks, Part};
use super::regressors::regressors;
use super::score::Scores;
use super::unforeseen::Unforeseen;
use crate::node::Shared;
use crate::node::history::{Query, Span};

/// Rest after a fit, as a multiple of the time it took.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Rest where nothing is due.
const IDLE: Duration = Duration::from_millis(500);
/// Time until what could not be fitted is tried again at the latest.
const RETRY_MS: u64 = 60_000;
/// Spans that a curve describes beyond its reach, in parts of it: it is used until the next one.
const SPARE_PART: u64 = 8;
/// Events looked at of one service: the newest.
pub(super) const MOST_EVENTS: usize = 1_000;

/// Time between two looks.
const CALENDAR_EVERY_MS: u64 = 60_000;

/// What is fitted when, and how it did so far.
#[derive(Default)]
pub(super) struct Fitter {
    /// Of the clock that everything is due by.
    offset_ms: i64,
    calendar_due_ms: u64,
    /// The configuration that the calendar was last looked up in.
    config: Option<Arc<Config>>,
    due_ms: BTreeMap<(ServiceName, Reach), u64>,
    scores: BTreeMap<(ServiceName, Reach), Scores>,
    /// What failed last, so that it is said once.
    failed: BTreeMap<(ServiceName, Reach), String>,
    networks: Networks,
    shapes: Shapes,
    unforeseen: Unforeseen,
}

/// What a curve is made from.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    /// Spans of one length, oldest first.
    pub(super) spans: &'a [Span],
    /// Announced events that have started.
    pub(super) started: &'a [Event],
    /// Announced events that have not.
    pub(super) upcoming: &'a [Event],
    /// What moves with demand.
    pub(super) signals: &'a Signals,
    /// What services of its kind have in common.
    pub(super) categories: &'a [Category],
    /// One more expert.
    pub(super) network: Option<&'a dyn Extra>,
}

impl Fitter {
    /// Fits what has been due longest, if anything is, and says how long to rest.
    pub(super) fn step(&mut self, shared: &Shared) -> Duration {
        let config = shared.config.load_full();
        self.heed_leap(shared.clock.offset_ms());
        let now_ms = shared.clock.now_ms();
        let is_known = self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config));
        if now_ms >= self.calendar_due_ms || !is_known {
            self.config = Some(Arc::clone(&config));
            self.calendar_due_ms = now_ms + CALENDAR_EVERY_MS;
            shared.long.calendar.store(Arc::new(coming(&config, now_ms)));
            self.unforeseen.tell(&config, &shared.orders.load(), &shared.long, now_ms);
        }
        if !shared.history.is_kept() {
            return IDLE;
        }
        for service in shared.long.take_renewed() {
            for reach in Reach::ALL {
                self.due_ms.insert((service.clone(), reach), 0);
            }
        }
        let Some((service, reach)) = self.next(&config, now_ms) else { return IDLE };
        let begun = Instant::now();
        let key = (service.clone(), reach);
        let (retry_ms, failure) = match self.fit(shared, &config, &service, reach, now_ms) {
            Ok(true) => (reach.every_ms(), None),
            Ok(false) => (RETRY_MS.min(reach.every_ms()), None),
            Err(error) => (reach.every_ms(), Some(format!("{error:#}"))),
        };
        self.due_ms.insert(key.clone(), now_ms.saturating_add(retry_ms));
        self.note(shared, key, failure);
        (begun.elapsed() * REST).clamp(Duration::from_millis(1), LONGEST_REST)
    }

    /// Says a failure that is new, and keeps it for whoever asks.
    fn note(&mut self, shared: &Shared, key: (ServiceName, Reach), failure: Option<String>) {
        if self.failed.get(&key) == failure.as_ref() {
            return;
        }
        let (service, reach) = (&key.0, key.1.as_str());
        match failure {
            Some(error) => {
                tracing::warn!(%service, reach, "no forecast was fitted: {error}");
                self.failed.insert(key, error);
            }
            None => drop(self.failed.remove(&key)),
        }
        shared.long.failures.store(Arc::new(self.failed.clone()));
    }

    /// By a clock that was set, everything is due: it was made for another time.
    fn heed_leap(&mut self, offset_ms: i64) {
        if offset_ms != self.offset_ms {
            self.offset_ms = offset_ms;
            self.calendar_due_ms = 0;
            self.due_ms.clear();
        }
    }

    /// What has been due longest; the shorter reach of two. New services are due at once.
    fn next(&mut self, config: &Config, now_ms: u64) -> Option<(ServiceName, Reach)> {
        self.due_ms.retain(|(service, _), _| config.services.contains_key(service));
        self.scores.retain(|(service, _), _| config.services.contains_key(service));
        self.failed.retain(|(service, _), _| config.services.contains_key(service));
        self.shapes.retain(|service| config.services.contains_key(service));
        self.networks.retain(|file| {
            config.services.values().any(|service| service.forecast.onnx.as_deref() == Some(file))
        });
        for service in config.services.keys() {
            for reach in Reach::ALL {
                self.due_ms.entry((service.clone(), reach)).or_insert(0);
            }
        }
        let due = self.due_ms.iter().filter(|(_, due_ms)| **due_ms <= now_ms);
        let (key, _) = due.min_by_key(|((_, reach), due_ms)| (**due_ms, *reach))?;
        Some(key.clone())
    }

    /// Fits and publishes one curve; false where there is too little history yet.
    fn fit(
        &mut self,
        shared: &Shared,
        config: &Config,
        service: &ServiceName,
        reach: Reach,
        now_ms: u64,
    ) -> anyhow::Result<bool> {
        let Some(configured) = config.services.get(service) else { return Ok(false) };
        let resolution = reach.resolution();
        let spans = shared.history.spans(&Query {
            service: service.clone(),
            instance: 0,
            resolution,
            from_ms: now_ms.saturating_sub(reach.history_ms()),
            // What is being observed is not complete, and what lies ahead was written by a clock
            // that was wrong.
            until_ms: resolution.start_ms(now_ms),
            limit: u32::MAX,
        })?;
        if spans.len() < reach.least_spans() {
            return Ok(false);
        }
        let upcoming = upcoming(shared, service, now_ms)?;
        let started = started(shared, service, &configured.forecast, &spans, now_ms)?;
        let key = (service.clone(), reach);
        let scores = self.scores.entry(key).or_insert_with(|| kept(shared, service, reach, now_ms));
        let truth = |start_ms| {
            let at = spans.binary_search_by_key(&start_ms, |span| span.at_ms).ok()?;
            observed(&spans[at], resolution.step_ms())
        };
        scores.settle(resolution.start_ms(now_ms), resolution.step_ms(), truth);
        let names = &configured.forecast.signals;
        scores.heard.retain(|signal| names.iter().any(|name| name == signal));
        let from_ms = spans.first().map_or(now_ms, |span| span.at_ms);
        let signals = Signals {
            regressors: regressors(shared, service, names, reach, (from_ms, now_ms)),
            unheard: names.iter().filter(|name| scores.heard.is_against(name)).cloned().collect(),
        };
        let mine = (service, reach, &spans[..]);
        let categories = self.shapes.about(shared, config, mine, now_ms);
        let past = Past {
            spans: &spans,
            started: &started,
            upcoming: &upcoming,
            signals: &signals,
            categories: &categories,
            network: None,
        };
        let quantiles = configured.forecast.quantiles.levels();
        let file = configured.forecast.onnx.as_deref();
        let (mut curve, claims) =
            asked(&mut self.networks, file, past, |past| curve(past, reach, &quantiles, now_ms))?;
        scores.note(&curve, &claims, spans.last().map_or(0.0, |span| span.rps));
        curve.score = scores.read();
        for part in &mut curve.signals {
            let record = scores.heard.of(&part.signal);
            (part.scored, part.mae_rps) = (record.scored, record.mae_rps);
            part.mae_without_rps = record.mae_without_rps;
        }
        match scores.written() {
            Ok(state) => shared.history.keep_scores(service, reach.as_str(), now_ms, state),
            Err(error) => tracing::warn!(%service, %error, "how curves did cannot be kept"),
        }
        shared.long.publish(service, reach, curve, config);
        Ok(true)
    }
}

/// Fits with the network in `file`, where there is one and it can be asked.
fn asked(
    networks: &mut Networks,
    file: Option<&Path>,
    past: Past<'_>,
    fit: impl Fn(&Past<'_>) -> anyhow::Result<(Curve, Vec<Claim>)>,
) -> anyhow::Result<(Curve, Vec<Claim>)> {
    let guarded = |past: &Past<'_>| {
        let fitted = catch_unwind(AssertUnwindSafe(|| fit(past)));
        fitted.unwrap_or_else(|_| anyhow::bail!("the model panicked; please report this"))
    };
    let Some(file) = file else { return guarded(&past) };
    let now = Instant::now();
    let (fitted, part, is_late) = match networks.of(file, now) {
        Ok(network) => {
            (guarded(&Past { network: Some(&network), ..past })?, None, network.is_late())
        }
        Err(why) => (guarded(&past)?, Some(Part::Failed(why)), false),
    };
    let (mut curve, claims) = fitted;
    curve.network = part.or(curve.network);
    if let Some(part) = &curve.network {
        networks.note(file, part, is_late, now);
    }
    Ok((curve, claims))
}

/// Announced events that have started, the newest, and what calendars say of times before they were
/// configured: it explains the history of then.
fn started(
    shared: &Shared,
    service: &ServiceName,
    configured: &foreshadow_config::Forecast,
    spans: &[Span],
    now_ms: u64,
) -> anyhow::Result<Vec<Event>> {
    let mut started = shared.history.events(service)?;
    let from_ms = spans.first().map_or(now_ms, |span| span.at_ms);
    let before = configured.last_occurrences(from_ms, now_ms).into_iter().map(as_event);
    started.extend(before.filter(|event| event.start_ms <= now_ms));
    started.sort_by(|a, b| (b.start_ms, &a.kind).cmp(&(a.start_ms, &b.kind)));
    started.dedup_by(|a, b| a.start_ms == b.start_ms && a.kind == b.kind);
    started.truncate(MOST_EVENTS);
    Ok(started)
}

/// How curves did before the last start; none did where nothing of use was kept.
fn kept(shared: &Shared, service: &ServiceName, reach: Reach, now_ms: u64) -> Scores {
    let read = shared.history.scores(service, reach.as_str(), now_ms);
    let restored = read.and_then(|read| read.map(|it| Scores::restored(reach, &it)).transpose());
    match restored {
        Ok(scores) => scores.unwrap_or_else(|| Scores::new(reach)),
        Err(error) => {
            let reach_name = reach.as_str();
            tracing::warn!(%service, reach = reach_name, "how curves did begins anew: {error:#}");
            Scores::new(reach)
        }
    }
}

/// The rate of a span that was observed for at least half of its time.
fn observed(span: &Span, step_ms: u64) -> Option<f64> {
    (span.covered_ms.saturating_mul(2) >= step_ms).then_some(span.rps)
}

/// Spans as a grid without holes: what was not observed is not known.
pub(super) fn grid(spans: &[Span], step_ms: u64) -> History {
    let start_ms = spans.first().map_or(0, |span| span.at_ms);
    let end_ms = spans.last().map_or(0, |span| span.at_ms.saturating_add(step_ms));
    let steps = usize::try_from(end_ms.saturating_sub(start_ms) / step_ms.max(1)).unwrap_or(0);
    let mut values = vec![None; steps];
    for span in spans {
        let nth = usize::try_from((span.at_ms - start_ms) / step_ms.max(1)).unwrap_or(usize::MAX);
        if let Some(value) = values.get_mut(nth) {
            *value = observed(span, step_ms);
        }
    }
    History { start_ms, step_ms, values }
}

/// What of started events is over by `from_ms`, and what is left of those that run.
fn parted(started: &[Event], from_ms: u64) -> (Vec<Event>, Vec<Event>) {
    let over = started.iter().filter(|event| event.start_ms < from_ms);
    let over = over.map(|event| Event { end_ms: event.end_ms.min(from_ms), ..event.clone() });
    let running = started.iter().filter(|event| event.end_ms > from_ms);
    let running =
        running.map(|event| Event { start_ms: event.start_ms.max(from_ms), ..event.clone() });
    (over.collect(), running.collect())
}

/// The curve that `past` leads to, and what each signal that goes with demand makes of it.
pub(super) fn curve(
    past: &Past<'_>,
    reach: Reach,
    quantiles: &QuantileSpec,
    now_ms: u64,
) -> anyhow::Result<(Curve, Vec<Claim>)> {
    let resolution = reach.resolution();
    let step_ms = resolution.step_ms();
    let history = grid(past.spans, step_ms);
    let spec = LongSpec {
        levels: curve::levels(quantiles),
        horizon_ms: reach.ms(),
        ..LongSpec::default()
    };
    let from_ms = resolution.start_ms(now_ms);
    let (over, running) = parted(past.started, from_ms);
    let signals = past.signals;
    let guests = Guests { extra: past.network, categories: past.categories };
    let mut model = Model::fit_among(&history, &spec, &signals.regressors, &over, guests)?;
    let is_unheard = |signal: &str| signals.unheard.iter().any(|unheard| unheard == signal);
    model.mute(is_unheard);
    let reach_ms = reach.ms().saturating_add((reach.ms() / SPARE_PART).max(2 * reach.every_ms()));
    let steps = usize::try_from(reach_ms / step_ms).unwrap_or(0);
    let told = Told::of(&model.forecast(from_ms, steps), quantiles, now_ms);
    running.iter().chain(past.upcoming).for_each(|event| model.announce(event));
    let shown = model.forecast(from_ms, steps);
    let part = |(signal, effect): (&str, f64)| SignalPart {
        signal: signal.to_owned(),
        effect: effect.exp(),
        least_effect: model.effect_range(signal).map_or(effect, |range| range.0).exp(),
        most_effect: model.effect_range(signal).map_or(effect, |range| range.1).exp(),
        lead_ms: model.lead_ms(signal),
        heard: !is_unheard(signal),
        ..SignalPart::default()
    };
    let network = model
        .extra()
        .map(|extra| extra.map_or_else(|why| Part::Failed(why.to_owned()), Part::Weight));
    let curve = Curve {
        fitted_at_ms: now_ms,
        history_from_ms: history.start_ms,
        history_spans: history.values.iter().flatten().count(),
        seasons_ms: model.seasons_ms(),
        start_ms: shown.start_ms,
        step_ms,
        levels: shown.levels,
        quantiles: shown.quantiles,
        mean: shown.mean,
        score: Vec::new(),
        network,
        categories: model.belongings().map(Into::into).collect(),
        signals: model.regressors().map(part).collect(),
        lifts: model.lifts().iter().map(Into::into).collect(),
        told,
    };
    let claims = claims(model, is_unheard, from_ms, steps);
    Ok((curve, claims))
}

/// What the curve is with each signal and what it is without, those that are not heard left out of both.
fn claims(
    mut model: Model,
    is_unheard: impl Fn(&str) -> bool,
    from_ms: u64,
    steps: usize,
) -> Vec<Claim> {
    let names: Vec<String> = model.regressors().map(|(name, _)| name.to_owned()).collect();
    let claim = |signal: String| {
        model.mute(|other| other != signal && is_unheard(other));
        let with_rps = model.forecast(from_ms, steps).mean;
        model.mute(|other| other == signal || is_unheard(other));
        let without_rps = model.forecast(from_ms, steps).mean;
        Claim { signal, with_rps, without_rps }
    };
    names.into_iter().map(claim).collect()
}

#[cfg(test)]
mod tests;
