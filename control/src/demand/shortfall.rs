//! How far demand came to lie above the median that was forecast, and what that asks of upper quantiles.
//!
//! Far ahead truths are few and err together, so that a forecaster's outer quantiles are the last thing it
//! learns: on demand with rare spikes they are exceeded several times as often as they say. Experience needs
//! no model: so high above the median demand came to lie in one of a hundred cases. Spikes of a machine
//! are of one size whatever came before, those of a crowd grow with it, so it is kept both in requests per
//! second and relative to demand, and the lesser of the two is the floor under the upper quantile. Each is
//! the quantile of one-sided residuals as in split conformal prediction (Vovk, Gammerman and Shafer 2005,
//! *Algorithmic Learning in a Random World*, section 2.2), without its guarantee: what is old fades, truths
//! depend on each other, and both bounds may fail apart, so that up to twice as many truths lie above the
//! lesser. That is also when a quantile is raised; one that keeps what it says is left alone.

use serde::{Deserialize, Serialize};

use crate::HorizonView;
use crate::awaited::{Awaited, Pending, stride_ms};

/// Nearer horizons see so many truths that their quantiles are as often exceeded as they say.
const LEAST_HORIZON_MS: u64 = 30_000;
/// Horizons with a record.
const MOST_HORIZONS: usize = 8;
/// What came is smoothed with this part of the horizon as its time constant.
const SMOOTHED_PART: u64 = 20;
/// What is remembered: all days of a week alike.
const MEMORY_MS: u64 = 7 * 86_400_000;
/// Truths that must be expected above a quantile before there is one.
const LEAST_ABOVE: f64 = 2.0;
/// A quantile exceeded up to this many times as often as it says may be so by chance: truths of one spike
/// err together.
const BY_CHANCE: f64 = 2.0;
/// Demand is taken to be at least this, so that a share of it is one.
const LEAST_RPS: f64 = 1.0;

/// What is known of all horizons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Shortfalls {
    /// By increasing horizon.
    horizons: Vec<Shortfall>,
    now_ms: u64,
    now_rps: f64,
    #[serde(default)]
    tick_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Shortfall {
    horizon_ms: u64,
    pending: Pending<Said>,
    smoothed_rps: f64,
    /// In requests per second, and relative to demand when the forecast was made.
    absolute: Tail,
    relative: Tail,
    /// Truths above the upper quantile, those of long ago counting less.
    exceeded: f64,
    /// When the last truth was known.
    #[serde(default)]
    last_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Said {
    due_ms: u64,
    median_rps: f64,
    upper_rps: f64,
    size_rps: f64,
}

impl Awaited for Said {
    fn due_ms(&self) -> u64 {
        self.due_ms
    }
}

impl Shortfalls {
    /// Takes the demand of this tick, `elapsed_ms` after the last one though `tick_ms` were planned, and
    /// holds what is due against it.
    pub(super) fn observe(&mut self, now_ms: u64, now_rps: f64, elapsed_ms: u64, tick_ms: u64) {
        (self.now_ms, self.now_rps, self.tick_ms) = (now_ms, now_rps, tick_ms);
        for horizon in &mut self.horizons {
            horizon.smooth(now_rps, elapsed_ms, tick_ms);
            horizon.settle(now_ms, tick_ms);
        }
    }

    /// Raises an upper quantile, which is that of `level`, to what experience asks for where it was
    /// exceeded too often, at most to `most_rps`, and remembers what was said.
    pub(super) fn raise(&mut self, views: &mut [HorizonView], level: f64, most_rps: f64) {
        let size_rps = self.now_rps.max(LEAST_RPS);
        for view in views.iter_mut().filter(|view| view.horizon_ms >= LEAST_HORIZON_MS) {
            let Some(horizon) = horizon_of(&mut self.horizons, view.horizon_ms, self.now_rps)
            else {
                return;
            };
            horizon.keep(self.now_ms, self.tick_ms, view, size_rps);
            if let Some(above_rps) = horizon.above_rps(level, size_rps) {
                view.upper_rps = view.upper_rps.max((view.median_rps + above_rps).min(most_rps));
            }
        }
    }

    /// Time passed unseen: what is open will not meet its truth.
    pub(super) fn rest(&mut self) {
        self.horizons.iter_mut().for_each(|horizon| horizon.pending.clear());
    }
}

/// The record of a horizon, made where there is none; none where there are too many.
fn horizon_of(
    horizons: &mut Vec<Shortfall>,
    horizon_ms: u64,
    now_rps: f64,
) -> Option<&mut Shortfall> {
    let at = horizons.partition_point(|known| known.horizon_ms < horizon_ms);
    if horizons.get(at).is_none_or(|known| known.horizon_ms != horizon_ms) {
        if horizons.len() >= MOST_HORIZONS {
            return None;
        }
        horizons.insert(at, Shortfall::new(horizon_ms, now_rps));
    }
    horizons.get_mut(at)
}

impl Shortfall {
    fn new(horizon_ms: u64, now_rps: f64) -> Self {
        let (pending, tail) = (Pending::default(), Tail::default());
        let (absolute, relative) = (tail.clone(), tail);
        let (smoothed_rps, exceeded, last_ms) = (now_rps, 0.0, None);
        Self { horizon_ms, pending, smoothed_rps, absolute, relative, exceeded, last_ms }
    }

    /// Time constant of what came, which is as late: none within a tick, or the truth of the next but one
    /// would be taken for that of the next.
    fn smoothing_ms(&self, tick_ms: u64) -> u64 {
        let part_ms = self.horizon_ms / SMOOTHED_PART;
        if part_ms < tick_ms { 0 } else { part_ms }
    }

    fn keep(&mut self, now_ms: u64, tick_ms: u64, view: &HorizonView, size_rps: f64) {
        let late_ms = self.smoothing_ms(tick_ms);
        let due_ms = now_ms.saturating_add(self.horizon_ms).saturating_add(late_ms);
        let HorizonView { median_rps, upper_rps, .. } = *view;
        let said = Said { due_ms, median_rps, upper_rps, size_rps };
        self.pending.keep(said, stride_ms(self.horizon_ms));
    }

    fn smooth(&mut self, now_rps: f64, elapsed_ms: u64, tick_ms: u64) {
        let elapsed_ms = elapsed_ms as f64;
        let share = elapsed_ms / (elapsed_ms + self.smoothing_ms(tick_ms) as f64).max(1.0);
        self.smoothed_rps += share * (now_rps - self.smoothed_rps);
    }

    fn settle(&mut self, now_ms: u64, tick_ms: u64) {
        let apart_ms = stride_ms(self.horizon_ms).max(tick_ms);
        while let Some(said) = self.pending.next_due(now_ms, apart_ms) {
            let since_ms = self
                .last_ms
                .replace(now_ms)
                .map_or(apart_ms, |last_ms| now_ms.saturating_sub(last_ms));
            let keep = 1.0 - (since_ms as f64 / MEMORY_MS as f64).min(1.0);
            let above_rps = self.smoothed_rps - said.median_rps;
            self.absolute.add(above_rps, keep);
            self.relative.add(above_rps / said.size_rps, keep);
            let exceeds = self.smoothed_rps > said.upper_rps;
            self.exceeded = self.exceeded * keep + f64::from(u8::from(exceeds));
        }
    }

    /// How far above the median the quantile of `level` lies by experience, where demand is `size_rps`;
    /// none where experience is short, or finds nothing wrong with what is said.
    fn above_rps(&self, level: f64, size_rps: f64) -> Option<f64> {
        if self.exceeded <= BY_CHANCE * (1.0 - level) * self.absolute.total {
            return None;
        }
        let absolute = self.absolute.quantile(level)?;
        Some(absolute.min(self.relative.quantile(level)? * size_rps))
    }
}

/// Counts of values by size, those of long ago counting less. What is not positive is one size.
///
/// Four sizes to an octave are told apart, by exponent and first bits of the number: the same on every
/// machine. Within one, values are taken to be spread evenly.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tail {
    counts: Vec<f32>,
    /// Of all, those included that are not positive or next to nothing.
    total: f64,
}

/// Bits of the mantissa that are told apart.
const BITS: u32 = 2;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - BITS;
/// Values below 2^-10 are nothing; those above 2^30 are that.
const FIRST: u64 = (1023 - 10) << BITS;
const SIZES: usize = 40 << BITS;

impl Default for Tail {
    fn default() -> Self {
        Self { counts: vec![0.0; SIZES], total: 0.0 }
    }
}

impl Tail {
    /// Adds a value; what was added before keeps `keep` of its weight.
    fn add(&mut self, value: f64, keep: f64) {
        self.total = self.total * keep + 1.0;
        self.counts.iter_mut().for_each(|count| *count *= keep as f32);
        if let Some(size) = (value > 0.0).then(|| value.to_bits() >> SHIFT)
            && let Some(above) = size.checked_sub(FIRST)
        {
            let at = usize::try_from(above).unwrap_or(SIZES).min(SIZES - 1);
            self.counts[at] += 1.0;
        }
    }

    /// The value that the share `level` of all do not exceed, 0 where that is nothing; none as long as
    /// too few are expected above it.
    fn quantile(&self, level: f64) -> Option<f64> {
        let mut above = (1.0 - level) * self.total;
        if above < LEAST_ABOVE {
            return None;
        }
        for (at, count) in self.counts.iter().enumerate().rev() {
            let count = f64::from(*count);
            if count >= above {
                let edge = |at: usize| f64::from_bits((FIRST + at as u64) << SHIFT);
                return Some(edge(at + 1) - above / count * (edge(at + 1) - edge(at)));
            }
            above -= count;
        }
        Some(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(median_rps: f64) -> HorizonView {
        let horizon_ms = 600_000;
        HorizonView { horizon_ms, lower_rps: median_rps, median_rps, upper_rps: median_rps + 1.0 }
    }

    /// The upper quantile at 600 s after `hours` of `demand` by the second, forecast to stay at 100.
    fn after(hours: u64, demand: impl Fn(u64) -> f64) -> f64 {
        after_ticks_of(10_000, hours, demand)
    }

    fn after_ticks_of(tick_ms: u64, hours: u64, demand: impl Fn(u64) -> f64) -> f64 {
        let mut shortfalls = Shortfalls::default();
        let mut upper_rps = 0.0;
        for tick in 0..hours * 3_600_000 / tick_ms {
            shortfalls.observe(tick * tick_ms, demand(tick * tick_ms / 1_000), tick_ms, tick_ms);
            let mut views = [view(100.0)];
            shortfalls.raise(&mut views, 0.99, 1e9);
            upper_rps = views[0].upper_rps;
        }
        upper_rps
    }

    #[test]
    fn spikes_that_nothing_tells_of_are_reckoned_with() {
        // Twenty minutes at 400, one time in twelve hours: far more than a hundredth of the time.
        let spike = |s: u64| if s % 43_200 < 1_200 { 400.0 } else { 100.0 };
        let upper_rps = after(49, spike);
        assert!((350.0..450.0).contains(&upper_rps), "{upper_rps}");
        let seldom = |s: u64| if s % 172_800 < 600 { 400.0 } else { 100.0 };
        assert_eq!(after(49, seldom), 101.0, "less than a hundredth");
    }

    #[test]
    fn a_record_is_kept_however_far_ticks_are_apart() {
        let spike = |s: u64| if s % 43_200 < 1_200 { 400.0 } else { 100.0 };
        for tick_ms in [100, 18_700, 60_000] {
            let upper_rps = after_ticks_of(tick_ms, 49, spike);
            assert!((350.0..450.0).contains(&upper_rps), "{tick_ms} ms: {upper_rps}");
        }
    }

    #[test]
    fn what_is_due_at_a_tick_is_held_against_that_of_this_tick() {
        let tick_ms = 20_000;
        let mut shortfalls = Shortfalls::default();
        for tick in 0..10_000_u64 {
            // Told exactly two ticks ahead, though never the same for long.
            let rps = |tick: u64| if tick.is_multiple_of(3) { 400.0 } else { 100.0 };
            shortfalls.observe(tick * tick_ms, rps(tick), tick_ms, tick_ms);
            let upper_rps = rps(tick + 2) + 1.0;
            let said = HorizonView { horizon_ms: 40_000, upper_rps, ..view(rps(tick + 2)) };
            let mut views = [said];
            shortfalls.raise(&mut views, 0.99, 1e9);
            assert_eq!(views[0].upper_rps, upper_rps, "{tick}");
        }
    }

    #[test]
    fn a_quantile_that_keeps_what_it_says_is_left_alone() {
        let mut shortfalls = Shortfalls::default();
        for tick in 0..20_000_u64 {
            // Above 400, where the upper quantile lies, in one of a hundred cases; mostly at 390.
            let rps = if tick % 6_000 < 60 { 410.0 } else { 390.0 };
            shortfalls.observe(tick * 10_000, rps, 10_000, 10_000);
            let mut views = [HorizonView { upper_rps: 400.0, ..view(100.0) }];
            shortfalls.raise(&mut views, 0.99, 1e9);
            assert_eq!(views[0].upper_rps, 400.0, "{tick}");
        }
    }

    #[test]
    fn an_hour_says_nothing_of_one_in_a_hundred() {
        assert_eq!(after(1, |s| if s < 1_200 { 400.0 } else { 100.0 }), 101.0);
    }

    #[test]
    fn what_grows_with_demand_asks_for_little_where_there_is_little() {
        let mut shortfalls = Shortfalls::default();
        let asked = |shortfalls: &mut Shortfalls, tick: u64, rps: f64| {
            shortfalls.observe(tick * 10_000, rps, 10_000, 10_000);
            let mut views = [view(rps)];
            shortfalls.raise(&mut views, 0.9, 1e9);
            views[0].upper_rps
        };
        let busy = |tick: u64| if tick.is_multiple_of(3) { 1_500.0 } else { 1_000.0 };
        for tick in 0..4_000 {
            asked(&mut shortfalls, tick, busy(tick));
        }
        let quiet_rps = asked(&mut shortfalls, 4_000, 10.0);
        assert!(quiet_rps < 20.0, "{quiet_rps}");
    }

    #[test]
    fn a_truth_that_was_not_seen_says_nothing() {
        let mut shortfalls = Shortfalls::default();
        shortfalls.raise(&mut [view(100.0)], 0.99, 1e9);
        shortfalls.observe(3_600_000, 500.0, 10_000, 10_000);
        assert!(shortfalls.horizons[0].pending.is_empty());
        assert_eq!(shortfalls.horizons[0].absolute.total, 0.0);
    }

    proptest! {
        /// The quantile of the counts is that of the values, to a size.
        #[test]
        fn quantiles_are_those_of_the_values(
            mut values in prop::collection::vec(-1e3f64..1e6, 300..600),
            level in 0.5f64..0.99,
        ) {
            let mut tail = Tail::default();
            values.iter().for_each(|value| tail.add(*value, 1.0));
            values.sort_by(f64::total_cmp);
            let told = tail.quantile(level).expect("there are enough");
            let share = |factor: f64| {
                let below = values.partition_point(|value| value.max(0.0) <= factor * told);
                below as f64 / values.len() as f64
            };
            let one = 1.0 / values.len() as f64;
            prop_assert!(share(1.25) >= level - one && share(0.8) <= level + one, "{told}");
        }

        /// No value, however odd, makes more of it than a number.
        #[test]
        fn no_value_does_harm(values in prop::collection::vec(any::<f64>(), 300)) {
            let mut tail = Tail::default();
            values.iter().for_each(|value| tail.add(*value, 0.999));
            let told = tail.quantile(0.99).expect("there are enough");
            prop_assert!(told.is_finite() && (0.0..=2e9).contains(&told), "{told}");
        }
    }
}
