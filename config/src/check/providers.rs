//! Providers: placeholders, ports that suffice, what fits together.

use std::collections::BTreeMap;

use foreshadow_control::{PlaceName, PoolSpec, ServiceName};

use super::docker::docker;
use super::kubernetes::kubernetes;
use super::range::{self, HOUR_MS, MINUTE_MS};
use super::vm::vm;
use super::{admin, items};
use crate::expand::is_name;
use crate::raw::{
    Bytes, Count, DEFAULT_PORTS, List, Map, OneOf, RawConcurrency, RawCpu, RawExec, RawOutput,
    RawProcess, RawProcessLimits, RawProvider, RawService, RawWebhook, Time, Word,
};
use crate::reader::{At, Field, Place, Problem, Reader, quote};
use crate::{
    Concurrency, Contract, CpuShare, Endpoint, Environment, ExecProvider, Network, Output,
    PortRange, ProcessLimits, ProcessProvider, Provider, Service, Step, WebhookProvider,
};

/// What may stand in braces in a command.
const PLACEHOLDERS: [&str; 4] = ["port", "id", "service", "address"];

pub(super) fn provider(raw: RawProvider, pool: PoolSpec, r: &mut Reader<'_>) -> Provider {
    match raw {
        RawProvider::Docker(raw) => {
            Provider::Docker(Box::new(docker(raw.value().unwrap_or_default(), r)))
        }
        RawProvider::Kubernetes(raw) => {
            let lead = match &*raw {
                Field::Given(at) => Some(at.place.clone()),
                _ => None,
            };
            let raw = raw.value().unwrap_or_default();
            Provider::Kubernetes(Box::new(kubernetes(raw, lead, r)))
        }
        RawProvider::Vm(raw) => {
            Provider::Vm(Box::new(vm(raw.value().unwrap_or_default(), pool, r)))
        }
        RawProvider::Exec(raw) => {
            Provider::Exec(Box::new(exec(raw.value().unwrap_or_default(), r)))
        }
        RawProvider::Webhook(raw) => {
            Provider::Webhook(Box::new(webhook(raw.value().unwrap_or_default(), r)))
        }
        RawProvider::Process(raw) => Provider::Process(Box::new(process(*raw, pool, r))),
        RawProvider::None => Provider::Process(Box::new(process(Field::Invalid, pool, r))),
    }
}

fn process(field: Field<RawProcess>, pool: PoolSpec, r: &mut Reader<'_>) -> ProcessProvider {
    let raw = field.value().unwrap_or_default();
    let command_is_read = matches!(raw.command, Field::Given(_));
    let place = match &raw.command {
        Field::Given(at) => Some(at.place.clone()),
        _ => None,
    };
    let mut reachable = false;
    let command = command(raw.command, &mut reachable, r);
    let env = environment(raw.env, &mut reachable, r);
    if let Some(place) = place
        && command_is_read
        && !reachable
        && !command.is_empty()
    {
        let problem = Problem::new("a command without {port}", "{port} or {address} in it");
        let help = "each instance is told its port, as in --port={port} or env: { PORT: '{port}' }";
        r.report(&place, problem.help(help));
    }
    if let (Field::Given(group), true) = (&raw.group, raw.user.is_absent()) {
        r.report(&group.place, Problem::new("a group without a user", "a user beside it"));
    }
    ProcessProvider {
        command,
        dir: raw.dir.value().map(|dir| dir.0),
        env,
        environment: raw.environment.value().map_or(Environment::Inherit, |choice| choice.0),
        user: account(raw.user, r),
        group: account(raw.group, r),
        umask: raw.umask.value().map(|mask| mask.0),
        no_new_privileges: raw.no_new_privileges.value().is_some_and(|switch| switch.0),
        network: raw.network.value().map_or(Network::Shared, |choice| choice.0),
        limits: limits(raw.limits.value().unwrap_or_default(), r),
        output: output(raw.output, r),
        start_timeout: range::time(raw.start_timeout, 1..=HOUR_MS, 30_000, r),
        stop_timeout: range::time(raw.stop_timeout, 0..=HOUR_MS, 10_000, r),
        ports: ports(raw.ports, pool, r),
        cpu: cpu(raw.cpu, r),
    }
}

pub(super) fn output(field: Field<RawOutput>, r: &mut Reader<'_>) -> Output {
    let raw = field.value().unwrap_or_default();
    Output {
        max_size: range::bytes(raw.max_size, 4 << 10..=u64::MAX, 8 << 20, r),
        keep: range::count(raw.keep, 0..=100, 1, r),
    }
}

/// The name of a user or group; whether there is one is seen when an instance is made.
pub(super) fn account(field: Field<Word>, r: &mut Reader<'_>) -> Option<String> {
    let at = field.given()?;
    let name = at.value.0;
    if name.is_empty() || name.contains([':', '/', '\n']) {
        let problem = Problem::new(quote(&name), "a name or a number");
        r.report(&at.place, problem);
    }
    Some(name)
}

pub(super) fn limits(raw: RawProcessLimits, r: &mut Reader<'_>) -> ProcessLimits {
    fn count(field: Field<Count>, least: u64, r: &mut Reader<'_>) -> Option<u64> {
        (!field.is_absent()).then(|| range::count(field, least..=u64::MAX >> 1, least, r))
    }
    fn bytes(field: Field<Bytes>, least: u64, r: &mut Reader<'_>) -> Option<u64> {
        (!field.is_absent()).then(|| range::bytes(field, least..=u64::MAX >> 1, least, r))
    }
    ProcessLimits {
        open_files: count(raw.open_files, 16, r),
        core: bytes(raw.core, 0, r),
        address_space: bytes(raw.address_space, 1 << 20, r),
        processes: count(raw.processes, 1, r),
        memory: bytes(raw.memory, 1 << 20, r),
        tasks: count(raw.tasks, 1, r),
    }
}

pub(super) fn cpu(field: Field<RawCpu>, r: &mut Reader<'_>) -> CpuShare {
    let raw = field.value().unwrap_or_default();
    CpuShare { warm: range::share(raw.warm, 0.01..=1.0, 0.2, r) }
}

fn exec(raw: RawExec, r: &mut Reader<'_>) -> ExecProvider {
    let times = [raw.timeout, raw.poll, raw.start_timeout, raw.stop_timeout];
    // What stands in braces is the command's own affair: it is run for steps, not for instances.
    ExecProvider {
        command: program(raw.command, r),
        dir: raw.dir.value().map(|dir| dir.0),
        env: variables(raw.env, &mut |_, _: &mut Reader<'_>| {}, r),
        contract: contract(raw.can, times, raw.cpu, r),
    }
}

fn webhook(raw: RawWebhook, r: &mut Reader<'_>) -> WebhookProvider {
    let times = [raw.timeout, raw.poll, raw.start_timeout, raw.stop_timeout];
    WebhookProvider {
        url: raw.url.value().map_or_else(|| Endpoint::Unix("/".into()), |url| url.0),
        token: raw.token.given().and_then(|at| admin::token(at, r)),
        concurrency: concurrency(raw.concurrency, r),
        contract: contract(raw.can, times, raw.cpu, r),
    }
}

/// Where a service names what others may share, with its place of shadows, and whether stands beside it
/// what all services there must have in common.
pub(super) type Named = (ServiceName, PlaceName, (Place, bool));

/// What of a service others may share.
pub(super) fn shared(name: &ServiceName, service: &RawService) -> Vec<Named> {
    let Field::Given(shadows) = &service.shadows else { return Vec::new() };
    let mut found = Vec::new();
    let mut note = |place: PlaceName, provider: &Field<RawProvider>| {
        let Field::Given(provider) = provider else { return };
        found.extend(shared_at(&provider.value).map(|shared| (name.clone(), place, shared)));
    };
    note(PlaceName::default(), &shadows.value.provider);
    if let Field::Given(places) = &shadows.value.places {
        for (place, raw) in &places.value.0 {
            if let Field::Given(raw) = raw {
                note(PlaceName::from(place.value.as_str()), &raw.value.provider);
            }
        }
    }
    found
}

fn shared_at(provider: &RawProvider) -> Option<(Place, bool)> {
    match provider {
        RawProvider::Webhook(webhook) => {
            let Field::Given(webhook) = &**webhook else { return None };
            let Field::Given(url) = &webhook.value.url else { return None };
            Some((url.place.clone(), !webhook.value.token.is_absent()))
        }
        RawProvider::Docker(docker) => {
            let Field::Given(docker) = &**docker else { return None };
            let Field::Given(endpoint) = &docker.value.endpoint else { return None };
            Some((endpoint.place.clone(), !docker.value.tls.is_absent()))
        }
        _ => None,
    }
}

/// What is reached with a secret is reached with the same one by all services there: an endpoint has
/// one token, since shadows of all of them are ended and listed with it, and an engine one `tls`, since
/// they share its connections. `named` is where services name one, as [`shared`] finds it.
pub(super) fn one_way_each(
    services: &BTreeMap<ServiceName, Service>,
    named: &[Named],
    r: &mut Reader<'_>,
) {
    let (mut tokens, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (name, of_shadows, (place, given)) in named {
        let shadows = services.get(name).and_then(|service| service.shadows.as_ref());
        let provider = shadows.and_then(|shadows| shadows.place(of_shadows));
        let (found, kinds) = match provider.map(|place| &place.provider) {
            Some(Provider::Webhook(webhook)) => {
                let token = webhook.token.as_ref().map(|token| token.secret().expose());
                let at = webhook.url.to_string();
                (other(&mut tokens, at, name, token, *given), ("token", "an endpoint", "its token"))
            }
            Some(Provider::Docker(docker)) => {
                let at = docker.endpoint.to_string();
                let other = other(&mut files, at, name, docker.tls.as_ref(), *given);
                (other, ("tls", "an engine", "its certificates"))
            }
            _ => continue,
        };
        if let Some((at, first)) = found {
            let (what, shared, shares) = kinds;
            let found = format!("{at} with another {what} than that of {}", quote(&first));
            let same = format!("the same {what}, or none, in all services there");
            let help = format!("services that share {shared} share {shares}");
            r.report(place, Problem::new(found, same).help(help));
        }
    }
}

/// The first service at a place, where it has another value there than this one.
fn other<T: Copy + PartialEq>(
    first: &mut BTreeMap<String, (ServiceName, Option<T>)>,
    at: String,
    name: &ServiceName,
    value: Option<T>,
    given: bool,
) -> Option<(String, String)> {
    if value.is_none() && given {
        // It could not be read, which was reported.
        return None;
    }
    let (other, known) = first.entry(at.clone()).or_insert_with(|| (name.clone(), value));
    (*known != value).then(|| (at, other.as_str().to_owned()))
}

/// What commands and endpoints have in common; `times` as in [`Contract`].
fn contract(
    can: Field<List<OneOf<Step>>>,
    [timeout, poll, start_timeout, stop_timeout]: [Field<Time>; 4],
    raw_cpu: Field<RawCpu>,
    r: &mut Reader<'_>,
) -> Contract {
    Contract {
        can: steps(can),
        timeout: range::time(timeout, 100..=HOUR_MS, 30_000, r),
        poll: range::time(poll, 100..=10 * MINUTE_MS, 1_000, r),
        start_timeout: range::time(start_timeout, 1..=HOUR_MS, 30_000, r),
        stop_timeout: range::time(stop_timeout, 0..=HOUR_MS, 10_000, r),
        cpu: cpu(raw_cpu, r),
    }
}

fn concurrency(field: Field<RawConcurrency>, r: &mut Reader<'_>) -> Option<Concurrency> {
    const MOST: u32 = 1_000_000;
    let raw = field.given()?.value;
    let warm = range::count(raw.warm, 1..=MOST, 1, r);
    Some(Concurrency {
        shadow: range::count(raw.shadow, 0..=warm, 0, r),
        warm,
        full: range::count(raw.full, warm..=MOST, warm, r),
    })
}

fn steps(field: Field<List<OneOf<Step>>>) -> Vec<Step> {
    let mut steps: Vec<Step> = items(field, Vec::new(), |step| step.0);
    let all = [Step::Freeze, Step::Resize, Step::Snapshot];
    steps.sort_by_key(|step| all.iter().position(|other| other == step));
    steps.dedup();
    steps
}

pub(super) fn ports(
    field: Field<crate::raw::Ports>,
    pool: PoolSpec,
    r: &mut Reader<'_>,
) -> PortRange {
    let Some(at) = field.given() else { return DEFAULT_PORTS };
    let ports = at.value.0;
    if ports.count() < pool.max {
        let found = format!("{ports}, {} ports", ports.count());
        let expected = format!("at least {}, the most shadows of the pool", pool.max);
        r.report(&at.place, Problem::new(found, expected));
    }
    ports
}

fn command(field: Field<List<Word>>, reachable: &mut bool, r: &mut Reader<'_>) -> Vec<String> {
    if let Field::Given(list) = &field {
        for word in &list.value.0 {
            *reachable |= placeholders(&PLACEHOLDERS, &word.value.0, &word.place, r);
        }
    }
    program(field, r)
}

pub(super) fn program(field: Field<List<Word>>, r: &mut Reader<'_>) -> Vec<String> {
    if let Field::Given(list) = &field {
        match list.value.0.first() {
            None => {
                r.report(&list.place, Problem::new("an empty list", "a program"));
            }
            Some(program) if program.value.0.is_empty() => {
                r.report(&program.place, Problem::new("an empty text", "a program"));
            }
            Some(_) => {}
        }
    }
    items(field, Vec::new(), |word| word.0)
}

fn environment(
    field: Field<Map<Word>>,
    reachable: &mut bool,
    r: &mut Reader<'_>,
) -> BTreeMap<String, String> {
    variables(
        field,
        &mut |at, r| *reachable |= placeholders(&PLACEHOLDERS, &at.value.0, &at.place, r),
        r,
    )
}

pub(super) fn variables(
    field: Field<Map<Word>>,
    look: &mut dyn FnMut(&At<Word>, &mut Reader<'_>),
    r: &mut Reader<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in field.value().map(|map| map.0).unwrap_or_default() {
        if !is_name(&name.value) {
            let problem = Problem::new(
                format!("the name {}", quote(&name.value)),
                "the name of an environment variable",
            );
            r.report(&name.place, problem);
        }
        if let Some(value) = value.given() {
            look(&value, r);
            env.insert(name.value, value.value.0);
        }
    }
    env
}

/// Reports placeholders that mean nothing; says whether the text tells an instance its port.
pub(super) fn placeholders(known: &[&str], text: &str, place: &Place, r: &mut Reader<'_>) -> bool {
    let mut reachable = false;
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        // Other braces, as in JSON or in a shell's ${VAR}, are the program's own affair.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue;
        }
        if known.contains(&name) {
            reachable |= name == "port" || name == "address";
        } else {
            let names: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            let found = format!("{{{name}}}");
            let problem =
                Problem::new(format!("{found:?}"), format!("one of {}", names.join(", ")));
            let problem = problem.nearest(&found, names.iter().map(String::as_str));
            r.report(place, problem);
            // One report is enough: what was meant may well be the port.
            reachable = true;
        }
    }
    reachable
}
