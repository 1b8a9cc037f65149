//! How the primaries of a service are scaled, for those who look.

use foreshadow_control::{ServiceName, ServicePlan};
use foreshadow_shadow::{ScaledPrimary, ScaledService};
use serde_json::{Value, json};

use crate::node::Shared;

/// The law's side and the scaler's; null where primaries are not scaled.
pub(super) fn scaling(shared: &Shared, name: &ServiceName, plan: &ServicePlan) -> Value {
    let Some(scaled) = shared.scaling.snapshot().remove(name) else { return Value::Null };
    let mut shown = json!(plan.scaling);
    if !shown.is_object() {
        shown = json!({ "phase": "unknown" });
    }
    shown["by"] = json!(scaled.scaler);
    shown["wanted"] = json!(scaled.wanted);
    shown["asked"] = json!(scaled.asked);
    shown["asking"] = json!(scaled.asking);
    shown["set_by"] = json!(set_by(&scaled));
    shown["primaries"] = scaled.primaries.iter().map(primary).collect();
    shown["answered_ms"] = json!(scaled.answered_ms);
    shown["trouble"] = json!(scaled.trouble);
    shown["failures"] = json!(scaled.failures);
    shown["retry_in_ms"] = json!(scaled.retry_in_ms);
    shown["calls"] = json!({ "all": scaled.calls.0, "failed": scaled.calls.1 });
    shown
}

/// Whose number is in force.
fn set_by(scaled: &ScaledService) -> Option<&'static str> {
    let wanted = scaled.wanted?;
    Some(if scaled.asked == Some(wanted) { "foreshadow" } else { "other" })
}

fn primary(primary: &ScaledPrimary) -> Value {
    json!({
        "instance": primary.id,
        "address": primary.address,
        "configured": primary.configured,
        "ready": primary.ready,
        "leaving": primary.leaving,
        "unlisted": primary.unlisted,
        "joined_ms": primary.joined_ms,
    })
}
