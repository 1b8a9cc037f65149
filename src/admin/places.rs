//! The places of a service: what each can do, and what its reserve therefore stands at.

use foreshadow_control::ServiceName;
use serde_json::{Value, json};

use crate::node::Shared;

pub(super) fn places(shared: &Shared, name: &ServiceName) -> Value {
    let config = shared.config.load();
    let Some(service) = config.services.get(name) else { return Value::Null };
    let Some(shadows) = &service.shadows else { return json!([]) };
    let per_hour = service.cost.map_or(0.0, |cost| cost.per_hour);
    let shown = |(place, provider, can): (_, &str, foreshadow_shadow::Capabilities)| {
        let configured = shadows.place(&place);
        let cost = configured.and_then(|place| place.cost_per_hour).unwrap_or(per_hour);
        json!({
            "place": place,
            "provider": provider,
            "zone": configured.map(|place| &place.zone),
            "max": configured.and_then(|place| place.max),
            "can": { "freeze": can.freeze, "resize": can.resize, "snapshot": can.snapshot },
            // What is parked where it cannot be paused was made at full size and never made smaller.
            "shadow_stands_at": if can.freeze { "frozen" } else { "full" },
            "warm_stands_at": if can.resize { "warm" } else { "full" },
            "cost_per_hour": cost,
        })
    };
    shared.places(name).into_iter().map(shown).collect()
}
