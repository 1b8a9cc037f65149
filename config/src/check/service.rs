//! Services: defaults, ranges, and figures that must fit each other.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use foreshadow_control::{Capacity, Mode, Objective, QuantileSpec, WeightSpec};

use super::learning::learning;
use super::metrics::metrics;
use super::migration::migration;
use super::range::{self, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use super::scaling::scaling;
use super::shadows::{amount, shadows};
use super::signals::{forecast_with, signals};
use super::{events, items};
use crate::raw::{
    BackendAddress, CheckKind, Either, Factor, FilePath, List, RawCost, RawEjection, RawForecast,
    RawHealth, RawObjective, RawPrimary, RawQuantiles, RawRetries, RawService, RawTimeouts,
    RawWeights, Share, Time,
};
use crate::reader::{At, Field, Place, Problem, Reader};
use crate::units::{self, control::LATENCY_KEYS};
use crate::{
    Cost, Ejection, Forecast, Health, HealthCheck, OwnAddresses, Primary, Provider, Retries,
    RetryOn, Service, Shadows, Signal, StatusRange, Timeouts,
};

/// What instances are filled to unless the file says it. What is learned of a capacity is uncertain;
/// one that is given leaves room for chance only.
const LEARNED_TARGET: f64 = 0.75;
const PINNED_TARGET: f64 = 0.95;

/// Checks a service, all but its rules; `own` is where the node itself listens.
pub(super) fn service(raw: RawService, own: &OwnAddresses, r: &mut Reader<'_>) -> Service {
    let metrics = metrics(raw.metrics.value().unwrap_or_default(), r);
    let capacity = raw.capacity.value().map_or(Capacity::Learned, |capacity| capacity.0);
    let signals = signals(raw.signals, metrics.max_age, r);
    let usual = match capacity {
        Capacity::Pinned(_) => PINNED_TARGET,
        Capacity::Learned => LEARNED_TARGET,
    };
    let health_is_read = !matches!(raw.health, Field::Invalid);
    let health = health(raw.health.value().unwrap_or_default(), r);
    let shadows_place = place(&raw.shadows).cloned();
    let primaries = primaries(raw.primaries, own, !raw.scaling.is_absent(), r);
    let count = u32::try_from(primaries.len()).unwrap_or(u32::MAX);
    let shadows = raw.shadows.value().map(|raw| shadows(raw, count, shadows_place.as_ref(), r));
    let cost = cost(raw.cost, r);
    if let (Some(place), Some(shadows), true) = (&shadows_place, &shadows, health_is_read) {
        answers(shadows, &health, place, r);
    }
    let target_utilisation = range::share(raw.target_utilisation, 0.01..=1.0, usual, r);
    Service {
        primaries,
        group: raw.group.value().map(|group| group.0),
        objective: objective(raw.objective, r),
        capacity,
        target_utilisation,
        health,
        mode: raw.mode.value().map_or(Mode::Advise, |mode| mode.0),
        migration: migration(raw.migration, shadows_place.is_some(), r),
        shadows,
        scaling: raw.scaling.value().map(|raw| scaling(raw, target_utilisation, r)),
        cost,
        forecast: forecast(raw.forecast.value().unwrap_or_default(), (capacity, cost), &signals, r),
        feedback: raw.feedback.value().is_none_or(|feedback| feedback.0),
        learning: learning(raw.learning, r),
        rules: Vec::new(),
        signals,
        metrics,
        weights: weights(raw.weights.value().unwrap_or_default(), r),
        warm_up: range::time(raw.warm_up, 0..=HOUR_MS, 5_000, r),
        timeouts: timeouts(raw.timeouts.value().unwrap_or_default(), r),
        retries: retries(raw.retries.value().unwrap_or_default(), r),
        ejection: ejection(raw.ejection.value().unwrap_or_default(), r),
        panic: raw.panic.value().is_some_and(|panic| panic.0),
    }
}

fn primaries(
    field: Field<List<Either<BackendAddress, RawPrimary>>>,
    own: &OwnAddresses,
    may_be_empty: bool,
    r: &mut Reader<'_>,
) -> Vec<Primary> {
    let Some(list) = field.given() else { return Vec::new() };
    if list.value.0.is_empty() && !may_be_empty {
        r.report(&list.place, Problem::new("an empty list", "at least one instance"));
    }
    let mut seen: HashMap<_, Place> = HashMap::new();
    let mut primaries = Vec::with_capacity(list.value.0.len());
    for At { value, place } in list.value.0 {
        let (address, zone, capacity_rps) = match value {
            Either::Short(address) => (At { value: address, place }, String::new(), None),
            Either::Table(table) => {
                let zone = table.zone.value().map_or_else(String::new, |zone| zone.0);
                let capacity = table.capacity.value().map(|rate| rate.0);
                match table.address.given() {
                    Some(address) => (address, zone, capacity),
                    None => continue,
                }
            }
        };
        let place = address.place;
        let address = address.value.0;
        // Other addresses of the machine that this is read on need not be those of the one it is for.
        if let Some(found) = own.find(address, |_| false) {
            let expected = format!("an address that is not {}", found.whose());
            let problem = Problem::new(address.to_string(), expected);
            r.report(&place, problem.help(found.consequence()));
        }
        if let Some(earlier) = seen.get(&address) {
            let expected = format!("each address once; it is also on line {}", r.line(earlier));
            r.report(&place, Problem::new(format!("{address} again"), expected));
        } else {
            seen.insert(address, place);
            primaries.push(Primary { address, zone, capacity_rps });
        }
    }
    primaries
}

fn objective(field: Field<RawObjective>, r: &mut Reader<'_>) -> Objective {
    let default = Objective { latency_ms: 500.0, latency_quantile: 0.99, error_rate: 0.01 };
    let Some(At { value: raw, place }) = field.given() else { return default };
    let error_rate = range::share(raw.error_rate, 0.0..=1.0, default.error_rate, r);
    let latencies =
        [raw.latency_p50, raw.latency_p90, raw.latency_p95, raw.latency_p99, raw.latency_p999];
    let mut given = latencies.into_iter().zip(LATENCY_KEYS).filter(|(f, _)| !f.is_absent());
    let Some((latency, (_, latency_quantile))) = given.next() else {
        return Objective { error_rate, ..default };
    };
    let more: Vec<_> = given.map(|(_, (key, _))| key).collect();
    if !more.is_empty() {
        let problem = Problem::new(format!("another latency, {}", more.join(", ")), "one latency");
        r.report(&place, problem.help("keep the one that matters most"));
    }
    let latency = range::time(latency, 1..=10 * MINUTE_MS, 500, r);
    Objective {
        latency_ms: units::duration::to_fractional_ms(latency),
        latency_quantile,
        error_rate,
    }
}

/// QEMU itself accepts connections for a machine, even for one that is stopped or has not booted: only an
/// answer comes from the guest.
fn answers(shadows: &Shadows, health: &Health, place: &Place, r: &mut Reader<'_>) {
    if shadows.providers().any(|p| matches!(p, Provider::Vm(_))) && health.check == HealthCheck::Tcp
    {
        let found = "virtual machines beside a health check that only connects";
        let problem = Problem::new(found, "a check that asks, such as health: { path: / }");
        let help = "qemu accepts connections for a machine that has not booted yet, so it would be \
                    taken for ready at once and given requests";
        r.report(place, problem.help(help));
    }
}

fn health(raw: RawHealth, r: &mut Reader<'_>) -> Health {
    let interval = range::limiting_time(raw.interval, 10..=HOUR_MS, SECOND_MS, r);
    let longest = interval.unwrap_or(Duration::from_millis(HOUR_MS));
    let timeout = match raw.timeout.given() {
        None => longest.min(Duration::from_secs(1)),
        Some(timeout) => at_most(timeout, longest, "the interval", r),
    };
    let interval = longest;
    let kind = raw.r#type.value().map(|kind| kind.0);
    let path = raw.path;
    if kind == Some(CheckKind::Tcp) {
        let places =
            [("path", place(&path)), ("host", place(&raw.host)), ("expect", place(&raw.expect))];
        for (key, place) in places {
            if let Some(place) = place {
                let problem = Problem::new(format!("{key} in a tcp check"), "no such key");
                r.report(place, problem.help("use `type: http` to ask for a path"));
            }
        }
    }
    let asks = !path.is_absent() || !raw.host.is_absent() || !raw.expect.is_absent();
    let check = if kind == Some(CheckKind::Http) || kind.is_none() && asks {
        HealthCheck::Http {
            path: path.value().map_or_else(|| "/".to_owned(), |path| path.0),
            host: raw.host.value().map(|host| host.0),
            expect: expect(raw.expect, r),
        }
    } else {
        HealthCheck::Tcp
    };
    Health {
        check,
        interval,
        timeout,
        rise: range::count(raw.rise, 1..=100, 2, r),
        fall: range::count(raw.fall, 1..=100, 2, r),
    }
}

fn expect(field: Field<List<crate::raw::Status>>, r: &mut Reader<'_>) -> Vec<StatusRange> {
    if let Field::Given(list) = &field
        && list.value.0.is_empty()
    {
        let place = list.place.clone();
        r.report(&place, Problem::new("an empty list", "at least one status"));
    }
    items(field, vec![StatusRange { first: 200, last: 399 }], |status| status.0)
}

fn place<T>(field: &Field<T>) -> Option<&Place> {
    match field {
        Field::Given(at) => Some(&at.place),
        _ => None,
    }
}

/// A duration from 1 ms up to `limit`, which `name` stands for.
pub(super) fn at_most(at: At<Time>, limit: Duration, name: &str, r: &mut Reader<'_>) -> Duration {
    let value = at.value.0;
    if value < Duration::from_millis(1) {
        let found = units::duration::format(value);
        r.report(&at.place, Problem::new(found, "at least 1ms"));
    } else if value > limit {
        let limit = units::duration::format(limit);
        let found = units::duration::format(value);
        r.report(&at.place, Problem::new(found, format!("at most {name}, {limit}")));
    }
    value
}

fn forecast(
    raw: RawForecast,
    (capacity, cost): (Capacity, Option<Cost>),
    signals: &BTreeMap<String, Signal>,
    r: &mut Reader<'_>,
) -> Forecast {
    let mut seasons: Vec<Duration> = Vec::new();
    match raw.seasons.value() {
        None => seasons.push(Duration::from_millis(DAY_MS)),
        Some(list) => {
            for season in list.0 {
                let field = Field::Given(season);
                let season = range::time(field, MINUTE_MS..=366 * DAY_MS, DAY_MS, r);
                if !seasons.contains(&season) {
                    seasons.push(season);
                }
            }
        }
    }
    let quantiles = raw.quantiles.given();
    let place = quantiles.as_ref().map(|at| at.place.clone());
    let raw_quantiles = quantiles.map(|at| at.value).unwrap_or_default();
    let quantiles = quantiles_of(raw_quantiles, raw.violation_cost, (capacity, cost), r);
    let QuantileSpec { prepare, warm, commit } = quantiles;
    if let Some(place) = place
        && (commit > warm || warm > prepare)
    {
        let [commit, warm, prepare] = [commit, warm, prepare].map(units::percent::format);
        let found = format!("commit {commit}, warm {warm}, prepare {prepare}");
        r.report(&place, Problem::new(found, "commit <= warm <= prepare"));
    }
    Forecast {
        signals: forecast_with(raw.signals, signals, r),
        horizon: range::time(raw.horizon, 100..=10 * MINUTE_MS, 30_000, r),
        seasons,
        quantiles,
        evaluation_window: range::time(raw.evaluation_window, SECOND_MS..=HOUR_MS, 10_000, r),
        calendars: events::calendars(raw.calendars, r),
        events: events::rules(raw.events, r),
        onnx: network(raw.onnx, r),
    }
}

/// What a network is made of is seen when it is read, before the first fit.
fn network(field: Field<FilePath>, r: &mut Reader<'_>) -> Option<PathBuf> {
    let At { value: FilePath(file), place } = field.given()?;
    if !cfg!(feature = "onnx") {
        let found = format!("{}, which this build of foreshadow cannot run", file.display());
        let expected = "no network, or a build by `cargo build --release --features onnx`";
        r.report(&place, Problem::new(found, expected));
        return None;
    }
    if !file.is_file() {
        let found = format!("{}, which is no file that can be read", file.display());
        r.report(&place, Problem::new(found, "a network in a file (.onnx)"));
        return None;
    }
    Some(file)
}

/// Quantiles that are given, and for the others what follows from costs, as far as the given ones
/// leave room.
fn quantiles_of(
    raw: RawQuantiles,
    violation: Field<Factor>,
    (capacity, cost): (Capacity, Option<Cost>),
    r: &mut Reader<'_>,
) -> QuantileSpec {
    if let (Field::Given(violation), Some(_)) = (&violation, cost) {
        let found = "violation_cost beside cost of the service";
        r.report(&violation.place, Problem::new(found, "one of the two"));
    }
    let usual = match (violation.is_absent(), capacity, cost) {
        (_, _, Some(cost)) => QuantileSpec::of_cost(cost.violation()),
        (true, Capacity::Learned, None) => QuantileSpec::LEARNED,
        (_, _, None) => {
            let usual = QuantileSpec::VIOLATION_COST;
            QuantileSpec::of_cost(range::factor(violation, 0.1..=1_000.0, usual, r))
        }
    };
    let mut level = |field: Field<Share>| {
        let given = !field.is_absent();
        given.then(|| range::share(field, 0.01..=0.999, 0.5, r))
    };
    let [prepare, warm, commit] = [raw.prepare, raw.warm, raw.commit].map(&mut level);
    let least = commit.or(warm).unwrap_or(0.0);
    let prepare_level = prepare.unwrap_or(usual.prepare.max(warm.unwrap_or(least)).max(least));
    let warm_level = warm.unwrap_or(usual.warm.max(least).min(prepare_level));
    QuantileSpec {
        prepare: prepare_level,
        warm: warm_level,
        commit: commit.unwrap_or(usual.commit.min(warm_level)),
    }
}

/// None where it is not given, or not whole, which was reported.
fn cost(field: Field<RawCost>, r: &mut Reader<'_>) -> Option<Cost> {
    const LEAST: f64 = 1e-9;
    let raw = field.given()?.value;
    if raw.per_hour.is_absent() || raw.violation_per_second.is_absent() {
        return None;
    }
    Some(Cost {
        per_hour: amount(raw.per_hour, LEAST, r),
        violation_per_second: amount(raw.violation_per_second, LEAST, r),
    })
}

fn weights(raw: RawWeights, r: &mut Reader<'_>) -> WeightSpec {
    WeightSpec {
        slew_per_s: range::slew(raw.slew, 0.01..=100.0, 0.5, r),
        hysteresis: range::share(raw.hysteresis, 0.0..=0.5, 0.02, r),
    }
}

fn timeouts(raw: RawTimeouts, r: &mut Reader<'_>) -> Timeouts {
    let total = range::time(raw.total, 1..=DAY_MS, HOUR_MS, r);
    let capped = |field: Field<Time>, default_ms, r: &mut Reader<'_>| match field.given() {
        None => total.min(Duration::from_millis(default_ms)),
        Some(at) => at_most(at, total, "the total", r),
    };
    Timeouts {
        connect: capped(raw.connect, SECOND_MS, r),
        first_byte: capped(raw.first_byte, 15 * SECOND_MS, r),
        stall: capped(raw.stall, MINUTE_MS, r),
        total,
        idle: range::time(raw.idle, 1..=DAY_MS, MINUTE_MS, r),
    }
}

fn retries(raw: RawRetries, r: &mut Reader<'_>) -> Retries {
    let mut on = items(raw.on, vec![RetryOn::ConnectFailure, RetryOn::Reset], |on| on.0);
    let mut seen = std::collections::HashSet::new();
    on.retain(|on| seen.insert(*on));
    Retries {
        attempts: range::count(raw.attempts, 1..=10, 2, r),
        budget: range::share(raw.budget, 0.0..=1.0, 0.2, r),
        min_per_second: range::count(raw.min_per_second, 0..=1_000_000, 10, r),
        on,
    }
}

fn ejection(raw: RawEjection, r: &mut Reader<'_>) -> Ejection {
    let base = range::time(raw.base, 10..=DAY_MS, 5 * SECOND_MS, r);
    let max = match raw.max.given() {
        None => base.max(Duration::from_millis(2 * MINUTE_MS)),
        Some(max) if max.value.0 < base => {
            let expected = format!("at least the base, {}", units::duration::format(base));
            let found = units::duration::format(max.value.0);
            r.report(&max.place, Problem::new(found, expected));
            base
        }
        Some(max) => range::time(Field::Given(max), 10..=7 * DAY_MS, 2 * MINUTE_MS, r),
    };
    Ejection {
        consecutive_errors: range::count(raw.consecutive_errors, 0..=1000, 5, r),
        base,
        max,
        max_ejected: range::share(raw.max_ejected, 0.0..=1.0, 0.5, r),
        probation_requests: range::count(raw.probation_requests, 1..=100, 3, r),
    }
}
