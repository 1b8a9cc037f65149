//! Changes of the server itself, told from a fuller one.

use super::{CapacityModel, MANY};
use crate::estimate::Estimate;
use crate::latency::{Change, Former, Jump, Service};
use crate::queueing::service_time_ms;

/// After an abrupt change an instance is an individual for this many windows.
const APART_WINDOWS: u32 = 60;
/// A latency that changes by this factor at unchanged throughput is a change of the server.
const ABRUPT: f64 = 1.3;
/// And by so many standard deviations of what latency wavers by.
const WAVER_DEVIATIONS: f64 = 3.0;
/// By so many it is believed at once, by less when the next window says so, too.
const PLAIN_DEVIATIONS: f64 = 5.0;

impl CapacityModel {
    /// Latency that jumps at unchanged throughput, and stays, means slower (or faster again) slots,
    /// not fuller ones: capacity scales with the service time that explains it. Whether it stays
    /// the next window says; until then nothing is learned, and a jump that did not was wavering.
    pub(super) fn follow_abrupt_change(&mut self, now: Former, count: f64) -> Change {
        let Some(before) = self.jumped.map(|jump| jump.before).or(self.former) else {
            return Change::None;
        };
        let Some(service) = self.service else { return Change::None };
        let jump = self.jumped.take();
        if !self.is_jump(before, now, count) {
            if let Some(jump) = jump {
                self.waver.observe(libm::log(jump.latency_ms / before.latency_ms), 0.0);
            }
            return Change::None;
        }
        let size = libm::log(now.latency_ms / before.latency_ms).abs();
        let is_plain = count >= MANY && size > PLAIN_DEVIATIONS * self.waver.variance().sqrt();
        if jump.is_none() && !is_plain {
            self.jumped = Some(Jump { before, latency_ms: now.latency_ms });
            return Change::Suspected;
        }
        let known_rps = self.known_saturation_rps();
        let slots = known_rps * service.mean_ms / 1_000.0;
        let changed_ms = service_time_ms(now.latency_ms, now.rps, slots, self.variability());
        let scale = service.mean_ms / changed_ms;
        self.service = Some(Service { mean_ms: changed_ms, seen_at_rps: now.rps, windows: 3.0 });
        self.unsaturated_rps *= scale;
        self.proven_rps *= scale.min(1.0);
        if scale < 1.0 && self.identified().is_none() {
            // A change tells little of where the limit was, but that it is another one now.
            self.saturation = Some(Estimate::new(known_rps, 0.2));
        }
        if let Some(saturation) = &mut self.saturation {
            saturation.scale(scale, 0.05);
        }
        self.apart_windows = APART_WINDOWS;
        self.processor.forget();
        Change::Confirmed
    }

    fn is_jump(&self, before: Former, now: Former, count: f64) -> bool {
        let busy = before.rps > 0.85 * self.known_saturation_rps();
        let young = self.service.is_none_or(|s| s.windows < 3.0);
        let chance = 6.0 * (self.noise / count).sqrt();
        let wavers = WAVER_DEVIATIONS * self.waver.variance().sqrt();
        let (latency_ms, before_ms) = (now.latency_ms, before.latency_ms);
        let noise_ms = latency_ms.min(before_ms) * chance.max(wavers);
        if before.saturated || busy || young || (latency_ms - before_ms).abs() < noise_ms {
            return false;
        }
        (latency_ms > ABRUPT * before_ms && now.rps < 1.1 * before.rps)
            || (latency_ms * ABRUPT < before_ms && now.rps > 0.9 * before.rps)
    }
}
