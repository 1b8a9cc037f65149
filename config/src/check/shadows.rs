//! Shadows: pools that fit.

use foreshadow_control::PoolSpec;

use super::{providers, range};
use crate::raw::{Count, RawPool, RawShadows};
use crate::reader::{Field, Problem, Reader};
use crate::{Mirror, OnExit, Shadows};

pub(super) fn shadows(raw: RawShadows, r: &mut Reader<'_>) -> Shadows {
    let pool = pool(raw.pool, r);
    let provider = providers::provider(raw.provider.value().unwrap_or_default(), pool, r);
    let mirror = raw.mirror.value().unwrap_or_default();
    Shadows {
        provider,
        pool,
        zone: raw.zone.value().map_or_else(String::new, |zone| zone.0),
        mirror: Mirror {
            share: range::share(mirror.share, 0.0..=1.0, 0.05, r),
            max_in_flight: range::size(mirror.max_in_flight, 0..=65_536, 16, r),
        },
        on_exit: raw.on_exit.value().map_or(OnExit::Destroy, |on_exit| on_exit.0),
    }
}

fn pool(field: Field<RawPool>, r: &mut Reader<'_>) -> PoolSpec {
    let raw = field.value().unwrap_or_default();
    let place = match &raw.max {
        Field::Given(at) => Some(at.place.clone()),
        _ => None,
    };
    let given = |field: &Field<Count>| match field {
        Field::Given(at) => u32::try_from(at.value.0).unwrap_or(u32::MAX),
        _ => 0,
    };
    let wanted = [&raw.shadow, &raw.warm, &raw.full].map(given);
    let wanted = wanted.into_iter().fold(0, u32::saturating_add);
    let max = range::count(raw.max, 1..=1000, wanted.clamp(4, 1000), r);
    // Defaults give way to a small bound; only figures that were written can exceed it.
    let spare = max.saturating_sub(wanted);
    let warm_default = if raw.warm.is_absent() { spare.min(1) } else { 0 };
    let shadow_default = (spare - warm_default).min(1);
    let shadow = range::count(raw.shadow, 0..=1000, shadow_default, r);
    let warm = range::count(raw.warm, 0..=1000, warm_default, r);
    let full = range::count(raw.full, 0..=1000, 0, r);
    if let Some(place) = place
        && max < shadow + warm + full
    {
        let kept = shadow + warm + full;
        let expected = format!("at least {kept}: shadow {shadow} + warm {warm} + full {full}");
        r.report(&place, Problem::new(max.to_string(), expected));
    }
    PoolSpec { shadow, warm, full, max }
}
