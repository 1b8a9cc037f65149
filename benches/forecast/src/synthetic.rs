//! Series made up from a fixed seed, for where no recorded ones are at hand.

use std::collections::BTreeMap;

use crate::catalogue::{TRACES_VARIABLE, load_all, traces_dir};
use crate::parse::TraceError;
use crate::trace::Trace;

/// A Monday's midnight.
const START_MS: i64 = 1_704_067_200_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: f64 = 24.0 * HOUR_MS as f64;

/// The recorded traces if their folder is named, else made-up ones, and which of them it is.
///
/// # Errors
///
/// See [`load_all`].
pub fn load_or_make() -> Result<(Vec<Trace>, String), TraceError> {
    match traces_dir() {
        Some(dir) => Ok((load_all(&dir)?, "recorded".to_owned())),
        None => {
            Ok((make(), format!("made up: {TRACES_VARIABLE} names no folder of recorded ones")))
        }
    }
}

/// A fortnight of minutes and twelve weeks of hours of each kind, half an hour of tenths of a second.
fn make() -> Vec<Trace> {
    let mut noise = Noise(7);
    let kinds: BTreeMap<&str, fn(f64) -> f64> = BTreeMap::from([
        ("daily", daily as fn(f64) -> f64),
        ("weekly", weekly),
        ("clocked surges", surges),
    ]);
    let mut traces = vec![];
    for (kind, rate) in kinds {
        for (step_ms, steps, unit) in [
            (MINUTE_MS, 14 * 1_440, "minutes"),
            (HOUR_MS, 84 * 24, "hours"),
            (100, 18_000, "tenths"),
        ] {
            let value = |step: usize| {
                let rate = rate(step as f64 * step_ms as f64);
                Some(
                    (rate + (rate * 1_000.0 / step_ms.min(1_000) as f64).sqrt() * noise.next())
                        .max(0.0),
                )
            };
            let values = (0..steps).map(value).collect();
            let name = format!("made up/{kind}, {unit}");
            traces.push(Trace { name, start_ms: START_MS, step_ms, values });
        }
    }
    traces
}

/// A morning rush steeper than the evening's decline, in requests per second.
fn daily(at_ms: f64) -> f64 {
    let phase = (at_ms / DAY_MS).fract();
    let rush = if phase < 0.4 { phase / 0.4 } else { 1.0 - (phase - 0.4) / 0.6 };
    100.0 + 400.0 * rush * rush
}

/// The same, and a third of it at weekends.
fn weekly(at_ms: f64) -> f64 {
    let weekend = (at_ms / DAY_MS) as u64 % 7 >= 5;
    daily(at_ms) * if weekend { 0.33 } else { 1.0 }
}

/// The same, and four minutes of surge at the start of every hour.
fn surges(at_ms: f64) -> f64 {
    let surging = (at_ms / HOUR_MS as f64).fract() < 4.0 / 60.0;
    daily(at_ms) + if surging { 300.0 } else { 0.0 }
}

/// SplitMix64 (Steele, Lea & Flood 2014), summed to nearly normal noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_is_the_same_every_time_and_of_every_length() {
        let traces = make();
        assert_eq!(traces, make());
        assert_eq!(traces.len(), 9);
        let known =
            |trace: &Trace| trace.values.iter().all(|value| value.is_some_and(|v| v >= 0.0));
        assert!(traces.iter().all(known));
        let hours: Vec<_> = traces.iter().filter(|trace| trace.step_ms == HOUR_MS).collect();
        assert!(hours.iter().all(|trace| trace.values.len() == 2_016));
    }
}
