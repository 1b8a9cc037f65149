//! What an instance uses of its machine: as its provider sees it, and where that sees nothing, as the
//! instance says itself.

use serde::{Deserialize, Serialize};

use crate::{InstanceObservation, ResourceSample, is_metric_value};

/// A share is taken for so many bytes of as many: finer than anything that is told of one.
const WHOLE: f64 = 1e12;

/// Reported metrics with a meaning of their own.
pub(super) const NAMES: [&str; 10] = [
    "memory",
    "memory_bytes",
    "memory_limit_bytes",
    "disk",
    "disk_bytes",
    "disk_limit_bytes",
    "cpu",
    "cpu_pressure",
    "memory_pressure",
    "io_pressure",
];

/// How the use of one resource is known. Amounts of different kinds have no common trend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Basis {
    /// Not at all.
    #[default]
    None,
    /// By the provider.
    Provider,
    /// By bytes and a limit that the instance reports.
    Bytes,
    /// By a share that it reports.
    Share,
}

/// What is known, and how memory and disk are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) sample: Option<ResourceSample>,
    pub(super) memory: Basis,
    pub(super) disk: Basis,
}

impl Known {
    pub(super) fn of(instance: &InstanceObservation) -> Self {
        let mut sample = instance.resources.unwrap_or_default();
        let reported = |name: &str| {
            instance.reported.get(name).copied().filter(|value| is_metric_value(*value))
        };
        let memory = amount(
            (&mut sample.memory_bytes, &mut sample.memory_limit_bytes),
            [reported("memory_bytes"), reported("memory_limit_bytes"), reported("memory")],
        );
        let disk = amount(
            (&mut sample.disk_bytes, &mut sample.disk_limit_bytes),
            [reported("disk_bytes"), reported("disk_limit_bytes"), reported("disk")],
        );
        if sample.cpu_cores.zip(sample.cpu_limit_cores).is_none()
            && let Some(share) = reported("cpu")
        {
            (sample.cpu_cores, sample.cpu_limit_cores) = (Some(share), Some(1.0));
        }
        for (known, name) in [
            (&mut sample.cpu_some_share, "cpu_pressure"),
            (&mut sample.memory_some_share, "memory_pressure"),
            (&mut sample.io_some_share, "io_pressure"),
        ] {
            *known = known.or_else(|| reported(name));
        }
        let sample = (sample != ResourceSample::default()).then_some(sample);
        Self { sample, memory, disk }
    }
}

/// Fills in what is used and its limit from what is reported: bytes, limit, share. A share above 1
/// is none.
fn amount(
    (used, limit): (&mut Option<u64>, &mut Option<u64>),
    [bytes, of_bytes, share]: [Option<f64>; 3],
) -> Basis {
    if used.is_some() && limit.is_some() {
        return Basis::Provider;
    }
    let by_bytes = bytes.zip(of_bytes.filter(|limit| *limit >= 1.0));
    let by_share = share.filter(|share| *share <= 1.0).map(|share| (share * WHOLE, WHOLE));
    let (basis, amounts) = match (by_bytes, by_share) {
        (Some(amounts), _) => (Basis::Bytes, amounts),
        (None, Some(amounts)) => (Basis::Share, amounts),
        (None, None) => return Basis::None,
    };
    (*used, *limit) = (Some(amounts.0 as u64), Some(amounts.1 as u64));
    basis
}
