//! What speaks for a failure, each kind bounded, and how the kinds are put together.
//!
//! Evidence is a number from 0 to 1 times the log-odds it is worth; log-odds of independent
//! evidence add up (logistic regression; Good 1950). Kinds that show the same trouble are not
//! independent: of each such family the strongest counts fully, the next half, the next a quarter. The
//! worths below are judgements, made so that
//! no single kind but exhaustion, refused connections, plain errors or a latency of several times
//! the usual raises an alarm alone. What became of earlier scores corrects their sum
//! (`calibration`).

use super::drift::Deviation;
use super::reported::Odd;
use super::robust::ramp;
use super::surprise::Surprised;
use super::trend::Line;
use super::watch::Watch;
use crate::{Contributor, Exhaustion, ResourceSample, RiskAssessment, RiskSignal};

/// Log-odds of a failure within five minutes of an instance that nothing speaks against.
pub(crate) const BASE_LOG_ODDS: f64 = -5.5;
/// The same within half a minute.
pub(super) const SOON_LOG_ODDS: f64 = -6.5;
/// An alarm begins at this probability within five minutes, and ends at that one.
pub(crate) const RAISE: f64 = 0.5;
pub(crate) const CLEAR: f64 = 0.2;
/// Contributors named at most, and the least of the log-odds that is named.
const MOST_NAMED: usize = 4;
const LEAST_NAMED: f64 = 0.1;
/// What comparisons are worth for an instance that has nobody to be compared with.
pub(super) const ALONE: f64 = 0.5;

/// One kind of drift: what it is, from which factor to which it counts, what it is worth, and the
/// spread of its logarithm below which it is noise.
pub(super) struct DriftKind {
    pub(super) what: RiskSignal,
    from: f64,
    to: f64,
    worth: f64,
    pub(super) least_spread: f64,
}

/// In the order of [`Watch::drifts`]. Factors 1.25 to 2.5, 2 to 6, 1.25 to 3 and 2 to 8.
pub(super) const DRIFTS: [DriftKind; 4] = [
    DriftKind { what: RiskSignal::Latency, from: 0.22, to: 0.92, worth: 6.0, least_spread: 0.05 },
    DriftKind { what: RiskSignal::InFlight, from: 0.69, to: 1.79, worth: 5.0, least_spread: 0.15 },
    DriftKind { what: RiskSignal::Throughput, from: 0.22, to: 1.1, worth: 4.0, least_spread: 0.05 },
    DriftKind {
        what: RiskSignal::Retransmits,
        from: 0.69,
        to: 2.08,
        worth: 2.0,
        least_spread: 0.3,
    },
];
/// Robust standard deviations from which a drift counts, and from which it counts fully.
const NOTABLE: f64 = 4.0;
const CERTAIN: f64 = 8.0;
const ERRORS: f64 = 6.5;
const CONNECT_ERRORS: f64 = 7.0;
const FLAPS: f64 = 3.0;
const EXHAUSTION: f64 = 7.5;
const LITTLE_LEFT: f64 = 6.0;
/// A resource that is nearly used up and not being used up further counts for this part.
const STEADY: f64 = 0.3;
const STALLS: f64 = 3.0;
const CPU: f64 = 0.5;

/// Kinds that show the same trouble: slowness, failed requests, a resource that runs out.
const FAMILIES: [&[RiskSignal]; 4] = [
    &[RiskSignal::Latency, RiskSignal::InFlight, RiskSignal::Throughput],
    &[RiskSignal::Errors, RiskSignal::ConnectErrors],
    &[RiskSignal::MemoryTrend, RiskSignal::MemoryLeft],
    &[RiskSignal::DiskTrend, RiskSignal::DiskLeft],
];

/// What is odd of one instance beyond its peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Drifts of seconds, and of minutes, in the order of [`DRIFTS`].
    pub(super) quick: [Option<Deviation>; 4],
    pub(super) slow: [Option<Deviation>; 4],
    /// The most surprising metric that it reports.
    pub(super) odd: Option<Odd>,
}

/// Evidence of one kind.
#[derive(Clone, Debug)]
struct Piece {
    what: RiskSignal,
    /// Log-odds within five minutes, and within half a minute.
    log_odds: f64,
    soon_log_odds: f64,
    text: String,
}

/// All evidence against one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pieces: Vec<Piece>,
    pub(super) exhaustion: Option<Exhaustion>,
}

/// What an instance's peers are like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peers {
    /// Share of requests that may fail: what fails of theirs, or the objective.
    pub(super) failed: f64,
    pub(super) unconnected: f64,
    pub(super) stalled: f64,
    /// Whether there are any.
    pub(super) any: bool,
}

impl Evidence {
    /// Against one instance.
    pub(super) fn of(watch: &Watch, findings: &Findings, peers: Peers) -> Self {
        let mut evidence = Self::default();
        let compared = if peers.any { 1.0 } else { ALONE };
        for (kind, of) in DRIFTS.iter().zip(findings.quick.iter().zip(&findings.slow)) {
            evidence.drift(kind, of, compared);
        }
        if let Some(odd) = &findings.odd {
            evidence.reported(odd, compared);
        }
        evidence.failures(watch, peers, compared);
        let flaps = watch.flaps;
        evidence.add(RiskSignal::Flaps, FLAPS * ramp(flaps, 0.5, 3.0), || {
            format!("went down or was ejected {flaps:.1} times lately, fading over 5 min")
        });
        if let Some(resources) = &watch.resources {
            evidence.resources(watch, resources, peers);
        }
        evidence.discount();
        evidence
    }

    /// Orders the pieces, the strongest first, and counts those of one family less and less.
    pub(super) fn discount(&mut self) {
        self.sort();
        for family in FAMILIES {
            let mut part = 1.0;
            for piece in self.pieces.iter_mut().filter(|piece| family.contains(&piece.what)) {
                piece.log_odds *= part;
                piece.soon_log_odds *= part;
                part *= 0.5;
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.pieces.sort_by(|a, b| b.log_odds.total_cmp(&a.log_odds).then(a.what.cmp(&b.what)));
    }

    pub(super) fn add(&mut self, what: RiskSignal, log_odds: f64, text: impl FnOnce() -> String) {
        self.add_both(what, log_odds, log_odds, text);
    }

    fn add_both(&mut self, what: RiskSignal, far: f64, soon: f64, text: impl FnOnce() -> String) {
        if far > 0.0 || soon > 0.0 {
            let text = if far >= LEAST_NAMED { text() } else { String::new() };
            self.pieces.push(Piece { what, log_odds: far, soon_log_odds: soon, text });
        }
    }

    /// The stronger of a quick and a slow drift.
    fn drift(
        &mut self,
        kind: &DriftKind,
        (quick, slow): (&Option<Deviation>, &Option<Deviation>),
        compared: f64,
    ) {
        let worth = |deviation: &Deviation| {
            let sure = ramp(deviation.spreads, NOTABLE, CERTAIN);
            compared * kind.worth * sure * ramp(deviation.size, kind.from, kind.to)
        };
        let worth = |of: &Option<Deviation>| of.as_ref().map(|of| (worth(of), *of));
        let slower = worth(slow);
        let is_slow = slower.is_some_and(|slow| worth(quick).is_none_or(|quick| slow.0 > quick.0));
        let stronger = if is_slow { slower } else { worth(quick) };
        let Some((worth, deviation)) = stronger else { return };
        self.add(kind.what, worth, || {
            let what = match kind.what {
                RiskSignal::Latency => "latency",
                RiskSignal::InFlight => "time requests spend in it",
                RiskSignal::Throughput => "requests sent per answer",
                _ => "segments sent again per request",
            };
            format!(
                "{what} is {:.1} times its own past{} beyond its peers', {:.0} spreads",
                libm::exp(deviation.size.min(20.0)),
                if is_slow { " of an hour" } else { "" },
                deviation.spreads.min(1e3)
            )
        });
    }

    /// What is told of metrics that mean nothing to anybody here.
    fn reported(&mut self, odd: &Odd, compared: f64) {
        let Surprised { spreads, lasts, rises, .. } = odd.surprised;
        let notable = Surprised { spreads: NOTABLE, ..odd.surprised };
        let worth = compared * (odd.surprised.log_odds() - notable.log_odds());
        self.add(RiskSignal::Reported, worth, || {
            format!(
                "{} that it reports {} {:.0} spreads {} its own past beyond its peers'",
                odd.name,
                if lasts { "stays" } else { "is" },
                spreads.min(1e3),
                if rises { "above" } else { "below" }
            )
        });
    }

    fn failures(&mut self, watch: &Watch, peers: Peers, compared: f64) {
        let failures = &watch.failures;
        let excess = |share: f64, allowed: f64| {
            let chance = (allowed.max(0.01) / failures.asked.max(1.0)).sqrt();
            (share - allowed, ramp((share - allowed) / chance, 3.0, 6.0))
        };
        if failures.asked < 10.0 || failures.failed() < 4.0 {
            return;
        }
        let unconnected = failures.unconnected_share();
        let (size, sure) = excess(unconnected, peers.unconnected);
        let worth = compared * CONNECT_ERRORS * sure * ramp(size, 0.0, 0.25);
        self.add(RiskSignal::ConnectErrors, worth, || {
            let peers = peers.unconnected * 100.0;
            format!("{:.1}% of connections fail, {peers:.1}% of its peers'", unconnected * 100.0)
        });
        let (size, sure) = excess(failures.share(), peers.failed);
        let heading = size.max(failures.heading() - peers.failed);
        let worth = compared * ERRORS * sure * ramp(heading, 0.0, 0.25);
        self.add(RiskSignal::Errors, worth, || {
            format!(
                "{:.1}% of its requests fail, heading for {:.1}%, where {:.1}% are allowed",
                failures.share() * 100.0,
                failures.heading() * 100.0,
                peers.failed * 100.0
            )
        });
    }

    fn resources(&mut self, watch: &Watch, resources: &ResourceSample, peers: Peers) {
        let memory = (resources.memory_bytes, resources.memory_limit_bytes);
        self.exhaustion(RiskSignal::MemoryTrend, memory, watch.memory.line());
        let disk = (resources.disk_bytes, resources.disk_limit_bytes);
        self.exhaustion(RiskSignal::DiskTrend, disk, watch.disk.line());
        let stalled = stalled_share(resources);
        self.add(RiskSignal::Stalls, STALLS * ramp(stalled - peers.stalled, 0.1, 0.5), || {
            let peers = peers.stalled * 100.0;
            format!(
                "waits for memory or disk {:.0}% of the time, peers {peers:.0}%",
                stalled * 100.0
            )
        });
        let cores = resources.cpu_cores.zip(resources.cpu_limit_cores).filter(|(_, of)| *of > 0.0);
        if let Some((used, limit)) = cores {
            self.add(RiskSignal::Cpu, CPU * ramp(used / limit, 0.9, 1.0), || {
                format!("uses {:.0}% of its processors", used / limit * 100.0)
            });
        }
    }

    fn exhaustion(
        &mut self,
        trend: RiskSignal,
        (used, limit): (Option<u64>, Option<u64>),
        line: Option<Line>,
    ) {
        let (Some(used), Some(limit)) = (used, limit.filter(|limit| *limit > 0)) else { return };
        let share = used as f64 / limit as f64;
        let left = (limit as f64 - used as f64).max(0.0);
        let (name, little) = match trend {
            RiskSignal::DiskTrend => ("disk", RiskSignal::DiskLeft),
            _ => ("memory", RiskSignal::MemoryLeft),
        };
        // An instance that is still filling its caches grows fast and is far from its limit.
        let near = ramp(share, 0.4, 0.6);
        let within =
            |ms: u64| near * line.map_or(0.0, |line| line.exhausts_within(left, ms as f64));
        let far = EXHAUSTION * within(RiskAssessment::HORIZON_MS);
        let soon = EXHAUSTION * within(RiskAssessment::SOON_MS);
        let times = line.and_then(|line| line.time_left_ms(left));
        self.add_both(trend, far, soon, || {
            let (likely, soonest, latest) = times.unwrap_or_default();
            let latest = latest.map_or("never".to_owned(), |ms| format!("{:.0} s", ms / 1e3));
            let (likely, soonest) = (likely / 1e3, soonest / 1e3);
            format!(
                "{name} is {:.0}% used and exhausted in {likely:.0} s, between {soonest:.0} s and \
                 {latest}",
                share * 100.0
            )
        });
        let grows = line.is_some_and(|line| line.lower > 0.0);
        let part = if grows { 1.0 } else { STEADY };
        self.add(little, LITTLE_LEFT * part * ramp(share, 0.85, 0.95), || {
            format!("{:.0}% of its {name} is used", share * 100.0)
        });
        if let Some((likely, soonest, latest)) = times
            && grows
            && self.exhaustion.is_none_or(|known| likely < known.in_ms as f64)
        {
            self.exhaustion = Some(Exhaustion {
                what: trend,
                in_ms: likely as u64,
                soonest_ms: soonest as u64,
                latest_ms: latest.map(|ms| ms as u64),
            });
        }
    }

    /// Log-odds of a failure within five minutes, and within half a minute.
    pub(super) fn log_odds(&self) -> (f64, f64) {
        self.pieces.iter().fold((BASE_LOG_ODDS, SOON_LOG_ODDS), |(far, soon), piece| {
            (far + piece.log_odds, soon + piece.soon_log_odds)
        })
    }

    /// Log-odds of what is measured now, trends into the future left out.
    pub(super) fn measured(&self) -> f64 {
        let is_trend = |what| matches!(what, RiskSignal::MemoryTrend | RiskSignal::DiskTrend);
        let measured = self.pieces.iter().filter(|piece| !is_trend(piece.what));
        measured.map(|piece| piece.log_odds).sum()
    }

    /// Whether most of it is seen without requests: a resource that is used up.
    pub(super) fn is_seen_idle(&self) -> bool {
        use RiskSignal::{DiskLeft, DiskTrend, MemoryLeft, MemoryTrend};
        let first = self.pieces.first().map(|piece| piece.what);
        matches!(first, Some(MemoryTrend | MemoryLeft | DiskTrend | DiskLeft))
    }

    pub(super) fn contributors(&self) -> Vec<Contributor> {
        let total: f64 = self.pieces.iter().map(|piece| piece.log_odds).sum();
        let named = self.pieces.iter().filter(|piece| piece.log_odds >= LEAST_NAMED);
        named
            .take(MOST_NAMED)
            .map(|piece| Contributor {
                what: piece.what,
                evidence: piece.text.clone(),
                share: piece.log_odds / total,
            })
            .collect()
    }
}

/// Share of the time in which an instance waits for memory or a disk; a wait of only some of it
/// counts half.
pub(super) fn stalled_share(resources: &ResourceSample) -> f64 {
    let share = |share: Option<f64>| share.filter(|s| (0.0..=1.0).contains(s)).unwrap_or(0.0);
    let full = share(resources.memory_full_share).max(share(resources.io_full_share));
    let some = share(resources.memory_some_share).max(share(resources.io_some_share));
    full.max(0.5 * some)
}
