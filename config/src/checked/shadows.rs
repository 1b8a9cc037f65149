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
    /// How long is waited after failures there.
    pub retry: Retry,
    /// What a full shadow costs there per hour, where the file says it of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<f64>,
    /// Time that a request takes to there and back.
    #[serde(serialize_with = "units::duration::serialize")]
    pub latency: Duration,
}

/// How long is waited after a step has failed, before a place is asked again; each pause is twice as long as the one
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// After the first failure in a row, above 0.
    #[serde(serialize_with = "units::duration::serialize")]
    pub first: Duration,
    /// The longest, at least `first`.
    #[serde(serialize_with = "units::duration::serialize")]
    pub most: Duration,
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

    /// What is to be said of them though they are good; a place costs `per_hour` unless the file says what it
    /// does.
    pub(crate) fn warnings(&self, per_hour: f64) -> Vec<String> {
        let max = self.pool.max;
        let small = self.room().filter(|room| *room < max).map(|room| {
            format!(
                "the pool's max is {max}, and its places allow {room} together: no more than {room} shadows \
                 are made; raise the max of a place, or add one"
            )
        });
        let gaps = self.places.iter().filter_map(|place| self.gap(place, per_hour));
        small.into_iter().chain(gaps).collect()
    }

    /// What a place has no means for of what the pool keeps, and what that comes to.
    fn gap(&self, place: &Place, per_hour: f64) -> Option<String> {
        let (freezes, resizes) = (place.provider.freezes(), place.provider.resizes());
        let PoolSpec { shadow, warm, .. } = self.pool;
        let parked = shadow > 0 || self.sizing.shadow_share.is_some() || self.sizing.min.is_some();
        let warmed = warm > 0 || self.sizing.warm_share.is_some();
        let what = match (parked && !freezes, warmed && !resizes) {
            (true, true) => "cannot freeze or resize: its reserve stands at full size",
            (true, false) => "cannot freeze: what is kept at shadow runs on, new ones at full size",
            (false, true) => "cannot resize: what is kept warm stands at full size",
            (false, false) => return None,
        };
        let cost = place.cost_per_hour.unwrap_or(per_hour);
        let costs = if cost > 0.0 {
            format!(", and costs {cost} per hour for each as a full one does")
        } else {
            String::new()
        };
        let named = if self.are_named {
            format!("place {}", place.name)
        } else {
            "its provider".to_owned()
        };
        Some(format!("{named} {what}{costs}"))
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
            retry: only.map(|place| place.retry),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
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
