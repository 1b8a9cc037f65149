//! What a rule can look at, and the units its values are written in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A metric of a service or an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests that arrive for the service, per second; announced events count.
    Demand,
    /// Requests per second: of the service those that arrive, of an instance those it is sent.
    Rps,
    /// Requests being answered.
    InFlight,
    /// Median latency of the answers.
    LatencyP50,
    /// 90th percentile.
    LatencyP90,
    /// 99th percentile.
    LatencyP99,
    /// Share of the requests that failed, as instances answered them, before any retry.
    ErrorRate,
    /// Demand over the capacity of all instances that can take requests.
    Utilisation,
    /// What an instance is sent over its capacity; of a service, its fullest instance.
    Saturation,
    /// Requests per second within the objective, learned or pinned.
    Capacity,
    /// Share of the processors in use.
    Cpu,
    /// Memory in use, as a share or in bytes.
    Memory,
    /// Network traffic, as a share of what the link carries or in bytes per second.
    Network,
    /// Disk space in use, as a share or in bytes.
    Disk,
    /// Work that waits.
    QueueDepth,
    /// Anything that instances report under this name.
    Named(String),
}

/// Names of the metrics that are always known, each with what it is.
const KNOWN: [(&str, Metric); 15] = [
    ("demand", Metric::Demand),
    ("rps", Metric::Rps),
    ("in_flight", Metric::InFlight),
    ("latency_p50", Metric::LatencyP50),
    ("latency_p90", Metric::LatencyP90),
    ("latency_p99", Metric::LatencyP99),
    ("error_rate", Metric::ErrorRate),
    ("utilisation", Metric::Utilisation),
    ("saturation", Metric::Saturation),
    ("capacity", Metric::Capacity),
    ("cpu", Metric::Cpu),
    ("memory", Metric::Memory),
    ("network", Metric::Network),
    ("disk", Metric::Disk),
    ("queue_depth", Metric::QueueDepth),
];

impl Metric {
    /// The metric that is always known under `name`.
    pub(super) fn known(name: &str) -> Option<Self> {
        let name = if name == "utilization" { "utilisation" } else { name };
        KNOWN.iter().find(|(known, _)| *known == name).map(|(_, metric)| metric.clone())
    }

    /// Names of all metrics that are always known.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Named(name) => name,
            known => KNOWN.iter().find(|(_, m)| m == known).map_or("", |(name, _)| name),
        }
    }

    /// Kinds of value it is compared with; empty when any will do.
    pub(super) fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Demand | Self::Rps | Self::Capacity => &[Kind::Rate],
            Self::InFlight | Self::QueueDepth => &[Kind::Count],
            Self::LatencyP50 | Self::LatencyP90 | Self::LatencyP99 => &[Kind::Time],
            Self::ErrorRate | Self::Utilisation | Self::Saturation | Self::Cpu => &[Kind::Share],
            Self::Memory | Self::Disk => &[Kind::Share, Kind::Size],
            Self::Network => &[Kind::Share, Kind::Flow],
            Self::Named(_) => &[],
        }
    }

    /// Whether it is known only where instances report it.
    pub(super) fn is_reported(&self) -> bool {
        matches!(
            self,
            Self::Cpu
                | Self::Memory
                | Self::Network
                | Self::Disk
                | Self::QueueDepth
                | Self::Named(_)
        )
    }

    /// The name under which instances report it, given the kind of value it is compared with.
    pub(super) fn report_name(&self, kind: Kind) -> String {
        let suffix = match (self, kind) {
            (Self::Memory | Self::Disk, Kind::Size) => "_bytes",
            (Self::Network, Kind::Flow) => "_bytes_per_s",
            _ => "",
        };
        format!("{}{suffix}", self.name())
    }
}

/// What a unit measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Count,
    Share,
    Rate,
    Time,
    Size,
    Flow,
}

impl Kind {
    /// A value of this kind, for messages.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Count => "a plain number such as 20",
            Self::Share => "a share such as 80%",
            Self::Rate => "a rate such as 500rps",
            Self::Time => "a time such as 250ms",
            Self::Size => "a size such as 4GiB",
            Self::Flow => "a rate such as 100MiB/s",
        }
    }
}

/// A unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// A plain number.
    One,
    /// Hundredths; kept as a fraction.
    Percent,
    /// Requests per second.
    Rps,
    /// Microseconds; times are kept in milliseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Bytes, by the power of this base.
    Bytes(Prefix),
    /// Bytes per second.
    BytesPerS(Prefix),
}

/// A multiple of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the multiples say what they are")]
pub enum Prefix {
    One,
    Kilo,
    Mega,
    Giga,
    Tera,
    Kibi,
    Mebi,
    Gibi,
    Tebi,
}

const PREFIXES: [(Prefix, &str, f64); 9] = [
    (Prefix::One, "B", 1.0),
    (Prefix::Kilo, "kB", 1e3),
    (Prefix::Mega, "MB", 1e6),
    (Prefix::Giga, "GB", 1e9),
    (Prefix::Tera, "TB", 1e12),
    (Prefix::Kibi, "KiB", 1_024.0),
    (Prefix::Mebi, "MiB", 1_048_576.0),
    (Prefix::Gibi, "GiB", 1_073_741_824.0),
    (Prefix::Tebi, "TiB", 1_099_511_627_776.0),
];

const PLAIN_UNITS: [(&str, Unit); 5] =
    [("%", Unit::Percent), ("rps", Unit::Rps), ("us", Unit::Us), ("ms", Unit::Ms), ("s", Unit::S)];

impl Prefix {
    fn entry(self) -> (&'static str, f64) {
        let found = PREFIXES.iter().find(|(prefix, ..)| *prefix == self);
        found.map_or(("B", 1.0), |(_, name, factor)| (*name, *factor))
    }
}

impl Unit {
    /// The unit written as `text`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((_, unit)) = PLAIN_UNITS.iter().find(|(name, _)| *name == text) {
            return Some(*unit);
        }
        let prefix = |text| PREFIXES.iter().find(|(_, name, _)| *name == text).map(|(p, ..)| *p);
        match text.strip_suffix("/s") {
            Some("") => Some(Self::Rps),
            Some(size) => prefix(size).map(Self::BytesPerS),
            None => prefix(text).map(Self::Bytes),
        }
    }

    /// All units, as they are written.
    pub(super) fn names() -> Vec<String> {
        let sizes = PREFIXES.iter().map(|(_, name, _)| (*name).to_owned());
        let flows = PREFIXES.iter().map(|(_, name, _)| format!("{name}/s"));
        PLAIN_UNITS.iter().map(|(name, _)| (*name).to_owned()).chain(sizes).chain(flows).collect()
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::One => Kind::Count,
            Self::Percent => Kind::Share,
            Self::Rps => Kind::Rate,
            Self::Us | Self::Ms | Self::S => Kind::Time,
            Self::Bytes(_) => Kind::Size,
            Self::BytesPerS(_) => Kind::Flow,
        }
    }

    /// How much of what values are kept in is one of it.
    pub(super) fn factor(self) -> f64 {
        match self {
            Self::One | Self::Rps | Self::Ms => 1.0,
            Self::Percent => 0.01,
            Self::Us => 1e-3,
            Self::S => 1e3,
            Self::Bytes(prefix) | Self::BytesPerS(prefix) => prefix.entry().1,
        }
    }

    /// `base`, a figure as it is kept, for a person.
    pub(super) fn show(self, base: f64) -> String {
        let number = base / self.factor();
        let gap = if matches!(self, Self::Rps) { " " } else { "" };
        match number.abs() {
            size if size >= 100.0 => format!("{number:.0}{gap}{self}"),
            size if size >= 1.0 => format!("{number:.1}{gap}{self}"),
            _ => format!("{number:.3}{gap}{self}"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => Ok(()),
            Self::Percent => f.write_str("%"),
            Self::Rps => f.write_str("rps"),
            Self::Us => f.write_str("us"),
            Self::Ms => f.write_str("ms"),
            Self::S => f.write_str("s"),
            Self::Bytes(prefix) => f.write_str(prefix.entry().0),
            Self::BytesPerS(prefix) => write!(f, "{}/s", prefix.entry().0),
        }
    }
}
