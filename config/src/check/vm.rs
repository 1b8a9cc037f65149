//! Virtual machines: what boots them, and what of their emulator's command is not to be written.

use foreshadow_control::PoolSpec;

use super::items;
use super::providers::{account, cpu, limits, output, placeholders, ports};
use super::range::{self, HOUR_MS};
use crate::raw::{Bytes, FilePath, List, RawVm, Text, Word};
use crate::reader::{Field, Problem, Reader, quote};
use crate::{Accel, VmProvider};

const PLACEHOLDERS: [&str; 2] = ["id", "service"];

const MIB: u64 = 1 << 20;

/// Options of the emulator that are set from other settings, with these; nothing where they are set for
/// good. Both `-m` and `--m` are read as the same.
const TAKEN: [(&str, &str); 43] = [
    ("accel", "accel"),
    ("enable-kvm", "accel"),
    ("machine", "machine"),
    ("M", "machine"),
    ("smp", "cpus"),
    ("m", "memory"),
    ("kernel", "kernel"),
    ("initrd", "initrd"),
    ("append", "append"),
    ("hda", "image"),
    ("nic", "port"),
    ("net", "port"),
    ("snapshot", "image"),
    ("serial", "output"),
    ("cpu", ""),
    ("name", ""),
    ("qmp", ""),
    ("qmp-pretty", ""),
    ("mon", ""),
    ("monitor", ""),
    ("incoming", ""),
    ("loadvm", ""),
    ("only-migratable", ""),
    ("daemonize", ""),
    ("pidfile", ""),
    ("S", ""),
    ("preconfig", ""),
    ("display", ""),
    ("nographic", ""),
    ("vnc", ""),
    ("nodefaults", ""),
    ("no-user-config", ""),
    ("readconfig", ""),
    ("action", ""),
    ("no-shutdown", ""),
    ("no-reboot", ""),
    ("chroot", ""),
    ("runas", "user"),
    ("sandbox", "sandbox"),
    ("rtc", ""),
    ("version", ""),
    ("help", ""),
    ("h", ""),
];

pub(super) fn vm(raw: RawVm, pool: PoolSpec, r: &mut Reader<'_>) -> VmProvider {
    let has_kernel = !raw.kernel.is_absent();
    if raw.image.is_absent() && !has_kernel {
        let place = r.lead();
        let problem = Problem::new("neither image nor kernel", "one of them, or both");
        r.report(&place, problem.help("a machine has nothing to start from without"));
    }
    let mut without_kernel = |name: &str, place: Option<&crate::reader::Place>| {
        if let (Some(place), false) = (place, has_kernel) {
            let problem = Problem::new(format!("{name} without kernel"), "a kernel beside it");
            r.report(place, problem.help("what is on an image has its own"));
        }
    };
    without_kernel("initrd", place(&raw.initrd));
    without_kernel("append", place(&raw.append));
    if let Field::Given(append) = &raw.append {
        placeholders(&PLACEHOLDERS, &append.value.0, &append.place, r);
    }
    if let (Field::Given(group), true) = (&raw.group, raw.user.is_absent()) {
        r.report(&group.place, Problem::new("a group without a user", "a user beside it"));
    }
    let path = |field: Field<FilePath>| field.value().map(|path| path.0);
    VmProvider {
        image: path(raw.image),
        kernel: path(raw.kernel),
        initrd: path(raw.initrd),
        append: raw.append.value().map(|text| text.0).unwrap_or_default(),
        binary: word(raw.binary, "qemu-system-x86_64", r),
        machine: word(raw.machine, "pc", r),
        accel: raw.accel.value().map_or(Accel::Auto, |choice| choice.0),
        cpus: range::count(raw.cpus, 1..=1_024, 1, r),
        memory: memory(raw.memory, r),
        port: match raw.port.is_absent() {
            true => 0,
            false => range::count(raw.port, 1..=u16::MAX, 1, r),
        },
        outbound: raw.outbound.value().is_some_and(|switch| switch.0),
        args: args(raw.args, r),
        sandbox: raw.sandbox.value().is_none_or(|switch| switch.0),
        user: account(raw.user, r),
        group: account(raw.group, r),
        limits: limits(raw.limits.value().unwrap_or_default(), r),
        ports: ports(raw.ports, pool, r),
        output: output(raw.output, r),
        timeout: range::time(raw.timeout, 100..=HOUR_MS, 10_000, r),
        start_timeout: range::time(raw.start_timeout, 1..=HOUR_MS, 120_000, r),
        stop_timeout: range::time(raw.stop_timeout, 0..=HOUR_MS, 30_000, r),
        cpu: cpu(raw.cpu, r),
    }
}

fn place<T>(field: &Field<T>) -> Option<&crate::reader::Place> {
    match field {
        Field::Given(at) => Some(&at.place),
        _ => None,
    }
}

/// One word of a command.
fn word(field: Field<Text>, default: &str, r: &mut Reader<'_>) -> String {
    let Some(at) = field.given() else { return default.to_owned() };
    if at.value.0.trim().is_empty() || at.value.0.starts_with('-') {
        r.report(&at.place, Problem::new(quote(&at.value.0), "a name or a path"));
    }
    at.value.0
}

fn memory(field: Field<Bytes>, r: &mut Reader<'_>) -> u64 {
    const DEFAULT: u64 = 256 * MIB;
    if let Field::Given(at) = &field
        && at.value.0 >= MIB
        && !at.value.0.is_multiple_of(MIB)
    {
        let found = format!("{} bytes", at.value.0);
        r.report(&at.place, Problem::new(found, "whole MiB, such as 512MiB"));
    }
    range::bytes(field, MIB..=1 << 50, DEFAULT, r)
}

fn args(field: Field<List<Word>>, r: &mut Reader<'_>) -> Vec<String> {
    if let Field::Given(list) = &field {
        for word in &list.value.0 {
            placeholders(&PLACEHOLDERS, &word.value.0, &word.place, r);
            let name = word.value.0.strip_prefix('-').unwrap_or_default();
            let name = name.strip_prefix('-').unwrap_or(name);
            let Some((_, setting)) = TAKEN.iter().find(|(taken, _)| *taken == name) else {
                continue;
            };
            let found = format!("{} in args", quote(&word.value.0));
            let problem = match setting.is_empty() {
                true => Problem::new(found, "options that foreshadow leaves open")
                    .help("it is set for good, since machines could not be asked or found without"),
                false => Problem::new(found, format!("{setting} beside args")),
            };
            r.report(&word.place, problem);
        }
    }
    items(field, Vec::new(), |word| word.0)
}
