//! Conditions an operator should know of, with figures and what would help.

use crate::announced::Asked;
use crate::scene::{Scene, shadows_text};
use crate::{Alert, AlertKind, Tier};

/// An announced event that the pool is too small for is told this long before, which is enough to
/// change the configuration.
const SHORTAGE_AHEAD_MS: u64 = 3_600_000;

/// The provider's last failure, while it asks not to be asked again.
pub(crate) struct Refusal<'a> {
    pub(crate) error: &'a str,
    pub(crate) to: Tier,
    pub(crate) left_ms: u64,
}

/// All alerts that hold now.
pub(crate) fn alerts(
    scene: &Scene<'_>,
    arrivals: u64,
    refusal: Option<Refusal<'_>>,
    has_provider: bool,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut alert = |kind, text| alerts.push(Alert { kind, text });
    let serving = scene.members.iter().filter(|m| m.eligible).count();
    if serving == 0 && (arrivals > 0 || !scene.members.is_empty()) {
        let none = match scene.members.len() {
            0 => "the service has no instances".to_owned(),
            1 => "the only instance cannot take requests".to_owned(),
            n => format!("none of {n} instances can take requests"),
        };
        let remedy = "check that the primaries run and answer their health checks";
        alert(AlertKind::NoCapacity, format!("{none}: {remedy}"));
    }
    let asked = soon_asked(scene);
    let wanted = scene.supply.shadows_for(asked.rps);
    // Without a provider nothing but the primaries can help, and that alert is raised already.
    let is_said = serving == 0 && !has_provider;
    if wanted > scene.pool.max && !is_said {
        let remedy = if has_provider {
            format!("the pool allows {}; raise its max or add primaries", scene.pool.max)
        } else {
            "the service has no provider for shadows; add one or add primaries".to_owned()
        };
        let event = asked.event.map_or_else(String::new, |event| format!("{event}: "));
        let text = format!(
            "{event}demand of {:.0} rps needs {} beside primaries that carry {:.0} rps at {:.0}% \
             utilisation: {remedy}",
            asked.rps,
            shadows_text(wanted),
            scene.supply.primary_rps,
            scene.supply.target * 100.0
        );
        alert(AlertKind::Shortage, text);
    }
    if let Some(refusal) = refusal {
        let text = format!(
            "the provider could not bring a shadow to {}: {}; the next try is in {:.1} s at the \
             earliest: check the provider and the shadow's own log",
            refusal.to,
            refusal.error,
            refusal.left_ms as f64 / 1_000.0
        );
        alert(AlertKind::ProviderFailing, text);
    }
    if let Some(why) = scene.outlook.distrust {
        let text = format!(
            "the forecast is not used, since {why}; shadows start only when measured demand or \
             an announced event asks for them: a lower target utilisation gives them more time"
        );
        alert(AlertKind::ForecastUnusable, text);
    }
    alerts
}

/// Demand that must be carried soon, or when an event of the next hour starts.
fn soon_asked(scene: &Scene<'_>) -> Asked {
    let asked = scene.commit_asked(Tier::Warm);
    let ahead = scene.outlook.confirmed(SHORTAGE_AHEAD_MS, |h| h.lower_rps);
    if ahead.event.is_some() && ahead.rps > asked.rps { ahead } else { asked }
}
