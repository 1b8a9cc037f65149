//! What one instance can serve within its objective, learned below saturation.
//!
//! Latency is pooled over windows of 1 to 3 s. Its inflation over the service time `S` at low load
//! says how busy the instance is (see `queueing`), and so where its capacity lies, long before it
//! is reached. An inflation that could be chance only bounds capacity from below.

mod change;
mod processor;

use serde::{Deserialize, Serialize};

use crate::belief::Belief;
use crate::estimate::Estimate;
use crate::latency::{Change, Former, Jump, Service};
use crate::queueing::{normal_quantile, utilisation_from_wait, utilisation_within, wait_ratio};
use crate::waver::Waver;
use crate::window::Window;
use crate::{Meters, Objective, ResourceSample};
use processor::Processor;

/// The error reported while capacity is only bounded.
const BOUNDED_ERROR: f64 = 0.5;
/// Demand beyond what was ever seen that starts something while capacity is only bounded: more
/// than the chance that demand of a few seconds differs by, less than a ramp gains in a lead time.
const GROWTH: f64 = 1.3;
/// The same where few requests make chance larger, in roots of requests per second.
const CHANCE: f64 = 2.5;
/// What all windows of an instance share: the formula, and the latency at low load.
const SYSTEMATIC_ERROR: f64 = 0.15;
/// The error reported meanwhile: small, so that peers do not talk the change away.
const APART_ERROR: f64 = 0.05;
/// Windows that the latency at low load is averaged over.
const BASE_WINDOWS: f64 = 15.0;
/// Up to this multiple of the low load's throughput a window belongs to the low load.
const CALM: f64 = 1.15;
/// Below this one the low load is lower than thought, and is soon forgotten as it was.
const CLEARLY_LOWER: f64 = 0.8;
/// Before anything tells, saturation is taken to lie at this multiple of the throughput seen.
const VAGUE_GUESS: f64 = 2.5;
const VAGUE_ERROR: f64 = 0.7;
/// Relative error of what processors are said to allow.
const PROCESSOR_ERROR: f64 = 0.15;
/// Inflation assumed possible even where none is seen: what bounds capacity from below.
const UNSEEN_INFLATION: f64 = 0.05;
/// Answers with which a window tells something even at a load that is hardly higher.
const MANY: f64 = 100.0;
/// Part of the utilisation allowed where the objective is below the service's own tail.
const HOPELESS_OBJECTIVE_SHARE: f64 = 0.9;

/// The learned capacity of one instance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CapacityModel {
    window: Window,
    /// Mean latency at low load, and the throughput it was seen at.
    service: Option<Service>,
    /// Squared coefficient of variation of service times.
    scv: f64,
    /// Variance of one latency over the squared mean, from the spread of tick means.
    noise: f64,
    /// Saturation throughput, in requests per second.
    saturation: Option<Estimate>,
    /// Saturation throughput is at least this, by the absence of inflation.
    unsaturated_rps: f64,
    /// Throughput sustained within the objective.
    proven_rps: f64,
    /// The former window: mean latency, throughput, saturated or not.
    former: Option<Former>,
    /// Share of saturation throughput at which the objective is still met.
    objective_share: f64,
    /// Whether the estimate began with what peers can do.
    expected: bool,
    /// Windows for which it is not taken to be like its peers, since it changed by itself.
    apart_windows: u32,
    #[serde(default)]
    jumped: Option<Jump>,
    #[serde(default)]
    waver: Waver,
    /// Most of what it was asked in the last window failed for being too much.
    #[serde(default)]
    overwhelmed: bool,
    #[serde(default)]
    processor: Processor,
}

impl CapacityModel {
    /// A model whose first window ends a little earlier or later than others', so that the
    /// arithmetic of many instances does not fall into one tick.
    pub(crate) fn new(seed: u64) -> Self {
        Self { window: Window::with_head_start(seed % 10 * 100), scv: 1.0, ..Self::default() }
    }

    /// Starts from what peers can do.
    pub(crate) fn expect(&mut self, peers_rps: f64) {
        if self.saturation.is_none() && self.service.is_none() && peers_rps > 0.0 {
            self.saturation = Some(Estimate::new(peers_rps, 0.3));
            self.objective_share = 1.0;
            self.expected = true;
        }
    }

    /// Whether the last window showed the objective missed, with requests piling up or failing.
    pub(crate) fn is_saturated(&self) -> bool {
        self.overwhelmed || self.former.is_some_and(|w| w.saturated)
    }

    /// Time passed unseen: what is known grows vague, what was being measured is dropped.
    pub(crate) fn rest(&mut self, gap_s: f64) {
        if let Some(saturation) = &mut self.saturation {
            saturation.age(gap_s);
        }
        self.interrupt();
    }

    /// Takes what was seen of its processors in one tick, before its meters.
    pub(crate) fn look_into(&mut self, seen: &ResourceSample, elapsed_ms: u64) {
        self.processor.add(seen, elapsed_ms);
    }

    /// Takes the meters of one tick.
    pub(crate) fn observe(&mut self, meters: &Meters, elapsed_ms: u64, objective: &Objective) {
        self.window.add(meters, elapsed_ms);
        if !self.window.is_full() {
            return;
        }
        let window = self.window.take(meters.in_flight);
        self.overwhelmed = window.is_overwhelmed();
        if window.is_telling() {
            self.learn(&window, objective);
        } else {
            self.former = None;
            self.processor.interrupt();
        }
    }

    /// Drops a half-filled window, whose requests were answered under other conditions.
    pub(crate) fn interrupt(&mut self) {
        self.window = Window::default();
        (self.former, self.jumped) = (None, None);
        self.processor.interrupt();
        self.overwhelmed = false;
    }

    fn learn(&mut self, window: &Window, objective: &Objective) {
        let (latency_ms, rps) = (window.mean_ms(), window.rps());
        self.learn_spread(window);
        let misses = window.misses(objective.latency_quantile);
        let service_ms = self.service.map_or(latency_ms, |s| s.mean_ms);
        let saturated = misses && latency_ms > 1.5 * service_ms && window.is_piling_up();
        let now = Former { latency_ms, rps, saturated };
        self.apart_windows = self.apart_windows.saturating_sub(1);
        if let Some(saturation) = &mut self.saturation {
            saturation.age(window.elapsed_s());
        }
        if saturated {
            self.learn_saturated(rps);
        } else {
            let change = self.follow_abrupt_change(now, window.count());
            if change == Change::None {
                self.learn_service_time(latency_ms, rps, window.count());
            }
            if change != Change::Suspected {
                self.learn_inflation(latency_ms, rps, window.count());
            }
            self.learn_proven(rps, misses, window.elapsed_s());
        }
        self.processor.learn(rps);
        if let (Some(saturation), Some(limit)) = (&mut self.saturation, self.processor.limit_rps())
        {
            saturation.bound(limit, PROCESSOR_ERROR);
            self.unsaturated_rps = self.unsaturated_rps.min(limit);
        }
        self.former = Some(now);
        self.objective_share = self.share_within(objective);
    }

    fn variability(&self) -> f64 {
        f64::midpoint(1.0, self.scv)
    }

    fn learn_spread(&mut self, window: &Window) {
        let first = self.service.is_none();
        let pace = if first { 1.0 } else { 0.2 };
        self.noise += pace * (window.noise() - self.noise);
        // Waiting spreads latencies too, so only calm windows say how service times vary.
        let calm = self.service.is_none_or(|s| window.rps() <= 1.1 * s.seen_at_rps);
        if calm && let Some(scv) = window.scv() {
            self.scv += pace * (scv - self.scv);
        }
    }

    fn learn_saturated(&mut self, rps: f64) {
        self.unsaturated_rps = self.unsaturated_rps.min(rps);
        self.proven_rps = self.proven_rps.min(rps);
        match &mut self.saturation {
            // A saturated instance shows what it can do at most; it is no ground to raise.
            Some(saturation) if saturation.value() > rps => saturation.update(rps, 0.05),
            Some(_) => {}
            None => self.saturation = Some(Estimate::new(rps, 0.1)),
        }
    }

    fn known_saturation_rps(&self) -> f64 {
        self.identified().map_or(self.unsaturated_rps, |s| s.value())
    }

    /// What saturation throughput is at least, as far as all that was seen does not speak against it.
    ///
    /// An instance has one slot at least, and a request keeps it no longer than its answer takes: answers
    /// of a millisecond are a thousand a second, however few were asked for. That does not wait for the
    /// estimate, which begins as a multiple of the first throughput.
    fn bound_rps(&self) -> f64 {
        let one_slot_rps = self.service.map_or(0.0, |s| 1_000.0 / s.mean_ms.max(1e-3));
        self.saturation
            .as_ref()
            .map_or(self.unsaturated_rps, |s| s.value().max(one_slot_rps).min(self.unsaturated_rps))
    }

    fn identified(&self) -> Option<&Estimate> {
        self.saturation.as_ref().filter(|s| self.expected || s.is_identified())
    }

    /// Follows the latency at low load; at higher load only as far as the wait does not explain it.
    fn learn_service_time(&mut self, latency_ms: f64, rps: f64, count: f64) {
        let wait = self.wait_model();
        let saturation_rps = self.identified().map(|s| s.value());
        let Some(service) = &mut self.service else {
            self.service = Some(Service { mean_ms: latency_ms, seen_at_rps: rps, windows: 1.0 });
            self.saturation.get_or_insert(Estimate::new(VAGUE_GUESS * rps, VAGUE_ERROR));
            return;
        };
        if rps < CLEARLY_LOWER * service.seen_at_rps {
            service.windows = service.windows.min(3.0);
        }
        if rps <= CALM * service.seen_at_rps {
            let chance = self.noise / count * (1.0 + 1.0 / service.windows);
            self.waver.observe(libm::log(latency_ms / service.mean_ms), chance);
            service.windows = (service.windows + 1.0).min(BASE_WINDOWS);
            let pace = 1.0 / service.windows;
            service.mean_ms += pace * (latency_ms - service.mean_ms);
            service.seen_at_rps += pace * (rps - service.seen_at_rps);
        } else if let Some(c) = saturation_rps {
            let seen_ms = latency_ms * wait(service.seen_at_rps, c) / wait(rps, c);
            service.mean_ms += 0.005 * (seen_ms - service.mean_ms);
        }
    }

    /// The latency at low load without the wait that is in it even there.
    fn service_ms(&self) -> f64 {
        let Some(service) = self.service else { return 0.0 };
        let Some(saturation) = self.identified() else { return service.mean_ms };
        let rps = saturation.value();
        let slots = rps * service.mean_ms / 1_000.0;
        let rho = (service.seen_at_rps / rps).min(0.9);
        service.mean_ms / (1.0 + wait_ratio(rho, slots, self.variability()))
    }

    /// Mean latency over service time, as a function of throughput and saturation throughput.
    fn wait_model(&self) -> impl Fn(f64, f64) -> f64 + use<> {
        let variability = self.variability();
        let service_s = self.service_ms() / 1_000.0;
        move |rps, saturation_rps| {
            let slots = saturation_rps * service_s;
            1.0 + wait_ratio(rps / saturation_rps, slots, variability)
        }
    }

    fn learn_inflation(&mut self, latency_ms: f64, rps: f64, count: f64) {
        let Some(service) = self.service else { return };
        let inflation = latency_ms / service.mean_ms;
        let of_both = 1.0 + 1.0 / service.windows;
        let error = inflation * (self.noise / count * of_both).sqrt() + 0.01;
        let wavers = inflation * (self.waver.variance() * of_both).sqrt();
        let wait = self.wait_model();
        let contrast = (CALM - 1.0).max(2.0 / count.sqrt());
        let is_fuller = rps > (1.0 + contrast) * service.seen_at_rps;
        let is_telling = is_fuller || (count >= MANY && self.waver.is_known());
        if let Some(saturation) = self.saturation.as_mut().filter(|_| is_telling) {
            let least_rps = rps.max(1_000.0 / service.mean_ms) * 1.005;
            // Waits are approximated to about a fifth.
            let model_error = 0.2 * (wait(rps, saturation.value()) - 1.0).min(inflation);
            let error = libm::hypot(libm::hypot(error, wavers), model_error);
            saturation.update_through(inflation, error, least_rps, |c| {
                wait(rps, c) / wait(service.seen_at_rps, c)
            });
        }
        let unseen = (inflation - 1.0).max(0.0) + 2.0 * error;
        let busy_slots = rps * service.mean_ms / 1_000.0;
        let rho =
            utilisation_from_wait(busy_slots, unseen.max(UNSEEN_INFLATION), self.variability());
        let bound_rps = rps / rho;
        if self.unsaturated_rps <= 0.0 {
            self.unsaturated_rps = bound_rps;
        } else if bound_rps > self.unsaturated_rps {
            self.unsaturated_rps += 0.3 * (bound_rps - self.unsaturated_rps);
        } else {
            self.unsaturated_rps *= 0.999;
        }
    }

    fn learn_proven(&mut self, rps: f64, misses: bool, elapsed_s: f64) {
        self.proven_rps *= 1.0 - 0.001 * elapsed_s.min(10.0);
        let sustained = match self.former {
            Some(former) if former.saturated => 0.0,
            Some(former) => former.rps.min(rps),
            None => rps,
        };
        if !misses && sustained > self.proven_rps {
            self.proven_rps = sustained;
        }
    }

    /// Share of saturation throughput at which the objective's quantile is still met: the wait may
    /// take what the service time's own quantile (taken as lognormal) leaves of the objective.
    fn share_within(&self, objective: &Objective) -> f64 {
        let Some(service) = self.service else { return 1.0 };
        let quantile = objective.latency_quantile.clamp(0.5, 0.9999);
        let sigma_squared = libm::log1p(self.scv);
        let z = normal_quantile(quantile);
        let tail_ms = service.mean_ms * libm::exp(z * sigma_squared.sqrt() - sigma_squared / 2.0);
        let budget_ms = objective.latency_ms - tail_ms;
        if budget_ms.is_nan() || budget_ms <= 0.0 {
            return HOPELESS_OBJECTIVE_SHARE;
        }
        let slots = self.known_saturation_rps() * service.mean_ms / 1_000.0;
        utilisation_within(budget_ms, quantile, service.mean_ms, slots, self.variability())
    }

    /// What is believed now; nothing before the first window with requests in it.
    ///
    /// From what is only bounded to what is known it goes over as the error falls: a step between the
    /// two would move load with every second window.
    pub(crate) fn belief(&self, target: f64) -> Option<Belief> {
        let bounded = self.bounded(target);
        let Some(saturation) = &self.saturation else { return bounded };
        let part = if self.expected { 1.0 } else { saturation.known_part() };
        let learned_rps = (saturation.value() * self.objective_share).max(self.proven_rps);
        let rps = match &bounded {
            Some(bounded) if part < 1.0 => {
                libm::exp(part * libm::log(learned_rps) + (1.0 - part) * libm::log(bounded.rps))
            }
            _ => learned_rps,
        };
        if self.identified().is_none() {
            return bounded.map(|bounded| Belief { rps, ..bounded });
        }
        let ends = [saturation.lower(SYSTEMATIC_ERROR), saturation.upper(SYSTEMATIC_ERROR)];
        let [lower_rps, upper_rps] = ends.map(|end| end * self.objective_share);
        Some(Belief {
            rps,
            lower_rps: lower_rps.max(self.proven_rps),
            upper_rps: Some(upper_rps.max(rps)),
            error: if self.apart_windows > 0 {
                APART_ERROR
            } else {
                libm::hypot(saturation.error(), SYSTEMATIC_ERROR)
            },
        })
    }

    /// What is leaned on where capacity is only bounded from below.
    ///
    /// `target` is the utilisation instances are filled to. At that target an instance is believed to
    /// carry a little more than it has proven: steady load starts nothing, growth beyond what was
    /// ever seen does.
    fn bounded(&self, target: f64) -> Option<Belief> {
        let bound = (self.bound_rps() * self.objective_share).max(self.proven_rps);
        let chance_rps = CHANCE * self.proven_rps.sqrt();
        let grown_rps = (GROWTH * self.proven_rps).max(self.proven_rps + chance_rps);
        let lower_rps = self
            .saturation
            .as_ref()
            .map_or(bound, |s| bound.min(s.lower(SYSTEMATIC_ERROR) * self.objective_share));
        (bound > 0.0).then_some(Belief {
            rps: bound.max(grown_rps / target),
            lower_rps: lower_rps.max(self.proven_rps),
            upper_rps: None,
            error: if self.apart_windows > 0 { APART_ERROR } else { BOUNDED_ERROR },
        })
    }
}
