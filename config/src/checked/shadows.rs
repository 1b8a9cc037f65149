//! Where a service's shadow instances come from.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshadow_control::{Kept, PlaceName, PlaceSpec, PoolSpec, SizingSpec};
use serde::{Serialize, Serializer};

use super::Provider;
use crate::units;

/// The shadow instances of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadows {
    /// Where they can be made, at least one, ordered by name.
    pub places: Vec<Place>,
    /// Whether the places have names in the file; else there is one, [`PlaceName::default`].
    pub are_named: bool,
    /// How many are kept ready; figures that are shares of the primaries as they come out for those of
    /// the file.
    pub pool: PoolSpec,
    /// What moves these figures.
    pub sizing: SizingSpec,
    /// Copies of requests that warm shadows get.
    pub mirror: Mirror,
    /// What becomes of them when Foreshadow ends.
    pub on_exit: OnExit,
}

/// A place in which shadows can be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Its name, distinct within the service.
    #[serde(skip)]
    pub name: PlaceName,
    /// What makes them there.
    pub provider: Provider,
    /// The zone they run in; empty when the file names none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Shadows of the service there at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Shadows that it is known to have room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare: Option<u32>,
    /// What a full shadow costs there per hour, where the file says it of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<f64>,
    /// Time that a request takes to there and back.
    #[serde(serialize_with = "units::duration::serialize")]
    pub latency: Duration,
}

impl Shadows {
    /// What makes shadows, in each place.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.places.iter().map(|place| &place.provider)
    }

    /// Shadows that all places have room for together; nothing where one of them has no bound.
    #[must_use]
    pub fn room(&self) -> Option<u32> {
        let all = self.places.iter().map(|place| place.max);
        all.sum::<Option<u32>>()
    }

    /// A place by its name.
    #[must_use]
    pub fn place(&self, name: &PlaceName) -> Option<&Place> {
        self.places.iter().find(|place| place.name == *name)
    }

    /// The places as the controller knows them; a place costs `per_hour` unless the file says what it does.
    #[must_use]
    pub fn place_specs(&self, per_hour: f64) -> Vec<PlaceSpec> {
        let spec = |place: &Place| PlaceSpec {
            name: place.name.clone(),
            zone: place.zone.clone(),
            max: place.max,
            spare: place.spare,
            cost_per_hour: place.cost_per_hour.unwrap_or(per_hour),
            latency_ms: units::duration::to_fractional_ms(place.latency),
        };
        if self.are_named { self.places.iter().map(spec).collect() } else { Vec::new() }
    }
}

impl Serialize for Shadows {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let only = self.places.first().filter(|_| !self.are_named);
        let named = self.places.iter().map(|place| (place.name.as_str(), place));
        let kept = |share: Option<f64>, count| share.map_or(Kept::Count(count), Kept::Share);
        let (pool, sizing) = (self.pool, self.sizing);
        let written = Written {
            provider: only.map(|place| &place.provider),
            zone: only.map(|place| place.zone.as_str()).filter(|zone| !zone.is_empty()),
            places: self.are_named.then(|| named.collect()),
            pool: WrittenPool {
                shadow: WrittenKept(kept(sizing.shadow_share, pool.shadow)),
                warm: WrittenKept(kept(sizing.warm_share, pool.warm)),
                full: WrittenKept(kept(sizing.full_share, pool.full)),
                min: sizing.min.map(WrittenKept),
                max: pool.max,
            },
            mirror: self.mirror,
            on_exit: self.on_exit,
        };
        written.serialize(out)
    }
}

/// The form of [`Shadows`] in a file.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a Provider>,
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<BTreeMap<&'a str, &'a Place>>,
    pool: WrittenPool,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    mirror: Mirror,
    on_exit: OnExit,
}

#[derive(Serialize)]
struct WrittenPool {
    shadow: WrittenKept,
    warm: WrittenKept,
    full: WrittenKept,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<WrittenKept>,
    max: u32,
}

struct WrittenKept(Kept);

impl Serialize for WrittenKept {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Kept::Count(count) => out.serialize_u32(count),
            Kept::Share(share) => out.serialize_str(&units::percent::format(share)),
        }
    }
}

/// What shadows and the want of them cost, in one unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// A full shadow per hour, above 0.
    pub per_hour: f64,
    /// A second without a shadow that is needed, above 0.
    pub violation_per_second: f64,
}

impl Cost {
    /// What a second without a shadow that is needed costs, in seconds of a full one that is not; see
    /// [`foreshadow_control::QuantileSpec::of_cost`].
    #[must_use]
    pub fn violation(self) -> f64 {
        self.violation_per_second * 3_600.0 / self.per_hour
    }
}

/// Copies of safe requests, sent to warm shadows and never waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mirror {
    /// Share of requests that are copied, 0 to 1.
    #[serde(serialize_with = "units::percent::serialize")]
    pub share: f64,
    /// Copies under way at once; beyond it none are made.
    pub max_in_flight: usize,
}

/// What becomes of shadows when Foreshadow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They end with it.
    Destroy,
    /// They stay and are taken over by the next start.
    Keep,
}
