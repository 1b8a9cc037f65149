//! What providers see of instances, under the names that instances would report it by.

use crate::ResourceSample;

/// Every name.
pub(crate) const NAMES: [&str; 8] = [
    "cpu",
    "cpu_pressure",
    "disk",
    "disk_bytes",
    "io_pressure",
    "memory",
    "memory_bytes",
    "memory_pressure",
];

/// What an instance uses of its machine, under the name that it would report it by.
pub(crate) fn used(resources: &ResourceSample, name: &str) -> Option<f64> {
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let memory_bytes = bytes(resources.memory_bytes);
    let disk_bytes = bytes(resources.disk_bytes);
    match name {
        "cpu" => quotient(resources.cpu_cores?, resources.cpu_limit_cores?),
        "memory" => quotient(memory_bytes?, bytes(resources.memory_limit_bytes)?),
        "memory_bytes" => memory_bytes,
        "disk" => quotient(disk_bytes?, bytes(resources.disk_limit_bytes)?),
        "disk_bytes" => disk_bytes,
        "cpu_pressure" => resources.cpu_some_share,
        "memory_pressure" => resources.memory_some_share,
        "io_pressure" => resources.io_some_share,
        _ => None,
    }
}

fn quotient(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}
