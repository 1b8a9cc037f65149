//! Configuration into what each part understands. The parts do not know each other; this does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foreshadow_config as config;
use foreshadow_control::{
    InstanceId, Mode, Observation, Plan, Role, ServiceName, ServiceSpec, Tier,
};
use foreshadow_mirror::MirrorPolicy;
use foreshadow_proxy as proxy;
use foreshadow_shadow as shadow;

use super::observe::WiredPrimary;
use super::providers;

/// A configuration as the loop and the data plane work with it.
#[derive(Clone, Debug)]
pub(super) struct Wiring {
    /// Rises with every configuration, so that a new one is always published.
    pub(super) generation: u64,
    /// By name.
    pub(super) services: BTreeMap<ServiceName, WiredService>,
    /// Routes by listener.
    pub(super) listeners: Vec<proxy::ListenerRoutes>,
    /// For the controller.
    pub(super) specs: Vec<ServiceSpec>,
}

/// One service.
#[derive(Clone, Debug)]
pub(super) struct WiredService {
    /// The configured mode.
    pub(super) mode: Mode,
    /// Whether it has shadows. Those left from before the configuration only finish requests.
    pub(super) shadowed: bool,
    /// Its primaries, with their ids.
    pub(super) primaries: Vec<WiredPrimary>,
    /// Reported metrics that are older are not known any more.
    pub(super) metrics_max_age_ms: u64,
    /// How its instances move elsewhere, and when, where the file says it.
    pub(super) migration: Option<config::Migration>,
    /// For the data plane.
    pub(super) policy: Arc<proxy::UpstreamPolicy>,
}

/// One instance as the data plane is given it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member {
    id: InstanceId,
    address: SocketAddr,
    weight: u32,
    capacity_rps: f64,
}

/// The members of every service.
pub(super) type Members = Vec<(ServiceName, Vec<Member>)>;

impl Wiring {
    /// Derives everything from `config`. `id_of` gives a primary the same id on every start.
    pub(super) fn new<E>(
        config: &config::Config,
        generation: u64,
        id_of: impl Fn(&ServiceName, SocketAddr) -> Result<InstanceId, E>,
    ) -> Result<Self, E> {
        let services = config
            .services
            .iter()
            .map(|(name, service)| {
                let primaries = service
                    .primaries
                    .iter()
                    .map(|p| {
                        Ok(WiredPrimary {
                            id: id_of(name, p.address)?,
                            address: p.address,
                            zone: p.zone.clone(),
                            capacity_rps: p.capacity_rps,
                        })
                    })
                    .collect::<Result<_, E>>()?;
                let policy = Arc::new(policy(service));
                let shadowed = service.shadows.is_some();
                let mode = service.mode;
                let max_age = service.metrics.max_age.as_millis();
                let metrics_max_age_ms = u64::try_from(max_age).unwrap_or(u64::MAX);
                let migration = service.migration.clone();
                let wired = WiredService {
                    mode,
                    shadowed,
                    primaries,
                    metrics_max_age_ms,
                    migration,
                    policy,
                };
                Ok((name.clone(), wired))
            })
            .collect::<Result<_, E>>()?;
        Ok(Self {
            generation,
            services,
            listeners: config.listeners.iter().map(routes).collect(),
            specs: config.service_specs(),
        })
    }

    /// Before the first tick: all primaries, alike.
    pub(super) fn first_members(&self) -> Members {
        let all = |service: &WiredService| {
            let member = |p: &WiredPrimary| Member {
                id: p.id,
                address: p.address,
                weight: foreshadow_control::WEIGHT_SCALE,
                capacity_rps: 0.0,
            };
            service.primaries.iter().map(member).collect()
        };
        self.services.iter().map(|(name, service)| (name.clone(), all(service))).collect()
    }

    /// Who takes part, with which weight: primaries, and shadows from `warm` up so that they are
    /// checked and metered before they serve.
    pub(super) fn members(
        &self,
        observation: &Observation,
        plan: &Plan,
        addresses: &BTreeMap<InstanceId, SocketAddr>,
    ) -> Members {
        let both = observation.services.iter().zip(&plan.services);
        both.map(|(seen, plan)| {
            let shadowed = self.services.get(&seen.service).is_some_and(|s| s.shadowed);
            let running = |i: &&foreshadow_control::InstanceObservation| {
                i.role == Role::Primary || (shadowed && i.tier >= Tier::Warm)
            };
            let members = seen.instances.iter().filter(running).filter_map(|i| {
                let weight = plan.weights.iter().find(|w| w.instance == i.instance);
                let capacity = plan.capacity.iter().find(|c| c.instance == i.instance);
                Some(Member {
                    id: i.instance,
                    address: *addresses.get(&i.instance)?,
                    weight: weight.map_or(0, |w| w.weight),
                    capacity_rps: coarse(capacity.map_or(0.0, |c| c.rps)),
                })
            });
            (seen.service.clone(), members.collect())
        })
        .collect()
    }

    /// The table for these members.
    pub(super) fn table(&self, members: &Members) -> proxy::TableSpec {
        let services = members.iter().filter_map(|(name, members)| {
            let backend = |m: &Member| proxy::BackendSpec {
                id: m.id,
                address: m.address,
                weight: m.weight,
                capacity_rps: m.capacity_rps,
            };
            Some(proxy::UpstreamSpec {
                name: name.clone(),
                backends: members.iter().map(backend).collect(),
                policy: Arc::clone(&self.services.get(name)?.policy),
            })
        });
        proxy::TableSpec { listeners: self.listeners.clone(), services: services.collect() }
    }
}

/// Rounded to steps of 5 %: learned capacity moves a little in every tick, and a new table for
/// that would be waste.
fn coarse(rps: f64) -> f64 {
    if rps.is_finite() && rps > 0.0 {
        1.05_f64.powf((rps.ln() / 1.05_f64.ln()).round())
    } else {
        0.0
    }
}

fn policy(service: &config::Service) -> proxy::UpstreamPolicy {
    let (timeouts, retries, ejection) = (service.timeouts, &service.retries, service.ejection);
    let on = |what| retries.on.contains(&what);
    proxy::UpstreamPolicy {
        objective_ms: service.objective.latency_ms,
        connect_timeout: timeouts.connect,
        first_byte_timeout: timeouts.first_byte,
        stall_timeout: timeouts.stall,
        total_timeout: timeouts.total,
        idle_timeout: timeouts.idle,
        retries: proxy::RetryPolicy {
            attempts: retries.attempts.saturating_sub(1),
            budget_share: retries.budget,
            min_per_s: f64::from(retries.min_per_second),
            on: proxy::RetryOn {
                connect_failure: on(config::RetryOn::ConnectFailure),
                reset: on(config::RetryOn::Reset),
                gateway_errors: on(config::RetryOn::GatewayError),
                timeout: on(config::RetryOn::Timeout),
            },
        },
        ejection: proxy::EjectionPolicy {
            consecutive_errors: ejection.consecutive_errors,
            base: ejection.base,
            max: ejection.max,
            max_ejected_share: ejection.max_ejected,
            probation_requests: ejection.probation_requests,
            ..proxy::EjectionPolicy::default()
        },
        panic: service.panic,
        health: Some(health_check(&service.health)),
        load_reports: match service.metrics.load_reports {
            config::LoadReports::Take => proxy::LoadReports::Take,
            config::LoadReports::Forward => proxy::LoadReports::Forward,
            config::LoadReports::Ignore => proxy::LoadReports::Ignore,
        },
        ..proxy::UpstreamPolicy::default()
    }
}

/// The service's check as the data plane runs it.
pub(super) fn health_check(health: &config::Health) -> proxy::HealthCheck {
    proxy::HealthCheck {
        kind: match &health.check {
            config::HealthCheck::Tcp => proxy::CheckKind::Tcp,
            config::HealthCheck::Http { path, host, expect } => proxy::CheckKind::Http {
                path: path.clone(),
                host: host.clone(),
                expected: expect.iter().map(|r| r.first..=r.last).collect(),
            },
        },
        interval: health.interval,
        timeout: health.timeout,
        rise: health.rise,
        fall: health.fall,
    }
}

fn routes(listener: &config::Listener) -> proxy::ListenerRoutes {
    let route = |route: &config::Route| proxy::RouteSpec {
        host: match &route.matches.host {
            config::HostMatch::Any => proxy::HostMatch::Any,
            config::HostMatch::Exact(host) => proxy::HostMatch::Exact(host.clone()),
            config::HostMatch::Suffix(suffix) => {
                proxy::HostMatch::Suffix(suffix.trim_start_matches('.').to_owned())
            }
        },
        path: match &route.matches.path {
            config::PathMatch::Exact(path) => proxy::PathMatch::Exact(path.clone()),
            config::PathMatch::Prefix(prefix) => proxy::PathMatch::Prefix(prefix.clone()),
        },
        service: route.service.clone(),
    };
    proxy::ListenerRoutes {
        listener: proxy::ListenerName::from(listener.name.as_str()),
        routes: listener.routes.iter().map(route).collect(),
    }
}

/// How requests of each service are mirrored; services without shadows have none.
pub(super) fn mirror_policies(config: &config::Config) -> BTreeMap<ServiceName, MirrorPolicy> {
    let shadowed = config.services.iter().filter_map(|(name, service)| {
        let mirror = service.shadows.as_ref()?.mirror;
        let policy = MirrorPolicy {
            share: mirror.share,
            max_in_flight: mirror.max_in_flight,
            timeout: service.timeouts.first_byte.min(Duration::from_secs(5)),
            ..MirrorPolicy::default()
        };
        Some((name.clone(), policy))
    });
    shadowed.collect()
}

/// The shadows of every service that has some, in each of its places; all processes are held by `host`.
pub(super) fn shadow_services(
    config: &config::Config,
    host: &Arc<shadow::ProcessHost>,
) -> Vec<shadow::ServiceShadows> {
    let shadowed = config
        .services
        .iter()
        .filter_map(|(name, service)| Some((name, service.shadows.as_ref()?)));
    let placed = shadowed
        .flat_map(|(name, shadows)| shadows.places.iter().map(move |place| (name, shadows, place)));
    let made = placed.map(|(name, shadows, place)| {
        let (provider, times) = providers::provider(&place.provider, host);
        shadow::ServiceShadows {
            place: place.name.clone(),
            max: shadows.pool.max,
            max_here: place.max,
            warm_cpu_percent: percent(times.warm_cpu),
            start_timeout: times.start_timeout,
            stop_timeout: times.stop_timeout,
            zone: place.zone.clone(),
            backoff: shadow::BackoffPolicy {
                base: place.retry.first,
                max: place.retry.most,
                ..shadow::BackoffPolicy::default()
            },
            on_exit: match shadows.on_exit {
                config::OnExit::Destroy => shadow::OnExit::Destroy,
                config::OnExit::Keep => shadow::OnExit::Keep,
            },
            ..shadow::ServiceShadows::new(name.clone(), provider)
        }
    });
    made.collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the configuration holds it between 0 and 1024"
)]
pub(super) fn percent(share: f64) -> u32 {
    ((share * 100.0).round() as u32).max(1)
}

/// Where clients connect.
pub(super) fn listeners(config: &config::Config) -> Vec<proxy::ListenerSpec> {
    let listener = |listener: &config::Listener| proxy::ListenerSpec {
        name: proxy::ListenerName::from(listener.name.as_str()),
        address: listener.address,
        max_connections: listener.limits.max_connections as u64,
        timeouts: proxy::ClientTimeouts {
            client_header: listener.timeouts.client_header,
            client_body: listener.timeouts.client_body,
            keepalive_idle: listener.timeouts.idle,
        },
        trusted_proxies: listener
            .trusted_proxies
            .iter()
            .map(|range| proxy::Cidr::new(range.network(), range.prefix()))
            .collect(),
        abort_on_close: listener.abort_on_close,
    };
    config.listeners.iter().map(listener).collect()
}
