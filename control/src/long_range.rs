//! The forecast from kept history: minutes to an hour ahead, told from outside, and believed as far
//! as its own record goes.
//!
//! It knows the time of day, which the forecaster of the tick does not; that one knows the last
//! seconds. So within that one's horizons the two are averaged where they agree, and the higher
//! counts where they do not, until it is known which way of joining them serves best; beyond them what
//! is told gains weight with distance. What is told is
//! first scaled to the day: where demand is a third above what was expected of now, so are the next
//! minutes, and less and less of it later.
//!
//! Whatever was told is compared with what came, horizon by horizon, before the laws lean on it: a
//! horizon without a record may prepare and warm but not commit, and one that did worse than
//! "same as now" says nothing until it does better.

mod merge;
mod span;
mod spread;
mod told;
mod track;

use serde::{Deserialize, Serialize};

use crate::demand::DemandHorizon;
use crate::{HorizonView, LongRangeScore, QuantileSpec};
use merge::Merge;
use span::Chance;
pub use told::Told;
use track::{Track, Voice};

/// Points listened to; a longer list is cut.
const MOST_POINTS: usize = 24;
/// Points farther ahead than this are left out: no step takes so long.
const FARTHEST_MS: u64 = 6 * 3_600_000;
/// Time constant of the demand that points are scaled to and compared with: a minute is what the
/// kept history resolves.
const SMOOTHING_MS: f64 = 30_000.0;
/// Time constant at which the highest demand is forgotten: what a day brings, it may bring again.
const PEAK_MEMORY_MS: f64 = 2.0 * 86_400_000.0;
/// Nothing above this multiple of the highest demand of the last days is believed.
const CREDIBLE: f64 = 2.0;
/// Demand allowed on top of it, so that a service that was idle may be forecast at all.
const CREDIBLE_START_RPS: f64 = 10.0;
/// The scale is taken to be at most this, either way; and requests per second that both sides of
/// it are given, so that a ratio of small numbers says little.
const MOST_SCALE: f64 = 2.0;
const SCALE_START_RPS: f64 = 5.0;
/// How far ahead half of the scale is left.
const SCALE_HALF_MS: f64 = 900_000.0;
/// Between two points, more growth than this is a rise.
const RISE: f64 = 1.1;

/// What was told, and how that came true.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LongRange {
    /// Demand, smoothed over the last half minute.
    smoothed_rps: f64,
    peak_rps: f64,
    /// By increasing horizon; one for each that is told.
    tracks: Vec<Track>,
    /// What is told in this tick, scaled and within what is credible.
    told: Vec<DemandHorizon>,
    /// By increasing horizon of the forecaster: how best to bring in what is told.
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    now_ms: u64,
    /// Whether that is done by its record.
    #[serde(default)]
    by_record: bool,
    /// Time between two ticks.
    #[serde(default)]
    tick_ms: u64,
    /// What a mean over less than a minute varies more than one over a minute.
    #[serde(default)]
    chance: Chance,
}

impl LongRange {
    /// Takes the demand of this tick and what is told of the time to come; an empty list where
    /// nothing is. A point at horizon 0 says what was expected of now.
    pub(crate) fn observe(
        &mut self,
        now_ms: u64,
        now_rps: f64,
        elapsed_ms: u64,
        told: &[DemandHorizon],
        quantiles: &QuantileSpec,
    ) {
        self.now_ms = now_ms;
        for merge in &mut self.merges {
            merge.settle(now_ms, self.tick_ms, now_rps, quantiles);
        }
        let elapsed_ms = elapsed_ms as f64;
        if self.peak_rps <= 0.0 {
            self.smoothed_rps = now_rps;
        }
        self.smoothed_rps +=
            elapsed_ms / (elapsed_ms + SMOOTHING_MS) * (now_rps - self.smoothed_rps);
        let faded = self.peak_rps * PEAK_MEMORY_MS / (PEAK_MEMORY_MS + elapsed_ms);
        self.peak_rps = faded.max(self.smoothed_rps).max(f64::MIN_POSITIVE);
        for track in &mut self.tracks {
            track.settle(now_ms, self.tick_ms, self.smoothed_rps, quantiles);
        }
        self.told = self.credible(told);
        let most_rps = self.most_rps();
        for point in &mut self.told {
            let place = |tracks: &[Track]| {
                tracks.binary_search_by_key(&point.horizon_ms, |track| track.horizon_ms)
            };
            let mut found = place(&self.tracks);
            if found.is_err() && self.tracks.len() >= MOST_POINTS {
                // A record outlasts times in which nothing is told, such as a restart, until its
                // place is asked for.
                let of_use = |t: &Track| {
                    !t.pending.is_empty() || told.iter().any(|p| p.horizon_ms == t.horizon_ms)
                };
                self.tracks.retain(of_use);
                found = place(&self.tracks);
            }
            let at = match found {
                Ok(at) => at,
                // Horizons that change all the time get no record, and so never commit.
                Err(_) if self.tracks.len() >= MOST_POINTS => continue,
                Err(at) => {
                    self.tracks.insert(at, Track::new(point.horizon_ms));
                    at
                }
            };
            *point = self.tracks[at].say(*point, now_ms, self.smoothed_rps, most_rps);
        }
    }

    /// The most that is believed.
    fn most_rps(&self) -> f64 {
        CREDIBLE * self.peak_rps + CREDIBLE_START_RPS
    }

    /// The points that can be calculated with, in order, scaled to the day.
    fn credible(&self, told: &[DemandHorizon]) -> Vec<DemandHorizon> {
        let sound = |p: &&DemandHorizon| {
            [p.lower_rps, p.median_rps, p.upper_rps]
                .iter()
                .all(|rps| rps.is_finite() && *rps >= 0.0)
        };
        let told: Vec<&DemandHorizon> = told.iter().take(MOST_POINTS).filter(sound).collect();
        let expected_now = told.iter().find(|p| p.horizon_ms == 0).map(|p| p.median_rps);
        let scale = expected_now.map_or(1.0, |expected_rps| {
            (self.smoothed_rps + SCALE_START_RPS) / (expected_rps + SCALE_START_RPS)
        });
        let scale = scale.clamp(1.0 / MOST_SCALE, MOST_SCALE);
        let most = self.most_rps();
        let mut points: Vec<DemandHorizon> = told
            .into_iter()
            .filter(|p| (1..=FARTHEST_MS).contains(&p.horizon_ms))
            .map(|p| {
                let left = SCALE_HALF_MS / (SCALE_HALF_MS + p.horizon_ms as f64);
                let scaled = |rps: f64| (rps * (1.0 + (scale - 1.0) * left)).min(most);
                let lower_rps = scaled(p.lower_rps);
                let median_rps = scaled(p.median_rps).max(lower_rps);
                let upper_rps = scaled(p.upper_rps).max(median_rps);
                DemandHorizon { horizon_ms: p.horizon_ms, lower_rps, median_rps, upper_rps }
            })
            .collect();
        points.sort_by_key(|p| p.horizon_ms);
        points.dedup_by_key(|p| p.horizon_ms);
        points
    }

    /// Says how far ticks are apart, and whether what is told joins the forecaster's horizons in the
    /// way that has served best, instead of by a fixed rule. That pays where an upper quantile commits:
    /// a lower bound waits for a rise that history tells until it has come for the most part of a minute.
    pub(crate) fn set(&mut self, tick_ms: u64, by_record: bool) {
        self.tick_ms = tick_ms;
        self.by_record = by_record;
    }

    /// Says what chance adds to means over less than what the kept history resolves.
    pub(crate) fn vary(&mut self, levels: &QuantileSpec, dispersion: f64) {
        self.chance = Chance::new(levels, dispersion);
    }

    /// Joins `horizons` with what is told of their time, and adds what is told beyond the last of
    /// them, as far as it is believed.
    ///
    /// Within them that is done in the way that has served best (`merge`). Until that is known, median
    /// and upper quantile are averaged where both agree, that is where the median told lies in the band of
    /// the forecaster (Vincent averaging; Lichtendahl, Grushka-Cockayne and Winkler 2013): the higher of
    /// two bands would be too wide. Else the higher counts: a rise at a certain time of day shows in no
    /// arrivals before, and the kept history does not know when in its minute it comes, so it is expected
    /// from the first point at or after the horizon on. Beyond them, at twice the last what is told counts
    /// half, at ten times nine tenths.
    pub(crate) fn extend(&mut self, horizons: &mut Vec<HorizonView>) {
        for near in horizons.iter_mut() {
            let Some(point) = self.told.iter().find(|p| p.horizon_ms >= near.horizon_ms).copied()
            else {
                break;
            };
            let voice = self.voice(point.horizon_ms);
            let best = self.merged(near, &point);
            if let Some(best) = best.filter(|_| self.by_record && voice == Voice::Full) {
                *near = best;
                continue;
            }
            if voice == Voice::Full && near.holds(point.median_rps) {
                near.average(&point);
                continue;
            }
            if voice == Voice::Full {
                near.lower_rps = near.lower_rps.max(point.lower_rps);
            }
            if voice != Voice::None {
                near.median_rps = near.median_rps.max(point.median_rps);
                near.upper_rps = near.upper_rps.max(point.upper_rps);
            }
        }
        let last = horizons.last().cloned();
        let last_ms = last.as_ref().map_or(0, |h| h.horizon_ms);
        for point in self.told.iter().filter(|p| p.horizon_ms > last_ms) {
            let spread = self.chance.of_part(*point);
            let added = match (self.voice(point.horizon_ms), &last) {
                (Voice::None, _) => continue,
                (voice, Some(last)) => blended(last, &spread, voice),
                (voice, None) => alone(&spread, voice),
            };
            // When a rise comes between two points is not known: it may be right after the first.
            let before = horizons.last().cloned();
            if let Some(rise) = before.and_then(|before| early(&before, &added)) {
                horizons.push(rise);
            }
            horizons.push(added);
        }
    }

    /// What the best way of joining both says; none while there is no record of that.
    fn merged(&mut self, near: &HorizonView, point: &DemandHorizon) -> Option<HorizonView> {
        let at = self.merges.partition_point(|m| m.horizon_ms < near.horizon_ms);
        if self.merges.get(at).is_none_or(|m| m.horizon_ms != near.horizon_ms) {
            if self.merges.len() >= MOST_POINTS {
                return None;
            }
            self.merges.insert(at, Merge::new(near.horizon_ms));
        }
        let merge = &mut self.merges[at];
        merge.keep(near, point, self.now_ms);
        merge.best(near, point)
    }

    fn voice(&self, horizon_ms: u64) -> Voice {
        let track = self.tracks.iter().find(|t| t.horizon_ms == horizon_ms);
        track.map_or(Voice::Unproven, Track::voice)
    }

    /// How what was told turned out, by increasing horizon.
    pub(crate) fn scores(&self) -> Vec<LongRangeScore> {
        self.tracks.iter().map(Track::score).collect()
    }

    /// Time passed unseen: what waits for a truth in it will not meet one.
    pub(crate) fn rest(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.pending.clear());
        self.merges.iter_mut().for_each(Merge::dismiss);
        self.told.clear();
    }
}

/// A point beyond the forecaster's last horizon, which still counts for its share of the way.
/// Without a record no more is surely to come than that one says.
fn blended(last: &HorizonView, point: &DemandHorizon, voice: Voice) -> HorizonView {
    let near = last.horizon_ms as f64 / point.horizon_ms as f64;
    let blend = |near_rps: f64, far_rps: f64| near * near_rps + (1.0 - near) * far_rps;
    let mut lower_rps = blend(last.lower_rps, point.lower_rps);
    if voice == Voice::Unproven {
        lower_rps = lower_rps.min(last.lower_rps);
    }
    let median_rps = blend(last.median_rps, point.median_rps).max(lower_rps);
    let upper_rps = blend(last.upper_rps, point.upper_rps).max(median_rps);
    HorizonView { horizon_ms: point.horizon_ms, lower_rps, median_rps, upper_rps }
}

/// A rise from one horizon to the next, as if it came at once.
fn early(before: &HorizonView, after: &HorizonView) -> Option<HorizonView> {
    let horizon_ms = before.horizon_ms + 1;
    let rises =
        after.upper_rps > RISE * before.upper_rps || after.lower_rps > RISE * before.lower_rps;
    (rises && horizon_ms < after.horizon_ms).then(|| HorizonView {
        horizon_ms,
        lower_rps: before.lower_rps.max(after.lower_rps),
        median_rps: before.median_rps.max(after.median_rps),
        upper_rps: before.upper_rps.max(after.upper_rps),
    })
}

impl HorizonView {
    fn holds(&self, rps: f64) -> bool {
        (self.lower_rps..=self.upper_rps).contains(&rps)
    }

    fn average(&mut self, told: &DemandHorizon) {
        self.lower_rps = self.lower_rps.max(told.lower_rps);
        self.median_rps = f64::midpoint(self.median_rps, told.median_rps).max(self.lower_rps);
        self.upper_rps = f64::midpoint(self.upper_rps, told.upper_rps).max(self.median_rps);
    }
}

/// A point where the forecaster of the tick says nothing.
fn alone(point: &DemandHorizon, voice: Voice) -> HorizonView {
    let lower_rps = if voice == Voice::Full { point.lower_rps } else { 0.0 };
    let DemandHorizon { horizon_ms, median_rps, upper_rps, .. } = *point;
    HorizonView { horizon_ms, lower_rps, median_rps, upper_rps }
}

#[cfg(test)]
mod tests;
