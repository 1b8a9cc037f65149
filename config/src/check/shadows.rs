//! Shadows: placeholders, pools that fit, ports that suffice.

use std::collections::BTreeMap;

use foreshadow_control::PoolSpec;

use super::items;
use super::range::{self, HOUR_MS};
use crate::expand::is_name;
use crate::raw::{Count, DEFAULT_PORTS, List, Map, RawPool, RawProcess, RawShadows, Word};
use crate::reader::{Field, Place, Problem, Reader, quote};
use crate::{CpuShare, Mirror, OnExit, PortRange, ProcessProvider, Provider, Shadows};

/// What may stand in braces in a command.
const PLACEHOLDERS: [&str; 4] = ["port", "id", "service", "address"];

pub(super) fn shadows(raw: RawShadows, r: &mut Reader<'_>) -> Shadows {
    let pool = pool(raw.pool, r);
    let provider = raw.provider.value().unwrap_or_default();
    let mirror = raw.mirror.value().unwrap_or_default();
    Shadows {
        provider: Provider::Process(process(provider.process, pool, r)),
        pool,
        zone: raw.zone.value().map_or_else(String::new, |zone| zone.0),
        mirror: Mirror {
            share: range::share(mirror.share, 0.0..=1.0, 0.05, r),
            max_in_flight: range::size(mirror.max_in_flight, 0..=65_536, 16, r),
        },
        on_exit: raw.on_exit.value().map_or(OnExit::Destroy, |on_exit| on_exit.0),
    }
}

fn pool(field: Field<RawPool>, r: &mut Reader<'_>) -> PoolSpec {
    let raw = field.value().unwrap_or_default();
    let place = match &raw.max {
        Field::Given(at) => Some(at.place.clone()),
        _ => None,
    };
    let given = |field: &Field<Count>| match field {
        Field::Given(at) => u32::try_from(at.value.0).unwrap_or(u32::MAX),
        _ => 0,
    };
    let wanted = [&raw.shadow, &raw.warm, &raw.full].map(given);
    let wanted = wanted.into_iter().fold(0, u32::saturating_add);
    let max = range::count(raw.max, 1..=1000, wanted.clamp(4, 1000), r);
    // Defaults give way to a small bound; only figures that were written can exceed it.
    let spare = max.saturating_sub(wanted);
    let warm_default = if raw.warm.is_absent() { spare.min(1) } else { 0 };
    let shadow_default = (spare - warm_default).min(1);
    let shadow = range::count(raw.shadow, 0..=1000, shadow_default, r);
    let warm = range::count(raw.warm, 0..=1000, warm_default, r);
    let full = range::count(raw.full, 0..=1000, 0, r);
    if let Some(place) = place
        && max < shadow + warm + full
    {
        let kept = shadow + warm + full;
        let expected = format!("at least {kept}: shadow {shadow} + warm {warm} + full {full}");
        r.report(&place, Problem::new(max.to_string(), expected));
    }
    PoolSpec { shadow, warm, full, max }
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
    let cpu = raw.cpu.value().unwrap_or_default();
    ProcessProvider {
        command,
        dir: raw.dir.value().map(|dir| dir.0),
        env,
        start_timeout: range::time(raw.start_timeout, 1..=HOUR_MS, 30_000, r),
        stop_timeout: range::time(raw.stop_timeout, 0..=HOUR_MS, 10_000, r),
        ports: ports(raw.ports, pool, r),
        cpu: CpuShare { warm: range::share(cpu.warm, 0.01..=1.0, 0.2, r) },
    }
}

fn ports(field: Field<crate::raw::Ports>, pool: PoolSpec, r: &mut Reader<'_>) -> PortRange {
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
        match list.value.0.first() {
            None => {
                r.report(&list.place, Problem::new("an empty list", "a program"));
            }
            Some(program) if program.value.0.is_empty() => {
                r.report(&program.place, Problem::new("an empty text", "a program"));
            }
            Some(_) => {}
        }
        for word in &list.value.0 {
            *reachable |= placeholders(&word.value.0, &word.place, r);
        }
    }
    items(field, Vec::new(), |word| word.0)
}

fn environment(
    field: Field<Map<Word>>,
    reachable: &mut bool,
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
            *reachable |= placeholders(&value.value.0, &value.place, r);
            env.insert(name.value, value.value.0);
        }
    }
    env
}

/// Reports placeholders that mean nothing; says whether the text tells an instance its port.
fn placeholders(text: &str, place: &Place, r: &mut Reader<'_>) -> bool {
    let mut reachable = false;
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        // Other braces, as in JSON or in a shell's ${VAR}, are the program's own affair.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            continue;
        }
        if PLACEHOLDERS.contains(&name) {
            reachable |= name == "port" || name == "address";
        } else {
            let names = PLACEHOLDERS.map(|name| format!("{{{name}}}"));
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
