//! Which backend gets a request: two draws by weight, the better one by the hot/cold rule.
//!
//! Weights are the controller's word on how load is shared, so the first draw stands unless the
//! second is *clearly* better; differences that chance alone makes between equal backends decide
//! nothing. Two draws can at most double a backend's share and leave it at least its square; only
//! one that is swamped or stuck falls below that, since another is drawn then.

mod stand_in;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use foreshadow_control::{InstanceId, ServiceName};
use rand::Rng;

use crate::alias::AliasTable;
use crate::backend::registry::Registry;
use crate::backend::{Backend, ServiceState};
use crate::budget::RetryBudget;
use crate::forward::Via;
use crate::injected::{Detour, Injection};
use crate::meters::{ServiceMeters, WorkerId};
use crate::table::UpstreamSpec;
use crate::table::policy::UpstreamPolicy;

/// A backend must be this much faster to override the weights: below that, scattered latencies of
/// equal backends would.
const LATENCY_MARGIN: f64 = 1.3;
/// And by at least this much: below a fraction of a millisecond there is nothing to win.
const LATENCY_FLOOR_US: f64 = 200.0;
/// An excess by this many standard deviations is no chance: one in 30 000 requests would see it.
const SWAMPED_DEVIATIONS: f64 = 4.0;
/// How often the second draw is made anew when it falls on such a backend again, before that with
/// the most weight is taken. One with at most half of the weight, and it is only done for those, is
/// drawn as often in a row in one case of 256.
const REDRAWS: u32 = 8;
/// Share of the newest measurement in the smoothed hot threshold; with one per tick of 100 ms it
/// follows a change within half a second.
const HOT_SMOOTHING: f64 = 0.3;

/// A service as requests see it: immutable, one per table.
#[derive(Debug)]
pub struct Service {
    policy: Arc<UpstreamPolicy>,
    state: Arc<ServiceState>,
    /// All backends, those with weight 0 included.
    all: Box<[Arc<Backend>]>,
    /// Those with a weight above zero: what the alias table draws from.
    serving: Box<[Entry]>,
    alias: Option<AliasTable>,
    /// The backend with the most weight, and draws from all others.
    but_heaviest: Option<(usize, AliasTable)>,
    /// Faults made of its backends on purpose; nearly always none.
    injected: Box<[Injection]>,
}

#[derive(Debug)]
struct Entry {
    backend: Arc<Backend>,
    /// Weight over the sum of weights, above 0 to 1.
    share: f64,
    /// Requests per second it can serve, or its share where that is not known of all.
    room: f64,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Pick<'a> {
    /// To this backend, which expects it: call [`Backend::begin`] next.
    Backend(&'a Arc<Backend>),
    /// Nowhere, and why.
    None(NoBackend),
}

/// Why no backend can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    /// No backend of the service has a weight above zero.
    #[error("no backend of the service has a weight above zero")]
    NoWeight,
    /// All that have a weight are down, ejected, or busy with their trial requests.
    #[error("every backend of the service is down or ejected")]
    Unusable,
    /// All that could take it were tried before; another round needs an empty list of those tried.
    #[error("every usable backend of the service was tried")]
    Tried,
}

impl Service {
    pub(crate) fn build(spec: &UpstreamSpec, registry: &Registry, faults: &[Injection]) -> Self {
        let weights: Vec<u32> =
            spec.backends.iter().map(|b| b.weight).filter(|&weight| weight > 0).collect();
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let known = spec.backends.iter().filter(|b| b.weight > 0).all(|b| b.capacity_rps > 0.0);
        let state = registry.service(&spec.name, &spec.policy);
        let all: Box<[Arc<Backend>]> =
            spec.backends.iter().map(|b| registry.backend(b.id, b.address, &state)).collect();
        // Whoever is ejected has lost its weight to that, and is one of those it is a share of.
        let both = spec.backends.iter().zip(&all);
        let taking_part = both.filter(|(spec, b)| spec.weight > 0 || b.is_ejected()).count();
        state.slots.set_limit(taking_part, spec.policy.ejection.max_ejected_share);
        let serving = spec
            .backends
            .iter()
            .zip(&all)
            .filter(|(spec, _)| spec.weight > 0)
            .map(|(spec, backend)| {
                let share = f64::from(spec.weight) / total;
                let room = if known { spec.capacity_rps } else { share };
                Entry { backend: Arc::clone(backend), share, room }
            })
            .collect();
        let alias = AliasTable::new(&weights);
        let but_heaviest = but_heaviest(weights);
        let is_ours = |fault: &&Injection| all.iter().any(|b| b.id() == fault.instance);
        let injected = faults.iter().filter(is_ours).cloned().collect();
        let policy = Arc::clone(&spec.policy);
        Self { policy, state, all, serving, alias, but_heaviest, injected }
    }

    /// The fault made of one of its backends on purpose.
    pub(crate) fn injected(&self, id: InstanceId) -> Option<&Injection> {
        self.injected.iter().find(|fault| fault.instance == id)
    }

    /// Where a request for one of its backends goes instead, and how long it waits first.
    pub(crate) fn detour(&self, id: InstanceId, now_ms: u64) -> Detour {
        self.injected(id).map_or_else(Detour::default, |fault| fault.detour(now_ms))
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.state.name
    }

    /// How its requests are balanced, bounded in time and retried.
    #[must_use]
    pub fn policy(&self) -> &Arc<UpstreamPolicy> {
        &self.policy
    }

    /// What its retries are taken from.
    #[must_use]
    pub fn budget(&self) -> &Arc<RetryBudget> {
        &self.state.budget
    }

    /// Where arrivals are counted.
    #[must_use]
    pub fn meters(&self) -> &Arc<ServiceMeters> {
        &self.state.meters
    }

    /// By which name its requests are passed on.
    pub(crate) fn via(&self) -> &Via {
        &self.state.via
    }

    /// All its backends, those with weight 0 included.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.all
    }

    /// Chooses a backend that is not among those `tried`, without lock or allocation.
    ///
    /// A backend with weight 0 is never chosen, by construction: the draws do not contain it. One
    /// that is down or ejected is chosen only if the policy allows panic and nothing else is left.
    /// A pick of a backend on probation uses up one of its trials.
    pub fn pick(
        &self,
        worker: WorkerId,
        rng: &mut impl Rng,
        tried: &[InstanceId],
        now_ms: u64,
    ) -> Pick<'_> {
        let Some(alias) = &self.alias else { return Pick::None(NoBackend::NoWeight) };
        let allowed = |entry: &&Entry| {
            !tried.contains(&entry.backend.id()) && entry.backend.is_usable(now_ms)
        };
        let at = alias.draw(rng.next_u64());
        let first = &self.serving[at];
        let second = self.challenger(alias, at, rng, now_ms);
        let (better, worse) = match (allowed(&first), allowed(&second)) {
            (true, true) if self.clearly_better(second, first, now_ms) => {
                (Some(second), Some(first))
            }
            (first_ok, second_ok) => (first_ok.then_some(first), second_ok.then_some(second)),
        };
        for entry in [better, worse].into_iter().flatten() {
            if entry.backend.admit(now_ms) {
                return Pick::Backend(&entry.backend);
            }
        }
        match self.any_usable(rng, allowed, now_ms) {
            Some(entry) => Pick::Backend(&entry.backend),
            None => self.last_resort(worker, rng, tried, now_ms),
        }
    }

    /// The second draw. Where it falls on the first again and that is swamped or stuck, another that
    /// is better off takes its place: else a backend that hangs would keep the square of its share,
    /// a quarter of all requests where there are two. One that is merely hot keeps it, since chance
    /// makes it so.
    fn challenger(
        &self,
        alias: &AliasTable,
        first: usize,
        rng: &mut impl Rng,
        now_ms: u64,
    ) -> &Entry {
        let second = alias.draw(rng.next_u64());
        let threshold = self.hot_threshold();
        let heat = |at: usize| self.serving[at].heat(threshold, now_ms);
        if second != first || heat(first) < Heat::Swamped {
            return &self.serving[second];
        }
        let Some((heaviest, others)) = &self.but_heaviest else { return &self.serving[first] };
        let other = if first == *heaviest {
            others.draw(rng.next_u64())
        } else {
            let mut redraws = (0..REDRAWS).map(|_| alias.draw(rng.next_u64()));
            redraws.find(|&at| at != first).unwrap_or(*heaviest)
        };
        &self.serving[if heat(other) < heat(first) { other } else { first }]
    }

    /// Recomputes from how many requests in flight a backend is hot. Off the request path, since
    /// a quantile needs all backends; smoothed, since a handful of backends makes a noisy one.
    pub(crate) fn refresh(&self) {
        let mut loads: Vec<f64> = self
            .serving
            .iter()
            .map(|entry| f64::from(entry.backend.in_flight()) / entry.share)
            .collect();
        if loads.is_empty() {
            return;
        }
        let quantile = self.policy.hot_quantile.clamp(0.0, 1.0);
        let rank = ((quantile * loads.len() as f64).ceil() as usize).clamp(1, loads.len()) - 1;
        let (_, &mut now, _) = loads.select_nth_unstable_by(rank, f64::total_cmp);
        let past = self.hot_threshold();
        let smoothed = if past.is_finite() { past + HOT_SMOOTHING * (now - past) } else { now };
        self.state.hot_threshold.store(smoothed.to_bits(), Relaxed);
    }

    /// In-flight requests of the whole service at which a backend with its fair share of them is
    /// hot; infinite before the first refresh.
    fn hot_threshold(&self) -> f64 {
        f64::from_bits(self.state.hot_threshold.load(Relaxed))
    }

    /// The "hot-cold lexicographic" rule of Prequal (arXiv 2312.10172), for two: a hot
    /// backend loses to a cold one; of two cold ones the lower latency wins; of two hot ones the
    /// fewer requests in flight per capacity. One that answers nothing loses to any that does.
    ///
    /// In-flight is compared with the share of the weight, so that a backend with a tenth of the
    /// weight is hot at a tenth of the requests. A backend whose latency is not known is neither
    /// better nor worse by it: it keeps what its weight draws, no less and no flood.
    fn clearly_better(&self, challenger: &Entry, holder: &Entry, now_ms: u64) -> bool {
        if Arc::ptr_eq(&challenger.backend, &holder.backend) {
            return false;
        }
        let threshold = self.hot_threshold();
        let heats = (holder.heat(threshold, now_ms), challenger.heat(threshold, now_ms));
        match heats {
            (holds, challenges) if holds != challenges => challenges < holds,
            (Heat::Hot | Heat::Swamped | Heat::Stuck, _) => {
                challenger.load() < holder.load_beyond_chance()
            }
            (Heat::Cold, _) => {
                let latencies =
                    (challenger.backend.latency_us(now_ms), holder.backend.latency_us(now_ms));
                let (Some(challenger_us), Some(holder_us)) = latencies else { return false };
                holder_us > challenger_us * LATENCY_MARGIN + LATENCY_FLOOR_US
            }
        }
    }

    /// Both draws failed: one draw by weight among all that are allowed, in linear time. A mere
    /// search from the failed draw would give its load to whoever stands next to it.
    fn any_usable(
        &self,
        rng: &mut impl Rng,
        allowed: impl Fn(&&Entry) -> bool,
        now_ms: u64,
    ) -> Option<&Entry> {
        let total: f64 = self.serving.iter().filter(&allowed).map(|entry| entry.share).sum();
        let mut left = unit(rng) * total;
        let drawn = self.serving.iter().filter(&allowed).find(|entry| {
            left -= entry.share;
            left < 0.0
        });
        // The one drawn may have lost its last trial meanwhile; then any will do.
        drawn
            .into_iter()
            .chain(self.serving.iter().filter(&allowed))
            .find(|entry| entry.backend.admit(now_ms))
    }

    fn last_resort(
        &self,
        worker: WorkerId,
        rng: &mut impl Rng,
        tried: &[InstanceId],
        now_ms: u64,
    ) -> Pick<'_> {
        if self.policy.panic {
            let start = (unit(rng) * self.serving.len() as f64) as usize;
            let (before, after) = self.serving.split_at(start.min(self.serving.len()));
            let untried = |entry: &&Entry| !tried.contains(&entry.backend.id());
            if let Some(entry) = after.iter().chain(before).find(untried) {
                self.state.meters.panicked(worker);
                return Pick::Backend(&entry.backend);
            }
        }
        let usable = self.serving.iter().any(|entry| entry.backend.is_usable(now_ms));
        Pick::None(if usable || self.policy.panic { NoBackend::Tried } else { NoBackend::Unusable })
    }
}

/// The place of the greatest weight and a table of all others, if there are others.
fn but_heaviest(mut weights: Vec<u32>) -> Option<(usize, AliasTable)> {
    let heaviest = (0..weights.len()).max_by_key(|&at| weights[at])?;
    weights[heaviest] = 0;
    Some((heaviest, AliasTable::new(&weights)?))
}

/// How much speaks against one more request, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Heat {
    Cold,
    /// More in flight than it is granted, which chance makes happen.
    Hot,
    /// More than chance explains.
    Swamped,
    /// It answers nothing, whatever its weight grants it.
    Stuck,
}

/// Uniform in 0 to 1, the latter excluded.
fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

impl Entry {
    /// How its requests in flight compare with what `threshold` grants its share, in standard
    /// deviations of a Poisson count: an excess by less than one may be chance.
    fn heat(&self, threshold: f64, now_ms: u64) -> Heat {
        if self.backend.is_stuck(now_ms) {
            return Heat::Stuck;
        }
        let granted = threshold * self.share;
        let deviation = granted.sqrt().max(1.0);
        match (f64::from(self.backend.in_flight()) - granted) / deviation {
            over if over > SWAMPED_DEVIATIONS => Heat::Swamped,
            over if over > 1.0 => Heat::Hot,
            _ => Heat::Cold,
        }
    }

    /// In-flight requests per capacity, or per share of the weight where capacities are not known.
    fn load(&self) -> f64 {
        f64::from(self.backend.in_flight()) / self.room
    }

    /// The load less one standard deviation of a Poisson count.
    fn load_beyond_chance(&self) -> f64 {
        let in_flight = f64::from(self.backend.in_flight());
        (in_flight - in_flight.sqrt().max(1.0)) / self.room
    }
}
