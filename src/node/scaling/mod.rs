//! Scaling of primaries: what scales them as configured, the orders of plans, and what came of them.

mod told;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use foreshadow_config as config;
use foreshadow_control::{InstanceObservation, Plan, ScalingSeen, ServiceName};
use foreshadow_shadow as shadow;
use foreshadow_shadow::{ScaleWish, ScaledService, Scaling};

use super::observe::WiredPrimary;
use super::providers;

pub(super) use told::{entries, ordered};

/// Any port will do.
const DISCARD: u16 = 9;

/// Every service whose primaries are scaled, with what scales them.
pub(super) fn services(
    config: &config::Config,
    host: &Arc<shadow::ProcessHost>,
) -> Vec<shadow::ServiceScaling> {
    let own = config::OwnAddresses::of(config);
    let barred: shadow::Barred = Arc::new(move |address| {
        let own = own.find(address, is_here)?;
        Some(format!("which is {}: {}", own.whose(), own.consequence()))
    });
    let scaled = config.services.iter().filter_map(|(name, service)| {
        let scaling = service.scaling.as_ref()?;
        Some(shadow::ServiceScaling {
            service: name.clone(),
            scaler: scaler(name, &scaling.by, host),
            poll: scaling.poll,
            configured: service.primaries.iter().map(|primary| primary.address).collect(),
            barred: Arc::clone(&barred),
        })
    });
    scaled.collect()
}

/// Whether an address is one of this machine's: what is sent there would have it for its source as well. Nothing
/// is sent.
fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, DISCARD))?;
        socket.local_addr()
    });
    // Where no way leads there, it is not here.
    source.is_ok_and(|source| source.ip() == ip)
}

fn scaler(
    service: &ServiceName,
    by: &config::ScalingBy,
    host: &Arc<shadow::ProcessHost>,
) -> Arc<dyn shadow::Scaler> {
    let service = service.clone();
    match by {
        config::ScalingBy::Webhook(webhook) => {
            let endpoint = providers::endpoint(&webhook.url);
            let secret = webhook.token.as_ref().map(|token| token.secret().expose().to_owned());
            let token = secret.map(shadow::BearerToken);
            let timeout = webhook.timeout;
            Arc::new(shadow::RemoteScaler::webhook(host, service, endpoint, token, timeout))
        }
        config::ScalingBy::Exec(exec) => {
            let spec = shadow::ExecSpec {
                command: exec.command.clone(),
                env: providers::pairs(&exec.env),
                dir: exec.dir.clone(),
                traits: shadow::Traits { timeout: exec.timeout, ..shadow::Traits::default() },
            };
            Arc::new(shadow::RemoteScaler::exec(host, service, spec))
        }
        config::ScalingBy::Kubernetes(workload) => {
            let access = providers::access(workload.kubeconfig.as_ref(), workload.context.as_ref());
            let workload = shadow::WorkloadSpec {
                access,
                namespace: workload.namespace.clone(),
                workload: match (&workload.deployment, &workload.statefulset) {
                    (_, Some(name)) => shadow::Workload::StatefulSet(name.clone()),
                    (name, None) => shadow::Workload::Deployment(name.clone().unwrap_or_default()),
                },
                port: workload.port,
                timeout: workload.timeout,
            };
            Arc::new(shadow::WorkloadScaler::new(workload))
        }
    }
}

/// Hands the orders of a plan on: those that stand are asked for until they are taken, and what is
/// not to be carried out, or stands no longer, is not.
pub(super) fn wish(scaling: &Scaling, plan: &Plan) {
    for service in &plan.services {
        let Some(view) = &service.scaling else { continue };
        let order = view.order.as_ref().filter(|_| service.act);
        let wish =
            order.map(|order| ScaleWish { primaries: order.primaries, original: order.original });
        scaling.wish(&service.service, wish);
    }
}

/// The primaries of the configuration, and those that are known by what scales them.
pub(super) fn primaries<'a>(
    wired: &'a [WiredPrimary],
    scaled: Option<&ScaledService>,
) -> Cow<'a, [WiredPrimary]> {
    let Some(scaled) = scaled else { return Cow::Borrowed(wired) };
    let mut all = wired.to_vec();
    // One that is found is where the others are, if they are all at one place.
    let zones: Vec<&str> = wired.iter().map(|primary| primary.zone.as_str()).collect();
    let zone = zones.first().filter(|first| zones.iter().all(|zone| zone == *first));
    let zone = zone.map_or_else(String::new, |zone| (*zone).to_owned());
    for found in &scaled.primaries {
        if all.iter().all(|primary| primary.address != found.address) {
            let (id, address, zone) = (found.id, found.address, zone.clone());
            all.push(WiredPrimary { id, address, zone, capacity_rps: None });
        }
    }
    Cow::Owned(all)
}

/// Says of primaries what is known of them by what scales them.
pub(super) fn mark(instances: &mut [InstanceObservation], scaled: Option<&ScaledService>) {
    let Some(scaled) = scaled else { return };
    for seen in instances {
        let found = scaled.primaries.iter().find(|primary| primary.id == seen.instance);
        if let Some(found) = found {
            seen.leaving = found.leaving;
            seen.joined_ms = found.joined_ms.filter(|_| !found.configured);
        }
    }
}

/// What the controller is told of it.
pub(super) fn seen(scaled: &ScaledService) -> ScalingSeen {
    let those = |of: &dyn Fn(&shadow::ScaledPrimary) -> bool| {
        scaled.primaries.iter().filter(|primary| of(primary)).map(|primary| primary.id).collect()
    };
    ScalingSeen {
        wanted: scaled.wanted,
        ready: those(&|primary| primary.ready),
        leaving: those(&|primary| primary.leaving),
        unlisted: those(&|primary| primary.unlisted),
        asked: scaled.asked,
        original: scaled.original,
        trouble: scaled.trouble.clone(),
    }
}

/// How services stand, by name.
pub(super) type Scaled = BTreeMap<ServiceName, ScaledService>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_others() {
        for (ip, here) in [
            ("127.0.0.1", true),
            ("192.0.2.1", false),
            ("198.51.100.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_here(ip.parse().unwrap()), here, "{ip}");
        }
        // That of an interface, where the machine has one that leads anywhere.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = socket.local_addr().unwrap().ip();
            assert!(is_here(own), "{own}");
        }
    }
}
