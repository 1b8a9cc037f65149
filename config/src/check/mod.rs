//! Raw tables to checked values: ranges, defaults, and what must fit together.
//!
//! Every function here gives a value even when it reports an error, so that one run finds all of
//! them; the value is thrown away then.

mod admin;
mod alerts;
mod docker;
mod events;
mod kubernetes;
mod learning;
mod listener;
mod metrics;
mod migration;
mod providers;
mod range;
pub(crate) mod rules;
mod scaling;
mod service;
mod shadows;
mod signals;
mod vm;

use std::collections::BTreeMap;
use std::path::PathBuf;

use foreshadow_control::ServiceName;

use self::range::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::raw::{List, Map, RawAudit, RawConfig, RawHistory, RawLog, RawRecording, RawService};
use crate::reader::{Field, Problem, Reader, quote};
use crate::{
    Audit, AuditKey, Config, DEFAULT_STATE_DIR, History, HostMatch, Listener, Log, LogFormat,
    LogLevel, OwnAddresses, Recording, Reload, Service,
};

/// The configuration, or nothing where a part of it is missing; both after reports.
pub(crate) fn config(raw: RawConfig, r: &mut Reader<'_>) -> Option<Config> {
    let names = service_names(&raw.services, r);
    let listeners = match raw.listeners.given() {
        Some(list) if list.value.0.is_empty() => {
            r.report(&list.place, Problem::new("an empty list", "at least one listener"));
            None
        }
        Some(list) => Some(listener::listeners(list.value, names.as_deref(), r)),
        None => None,
    };
    let workers = raw.workers;
    let reload = raw.reload.value().unwrap_or_default();
    let listeners = listeners.unwrap_or_default();
    let admin = admin::admin(raw.admin, &listeners, r);
    let own = OwnAddresses::listening(&listeners, &admin);
    let mut services = raw.services.value().map(|map| services(map, &own, r));
    services.iter_mut().for_each(|services| group_by_host(services, &listeners));
    Some(Config {
        admin,
        state_dir: raw.state_dir.value().map_or_else(|| DEFAULT_STATE_DIR.into(), |p| p.0),
        workers: range::size(workers, 1..=1024, cores(), r),
        log: log(raw.log.value().unwrap_or_default()),
        drain_timeout: range::time(raw.drain_timeout, 0..=range::HOUR_MS, 30_000, r),
        reload: Reload { watch: reload.watch.value().is_none_or(|flag| flag.0) },
        recording: raw.recording.value().map(|raw| recording(raw, r)),
        history: history(raw.history.value().unwrap_or_default(), r),
        audit: audit(raw.audit.value().unwrap_or_default(), r),
        alerts: alerts::alerts(raw.alerts.value().unwrap_or_default(), r),
        services: services?,
        listeners,
        origins: r.take_origins(),
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024))
}

/// The names that routes may use; nothing when the table of services could not be read.
fn service_names(services: &Field<Map<RawService>>, r: &mut Reader<'_>) -> Option<Vec<String>> {
    let Field::Given(services) = services else { return None };
    let mut names = Vec::new();
    for (name, _) in &services.value.0 {
        if !is_name(&name.value) {
            let problem = Problem::new(
                format!("the name {}", quote(&name.value)),
                "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit",
            );
            r.report(&name.place, problem);
        }
        names.push(name.value.clone());
    }
    Some(names)
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn services(
    map: Map<RawService>,
    own: &OwnAddresses,
    r: &mut Reader<'_>,
) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    let (mut written, mut named) = (Vec::new(), Vec::new());
    for (name, raw) in map.0 {
        if let Some(mut raw) = raw.given() {
            let name = ServiceName::from(name.value.as_str());
            written.push((name.clone(), std::mem::take(&mut raw.value.rules)));
            named.extend(providers::shared(&name, &raw.value));
            services.insert(name, service::service(raw.value, own, r));
        }
    }
    providers::one_way_each(&services, &named, r);
    // A rule may be about any service, so all must be known first.
    for (name, rules) in written {
        let rules = rules::rules(rules, &name, &services, r);
        services.entry(name).and_modify(|service| service.rules = rules);
    }
    services
}

/// Services without a group belong to that of their host: whoever asks one for something is likely to ask
/// the others as well.
fn group_by_host(services: &mut BTreeMap<ServiceName, Service>, listeners: &[Listener]) {
    for (name, service) in services.iter_mut().filter(|(_, service)| service.group.is_none()) {
        let routes = listeners.iter().flat_map(|listener| &listener.routes);
        let mut hosts = routes.filter(|route| route.service == *name).map(|r| &r.matches.host);
        let Some(host) = hosts.next() else { continue };
        if *host != HostMatch::Any && hosts.all(|other| other == host) {
            service.group = Some(host.to_string());
        }
    }
}

fn log(raw: RawLog) -> Log {
    Log {
        level: raw.level.value().map_or(LogLevel::Info, |level| level.0),
        format: raw.format.value().map_or(LogFormat::Auto, |format| format.0),
    }
}

fn recording(raw: RawRecording, r: &mut Reader<'_>) -> Recording {
    Recording {
        path: raw.path.value().map_or_else(PathBuf::new, |path| path.0),
        max_size: range::bytes(raw.max_size, 1 << 20..=u64::MAX, 256 << 20, r),
    }
}

fn audit(raw: RawAudit, r: &mut Reader<'_>) -> Audit {
    const LONGEST_MS: u64 = 3_660 * DAY_MS;
    let key = raw.key_file.given().and_then(|file| {
        let path = file.value.0;
        AuditKey::read(&path)
            .map_err(|why| {
                let found = format!("{}, {why}", path.display());
                let expected = format!("a file with at least {} characters", AuditKey::LEAST);
                r.report(&file.place, Problem::new(found, expected));
            })
            .ok()
    });
    Audit {
        keep: range::time(raw.keep, DAY_MS..=LONGEST_MS, 400 * DAY_MS, r),
        max_size: range::bytes(raw.max_size, 1 << 20..=u64::MAX, 1 << 30, r),
        key,
        checkpoint_interval: range::time(raw.checkpoint_interval, MINUTE_MS..=DAY_MS, HOUR_MS, r),
    }
}

fn history(raw: RawHistory, r: &mut Reader<'_>) -> History {
    const LONGEST_MS: u64 = 3660 * DAY_MS;
    History {
        enabled: raw.enabled.value().is_none_or(|switch| switch.0),
        keep_1s: range::time(raw.keep_1s, 10 * MINUTE_MS..=30 * DAY_MS, DAY_MS, r),
        keep_1m: range::time(raw.keep_1m, DAY_MS..=366 * DAY_MS, 14 * DAY_MS, r),
        keep_15m: range::time(raw.keep_15m, DAY_MS..=LONGEST_MS, 90 * DAY_MS, r),
        keep_1h: range::time(raw.keep_1h, DAY_MS..=LONGEST_MS, 730 * DAY_MS, r),
        max_size: range::bytes(raw.max_size, 16 << 20..=u64::MAX, 1 << 30, r),
        snapshot_interval: range::time(raw.snapshot_interval, SECOND_MS..=HOUR_MS, 30_000, r),
        snapshot_max_age: range::time(raw.snapshot_max_age, 0..=366 * DAY_MS, 7 * DAY_MS, r),
    }
}

/// The items of a list, or those of the default where the list is absent or wrong.
fn items<T, U>(field: Field<List<T>>, default: Vec<U>, convert: impl Fn(T) -> U) -> Vec<U> {
    match field.value() {
        Some(list) => list.0.into_iter().map(|item| convert(item.value)).collect(),
        None => default,
    }
}
