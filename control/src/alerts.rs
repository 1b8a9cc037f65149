//! Conditions an operator should know of, with figures and what would help.

use crate::scene::Scene;
use crate::{Alert, AlertKind, Tier};

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
        let text = format!(
            "none of {} instances can take requests: check that the primaries run and answer \
             their health checks",
            scene.members.len()
        );
        alert(AlertKind::NoCapacity, text);
    }
    let demand_rps = scene.committed_rps(Tier::Warm);
    let wanted = scene.supply.shadows_for(demand_rps);
    if wanted > scene.pool.max {
        let remedy = if has_provider {
            format!("the pool allows {}; raise its max or add primaries", scene.pool.max)
        } else {
            "the service has no provider for shadows; add one or add primaries".to_owned()
        };
        let text = format!(
            "demand of {demand_rps:.0} rps needs {wanted} shadows beside primaries that carry \
             {:.0} rps at {:.0}% utilisation: {remedy}",
            scene.supply.primary_rps,
            scene.supply.target * 100.0
        );
        alert(AlertKind::Shortage, text);
    }
    if let Some(refusal) = refusal {
        let text = format!(
            "no shadow reached {}: {}; tried again in {} ms at the earliest: check the provider",
            refusal.to, refusal.error, refusal.left_ms
        );
        alert(AlertKind::ProviderFailing, text);
    }
    if let Some(why) = scene.outlook.distrust {
        let text = format!(
            "the forecast is not used, since {why}; what is measured still starts shadows: \
             more headroom (a lower target utilisation) makes up for it"
        );
        alert(AlertKind::ForecastUnusable, text);
    }
    alerts
}
