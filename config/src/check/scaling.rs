//! How primaries are scaled: bounds that fit, one thing that scales.

use super::providers::{program, variables};
use super::range::{self, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use super::{admin, kubernetes};
use crate::raw::{
    RawScaler, RawScalerExec, RawScalerKubernetes, RawScalerWebhook, RawScaling, Time,
};
use crate::reader::{At, Field, Place, Problem, Reader};
use crate::units;
use crate::{Endpoint, Scaling, ScalingBy, ScalingExec, ScalingKubernetes, ScalingWebhook};

/// No service has more.
const MOST: u32 = 1_000;

pub(super) fn scaling(raw: RawScaling, target_utilisation: f64, r: &mut Reader<'_>) -> Scaling {
    let max = range::count(raw.max, 1..=MOST, 1, r);
    let min = match raw.min.given() {
        None => None,
        Some(At { value, place }) if value.0 > u64::from(max) => {
            r.report(&place, Problem::new(value.0.to_string(), format!("at most max, {max}")));
            None
        }
        Some(at) => Some(range::count(Field::Given(at), 0..=MOST, 0, r)),
    };
    let target = match raw.target.given() {
        None => target_utilisation,
        Some(At { value, place }) if value.0 > target_utilisation => {
            let [found, most] = [value.0, target_utilisation].map(units::percent::format);
            let problem = Problem::new(found, format!("at most target_utilisation, {most}"));
            r.report(&place, problem.help("shadows would never step back"));
            target_utilisation
        }
        Some(at) => range::share(Field::Given(at), 0.01..=1.0, target_utilisation, r),
    };
    let by = by(raw.by.value().unwrap_or_default(), r);
    // Changes of pods are heard of; the others are asked.
    let usual_poll_ms = match by {
        ScalingBy::Kubernetes(_) => 10 * SECOND_MS,
        ScalingBy::Webhook(_) | ScalingBy::Exec(_) => 2 * SECOND_MS,
    };
    Scaling {
        by,
        min,
        max,
        target,
        lead_time: range::time(raw.lead_time, SECOND_MS..=HOUR_MS, MINUTE_MS, r),
        stabilisation: range::time(raw.stabilisation, SECOND_MS..=DAY_MS, 5 * MINUTE_MS, r),
        cooldown: range::time(raw.cooldown, 0..=DAY_MS, MINUTE_MS, r),
        max_step: range::count(raw.max_step, 1..=MOST, 4, r),
        respect: range::time(raw.respect, 0..=DAY_MS, 10 * MINUTE_MS, r),
        poll: range::time(raw.poll, 100..=10 * MINUTE_MS, usual_poll_ms, r),
    }
}

fn by(raw: RawScaler, r: &mut Reader<'_>) -> ScalingBy {
    match raw {
        RawScaler::Webhook(raw) => ScalingBy::Webhook(webhook(raw.value().unwrap_or_default(), r)),
        RawScaler::Exec(raw) => ScalingBy::Exec(exec(raw.value().unwrap_or_default(), r)),
        RawScaler::Kubernetes(raw) => {
            let lead = match &*raw {
                Field::Given(at) => Some(at.place.clone()),
                _ => None,
            };
            let raw = raw.value().unwrap_or_default();
            ScalingBy::Kubernetes(workload(raw, lead.as_ref(), r))
        }
        RawScaler::None => ScalingBy::Exec(exec(RawScalerExec::default(), r)),
    }
}

fn timeout(field: Field<Time>, r: &mut Reader<'_>) -> std::time::Duration {
    range::time(field, 100..=10 * MINUTE_MS, 10 * SECOND_MS, r)
}

fn webhook(raw: RawScalerWebhook, r: &mut Reader<'_>) -> ScalingWebhook {
    ScalingWebhook {
        url: raw.url.value().map_or_else(|| Endpoint::Unix("/".into()), |url| url.0),
        token: raw.token.given().and_then(|at| admin::token(at, r)),
        timeout: timeout(raw.timeout, r),
    }
}

fn exec(raw: RawScalerExec, r: &mut Reader<'_>) -> ScalingExec {
    ScalingExec {
        command: program(raw.command, r),
        dir: raw.dir.value().map(|dir| dir.0),
        env: variables(raw.env, &mut |_, _: &mut Reader<'_>| {}, r),
        timeout: timeout(raw.timeout, r),
    }
}

fn workload(
    raw: RawScalerKubernetes,
    lead: Option<&Place>,
    r: &mut Reader<'_>,
) -> ScalingKubernetes {
    const ONE: &str = "one of deployment, statefulset";
    match (&raw.deployment, &raw.statefulset) {
        (Field::Given(_), Field::Given(second)) => {
            let place = second.place.clone();
            r.report(&place, Problem::new("statefulset beside deployment", ONE));
        }
        (deployment, statefulset) if deployment.is_absent() && statefulset.is_absent() => {
            if let Some(lead) = lead {
                r.report(lead, Problem::new("no deployment", ONE));
            }
        }
        _ => {}
    }
    if let (Field::Given(context), true) = (&raw.context, raw.kubeconfig.is_absent()) {
        let place = context.place.clone();
        let problem = Problem::new("a context without a kubeconfig", "kubeconfig beside it");
        r.report(&place, problem);
    }
    let port = match raw.port.is_absent() {
        true => 0,
        false => range::count(raw.port, 1..=u16::MAX, 1, r),
    };
    ScalingKubernetes {
        kubeconfig: raw.kubeconfig.value().map(|path| path.0),
        context: raw.context.value().map(|name| name.0),
        namespace: kubernetes::part(raw.namespace, r).unwrap_or_default(),
        deployment: raw.deployment.value().map(|name| name.0),
        statefulset: raw.statefulset.value().map(|name| name.0),
        port,
        timeout: timeout(raw.timeout, r),
    }
}
