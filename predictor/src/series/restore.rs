//! A forecaster is written as it is, and read back only if one can have written it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Forecaster;
use crate::check::{self, Checked};
use crate::window::MAX_VALUE;

impl Serialize for Forecaster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Forecaster {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(deserializer)?;
        let damaged = |fault| serde::de::Error::custom(format_args!("damaged forecaster: {fault}"));
        read.check().map_err(damaged).map(|()| read)
    }
}

impl Forecaster {
    fn check(&self) -> Checked {
        check::same("spec", &self.spec, &self.spec.sanitised())?;
        check::part("window", self.window.check())?;
        check::part("level", self.level.check())?;
        let signals = self.signals.count();
        check::part("signals", self.signals.check(self.spec.horizons_ms.len()))?;
        check::part("experts", self.experts.check(&self.spec, signals > 0))?;
        check::part("forecast", self.forecast.check(&self.spec))?;
        check::same("horizons.len", &self.horizons.len(), &self.spec.horizons_ms.len())?;
        for (at, horizon) in self.horizons.iter().enumerate() {
            let found = horizon.check(&self.spec, at, &self.experts, signals);
            check::part(format_args!("horizons[{at}]"), found)?;
        }
        check::count("step", self.step, 0, check::MOST_STEPS)?;
        check::count("changed_at", self.changed_at, 0, self.step)?;
        check::count("jumped_at", self.jumped_at, 0, self.step)?;
        check::count("woke_at", self.woke_at, 0, self.step)?;
        check::within("peak", self.peak, 0.0, check::MOST)?;
        check::within("peak_keep", self.peak_keep, 0.0, 1.0)?;
        check::within("size", self.size, 1e-3, check::MOST)?;
        check::within("last", self.last, 0.0, MAX_VALUE)?;
        check::count("second_steps", self.second_steps as u64, 1, 1 << 20)?;
        check::count("minute_steps", self.minute_steps as u64, 1, 1 << 20)
    }
}
