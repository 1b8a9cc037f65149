//! Containers of a Docker Engine: networks, mounts and limits that fit together.

use std::collections::BTreeMap;

use super::items;
use super::providers::{cpu, placeholders, variables};
use super::range::{self, HOUR_MS};
use crate::raw::{
    Count, Either, EngineName, List, Map, RawContainerLimits, RawContainerLog, RawDocker,
    RawEngineTls, RawMount, RawUlimit, Text, Word, is_engine_name,
};
use crate::reader::{At, Field, Problem, Reader, quote};
use crate::{
    ContainerLimits, ContainerLog, ContainerMount, DockerProvider, EngineEndpoint, EngineTls, Pull,
    Ulimit,
};

/// What may stand in braces in a command: the address is the engine's to choose.
const PLACEHOLDERS: [&str; 3] = ["port", "id", "service"];

/// Networks of every engine in which an instance has no address of its own.
const WITHOUT_ADDRESS: [&str; 2] = ["host", "none"];

/// The resource limits of the kernel (setrlimit(2)), by the engine's names.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn docker(raw: RawDocker, r: &mut Reader<'_>) -> DockerProvider {
    let port = match raw.port.is_absent() {
        true => 0,
        false => range::count(raw.port, 1..=u16::MAX, 1, r),
    };
    let endpoint = raw.endpoint.value().map_or_else(EngineEndpoint::default, |text| text.0);
    let endpoint = endpoint.spoken(!raw.tls.is_absent());
    let mirrored = !raw.mirror.is_absent() || !raw.aliases.is_absent();
    let isolate = raw.isolate.value().map_or(mirrored, |switch| switch.0);
    if let (Field::Given(aliases), false) = (&raw.aliases, isolate) {
        let problem = Problem::new("aliases with isolate: off", "isolate: on");
        let help =
            "a parked instance must not be found by its callers, so aliases come with activation";
        r.report(&aliases.place, problem.help(help));
    }
    if let (Field::Given(publish), true) = (&raw.publish, isolate) {
        let problem = Problem::new("publish beside isolate: on", "one of them");
        r.report(&publish.place, problem.help("an internal network publishes nothing"));
    }
    DockerProvider {
        image: image(raw.image, r),
        pull: raw.pull.value().map_or(Pull::Never, |choice| choice.0),
        tls: tls(raw.tls, &endpoint, r),
        endpoint,
        command: command(raw.command, r),
        env: variables(raw.env, &mut look, r),
        port,
        publish: raw.publish.value().map(|address| address.0),
        networks: networks(raw.networks, r),
        aliases: items(raw.aliases, Vec::new(), |name| name.0),
        mirror: raw.mirror.value().map(|name| name.0),
        isolate,
        mounts: mounts(raw.mounts, r),
        user: raw.user.value().map(|user| user.0),
        init: raw.init.value().is_some_and(|switch| switch.0),
        limits: limits(raw.limits.value().unwrap_or_default(), r),
        log: log(raw.log, r),
        timeout: range::time(raw.timeout, 100..=HOUR_MS, 30_000, r),
        start_timeout: range::time(raw.start_timeout, 1..=HOUR_MS, 30_000, r),
        stop_timeout: range::time(raw.stop_timeout, 0..=HOUR_MS, 10_000, r),
        cpu: cpu(raw.cpu, r),
    }
}

fn look(word: &At<Word>, r: &mut Reader<'_>) {
    placeholders(&PLACEHOLDERS, &word.value.0, &word.place, r);
}

fn command(field: Field<List<Word>>, r: &mut Reader<'_>) -> Vec<String> {
    if let Field::Given(list) = &field {
        list.value.0.iter().for_each(|word| look(word, r));
        if list.value.0.is_empty() {
            let problem = Problem::new("an empty list", "a command");
            r.report(&list.place, problem.help("leave it out for that of the image"));
        }
    }
    items(field, Vec::new(), |word| word.0)
}

fn image(field: Field<Text>, r: &mut Reader<'_>) -> String {
    let Some(at) = field.given() else { return String::new() };
    let image = at.value.0;
    if !image.bytes().all(|byte| byte.is_ascii_graphic()) {
        r.report(&at.place, Problem::new(quote(&image), "an image, such as shop:1.4"));
    }
    image
}

fn tls(
    field: Field<RawEngineTls>,
    endpoint: &EngineEndpoint,
    r: &mut Reader<'_>,
) -> Option<EngineTls> {
    let at = field.given()?;
    if let EngineEndpoint::Unix(_) = endpoint {
        let found = format!("tls for {endpoint}");
        let problem = Problem::new(found, "endpoint: tcp://HOST:PORT beside it");
        r.report(&at.place, problem.help("a socket in the file system has no certificate"));
    }
    let RawEngineTls { ca, cert, key } = at.value;
    let path = |field: Field<crate::raw::FilePath>| field.value().map(|path| path.0);
    Some(EngineTls { ca: path(ca)?, cert: path(cert)?, key: path(key)? })
}

fn networks(field: Field<List<EngineName>>, r: &mut Reader<'_>) -> Vec<String> {
    if let Field::Given(list) = &field {
        for name in &list.value.0 {
            if WITHOUT_ADDRESS.contains(&name.value.0.as_str()) {
                let problem = Problem::new(quote(&name.value.0), "a network with addresses");
                let help = "shadows of one service need addresses of their own";
                r.report(&name.place, problem.help(help));
            }
        }
    }
    let mut names = items(field, Vec::new(), |name| name.0);
    names.sort_unstable();
    names.dedup();
    names
}

fn mounts(field: Field<List<RawMount>>, r: &mut Reader<'_>) -> Vec<ContainerMount> {
    let Some(list) = field.value() else { return Vec::new() };
    list.0.into_iter().filter_map(|at| mount(at.value, r)).collect()
}

fn mount(raw: RawMount, r: &mut Reader<'_>) -> Option<ContainerMount> {
    let (source, target) = (raw.source.given()?, raw.target.given()?);
    if !source.value.0.starts_with('/') && !is_engine_name(&source.value.0) {
        let problem = Problem::new(quote(&source.value.0), "an absolute path or a volume's name");
        r.report(&source.place, problem);
    }
    if !target.value.0.starts_with('/') {
        r.report(&target.place, Problem::new(quote(&target.value.0), "an absolute path"));
    }
    Some(ContainerMount {
        source: source.value.0,
        target: target.value.0,
        write: raw.write.value().is_some_and(|switch| switch.0),
    })
}

fn limits(raw: RawContainerLimits, r: &mut Reader<'_>) -> ContainerLimits {
    /// The least that engines take (moby, `daemon/daemon_unix.go`).
    const LEAST: u64 = 6 << 20;
    let given = |absent: bool| (!absent).then_some(());
    let cpus = given(raw.cpus.is_absent()).map(|()| range::factor(raw.cpus, 0.01..=1024.0, 1.0, r));
    let memory = given(raw.memory.is_absent())
        .map(|()| range::bytes(raw.memory, LEAST..=u64::MAX >> 1, LEAST, r));
    if let (Field::Given(warm), None) = (&raw.warm_memory, memory) {
        r.report(&warm.place, Problem::new("warm_memory without memory", "memory beside it"));
    }
    let most = memory.unwrap_or(u64::MAX >> 1);
    let warm_memory = given(raw.warm_memory.is_absent())
        .map(|()| range::bytes(raw.warm_memory, LEAST..=most, LEAST, r));
    let tasks =
        given(raw.tasks.is_absent()).map(|()| range::count(raw.tasks, 1..=u64::MAX >> 1, 1, r));
    ContainerLimits { cpus, memory, warm_memory, tasks, ulimits: ulimits(raw.ulimits, r) }
}

fn ulimits(
    field: Field<Map<Either<Count, RawUlimit>>>,
    r: &mut Reader<'_>,
) -> BTreeMap<String, Ulimit> {
    let mut limits = BTreeMap::new();
    for (name, value) in field.value().map(|map| map.0).unwrap_or_default() {
        if !ULIMITS.contains(&name.value.as_str()) {
            let problem =
                Problem::new(quote(&name.value), format!("one of {}", ULIMITS.join(", ")));
            r.report(&name.place, problem.nearest(&name.value, ULIMITS));
        }
        let Some(at) = value.given() else { continue };
        let limit = match at.value {
            Either::Short(Count(one)) => Ulimit { soft: one, hard: one },
            Either::Table(table) => {
                let (Some(soft), Some(hard)) = (table.soft.value(), table.hard.value()) else {
                    continue;
                };
                if soft.0 > hard.0 {
                    let found = format!("soft {} above hard {}", soft.0, hard.0);
                    r.report(&at.place, Problem::new(found, "at most that"));
                }
                Ulimit { soft: soft.0, hard: hard.0 }
            }
        };
        limits.insert(name.value, limit);
    }
    limits
}

fn log(field: Field<RawContainerLog>, r: &mut Reader<'_>) -> Option<ContainerLog> {
    let raw = field.value()?;
    let driver = raw.driver.value()?.0;
    let mut options = BTreeMap::new();
    for (name, value) in raw.options.value().map(|map| map.0).unwrap_or_default() {
        if name.value.is_empty() {
            r.report(&name.place, Problem::new("an empty name", "an option of the driver"));
        }
        if let Some(value) = value.value() {
            options.insert(name.value, value.0);
        }
    }
    Some(ContainerLog { driver, options })
}
