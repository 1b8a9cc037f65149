//! What was seen in one tick: an immutable value with its time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    DemandHorizon, Fact, InstanceId, MigrationsSeen, Mode, PlaceName, Role, ScalingSeen,
    ServiceName, Tier, TrafficCounts,
};

/// Everything the controller learns in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Number of the tick; ticks that were skipped leave a gap.
    pub tick: u64,
    /// Unix time in milliseconds, anchored once at start and then monotonic: it never jumps, and so
    /// is not the time of day any more where the wall clock was set since.
    pub at_ms: u64,
    /// Time the meters below cover; the tick length, or more after skipped ticks.
    pub interval_ms: u64,
    /// Whether all automation is stopped: by the operator, or because the node is ending.
    pub kill_switch: bool,
    /// One entry per configured service, ordered by name.
    pub services: Vec<ServiceObservation>,
}

/// What was seen of one service in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceObservation {
    /// The service.
    pub service: ServiceName,
    /// The mode in force in this tick.
    pub mode: Mode,
    /// Requests that arrived for the service, whether or not a backend could take them; retries
    /// and mirrored copies do not count.
    pub arrivals: u64,
    /// Of those, requests answered by the proxy itself because no backend could take them.
    pub unserved: u64,
    /// Primaries and shadows that exist now, ordered by id.
    pub instances: Vec<InstanceObservation>,
    /// What happened since the last tick, oldest first.
    pub facts: Vec<Fact>,
    /// Operator requests since the last tick: shadows to activate by hand.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub activate: u32,
    /// Announced events that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub announced: Vec<Announced>,
    /// What the models fitted to kept history expect, at [`crate::QuantileSpec::levels`]:
    /// now (horizon 0) and minutes to hours ahead, by increasing horizon. Empty where there is no
    /// such forecast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long_range: Vec<DemandHorizon>,
    /// What curves fitted to kept history say of demand as far ahead as rules look; of each
    /// [`crate::Sight`] of them at most one, none where no curve says anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreseen: Vec<Foreseen>,
    /// What requests and answers say about copying them; no decision depends on it.
    #[serde(default, skip_serializing_if = "TrafficCounts::is_empty")]
    pub traffic: TrafficCounts,
    /// What is told of the service as a whole, by name, in the units of what instances report:
    /// the backlog of a broker, the reach of a campaign.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, f64>,
    /// What of that is known beforehand, by name: changes to come, soonest first. A signal that is not
    /// here has no known future.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub planned: BTreeMap<String, Vec<Planned>>,
    /// What the service's own scaler says of its primaries, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<ScalingSeen>,
    /// Migrations that were asked for, and when one may begin by itself.
    #[serde(default, skip_serializing_if = "MigrationsSeen::is_empty")]
    pub migrations: MigrationsSeen,
}

/// A change of a signal that is known beforehand: so it will be until the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Time until then.
    pub in_ms: u64,
    /// The value from then on; none where nothing is known of it.
    pub value: Option<f64>,
}

impl ServiceObservation {
    /// A tick in which nothing was seen of a service.
    #[must_use]
    pub fn quiet(service: ServiceName, mode: Mode) -> Self {
        Self {
            service,
            mode,
            arrivals: 0,
            unserved: 0,
            instances: Vec::new(),
            facts: Vec::new(),
            activate: 0,
            announced: Vec::new(),
            long_range: Vec::new(),
            foreseen: Vec::new(),
            traffic: TrafficCounts::default(),
            signals: BTreeMap::new(),
            planned: BTreeMap::new(),
            scaling: None,
            migrations: MigrationsSeen::default(),
        }
    }
}

/// Demand that a curve fitted to kept history expects, in requests per second; announced events and
/// calendars are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Foreseen {
    /// How far ahead it looks.
    pub ahead_ms: u64,
    /// The quantile, in hundredths.
    pub quantile: u8,
    /// Demand then.
    pub then_rps: f64,
    /// The lowest from now until then.
    pub least_rps: f64,
    /// The highest.
    pub most_rps: f64,
}

/// An announced event: demand is expected to be `lift` times what it would be without it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announced {
    /// Time until it starts; 0 while it runs.
    pub starts_in_ms: u64,
    /// Time until it ends.
    pub ends_in_ms: u64,
    /// Expected demand relative to none of it. At most 100 counts; 1 and less changes nothing, and
    /// neither does what is no number.
    pub lift: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip predicates take a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What was seen of one instance in one tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceObservation {
    /// The instance.
    pub instance: InstanceId,
    /// Primary or shadow.
    pub role: Role,
    /// Where the instance stands now; [`Tier::Serving`] for primaries.
    pub tier: Tier,
    /// The tier it is being moved to, while a step is under way.
    pub moving_to: Option<Tier>,
    /// Time since the instance reached its tier.
    pub tier_age_ms: u64,
    /// Where it runs; empty when the configuration names no zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// In which of its service's places a shadow was made; of no meaning for primaries.
    #[serde(default, skip_serializing_if = "PlaceName::is_default")]
    pub place: PlaceName,
    /// Capacity pinned by the configuration for this instance, in requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_rps: Option<f64>,
    /// The verdict of health checks and passive ejection.
    pub health: Health,
    /// Whether an operator drains this instance: its weight must go to zero.
    #[serde(default)]
    pub drained: bool,
    /// Of a shadow: made under settings that have changed since. One that does not serve is replaced: another
    /// is made first, and whoever holds them ends it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outdated: bool,
    /// Whether the service's own scaler is about to end this primary: its weight must go to zero.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leaving: bool,
    /// Of a primary that was found while serving: time since then. Until it is warm it is given less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_ms: Option<u64>,
    /// What the proxy counted in this tick.
    pub meters: Meters,
    /// What the kernel saw of its connections, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelSample>,
    /// What mirrored requests said of it since it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSummary>,
    /// What the instance reports of itself, by name: shares as fractions, times in milliseconds,
    /// sizes in bytes; the newest of each, none older than the service's configuration allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, f64>,
    /// What it uses of its machine, where that is reported; at most some seconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceSample>,
}

impl InstanceObservation {
    /// An instance that is up and was asked nothing, and of which nobody says more.
    #[must_use]
    pub fn idle(instance: InstanceId, role: Role, tier: Tier) -> Self {
        Self {
            instance,
            role,
            tier,
            moving_to: None,
            tier_age_ms: 0,
            zone: String::new(),
            place: PlaceName::default(),
            capacity_rps: None,
            health: Health::Up,
            drained: false,
            outdated: false,
            leaving: false,
            joined_ms: None,
            meters: Meters::default(),
            kernel: None,
            mirror: None,
            reported: BTreeMap::new(),
            resources: None,
        }
    }
}

/// Whether an instance may take requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not yet known: no check has finished and no request has been answered.
    Unknown,
    /// Checks pass and it is not ejected.
    Up,
    /// It answered badly or too slowly for a while and sits out; it will be tried again.
    Ejected,
    /// Checks fail, it refuses connections, or its process has ended; the text says which.
    Down(String),
}

/// Counts of one instance over one tick. Everything is a delta except `in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meters {
    /// Requests sent to the instance, retries included, mirrored copies not.
    pub requests: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Answers with status 1xx to 3xx.
    pub ok: u64,
    /// Answers with status 4xx.
    pub client_errors: u64,
    /// Answers with status 5xx.
    pub server_errors: u64,
    /// Connections refused, reset during the handshake, or timed out in it.
    pub connect_errors: u64,
    /// Requests that failed after connecting: reset, closed early, malformed answer.
    pub read_errors: u64,
    /// Requests that ran into the first-byte or the total timeout.
    pub timeouts: u64,
    /// Of `requests`, those that were a retry.
    pub retries: u64,
    /// Bytes of requests sent to the instance.
    pub bytes_out: u64,
    /// Bytes of answers received from it.
    pub bytes_in: u64,
    /// Time to the last byte of the answer.
    pub latency: LatencySummary,
}

impl Meters {
    /// Requests that failed for the instance's part; the most there can be where that overflows,
    /// since what observations hold may be anything.
    #[must_use]
    pub fn failed(&self) -> u64 {
        let kinds = [self.server_errors, self.connect_errors, self.read_errors, self.timeouts];
        kinds.into_iter().fold(0, u64::saturating_add)
    }
}

/// A latency distribution of one tick. Counts and sums add up over ticks; quantiles do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Answers measured.
    pub count: u64,
    /// Sum of their latencies.
    pub sum_ms: f64,
    /// Of them, answers slower than the service's latency objective.
    pub over_objective: u64,
    /// Median; 0 when `count` is 0, like the other quantiles.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Slowest.
    pub max_ms: f64,
}

/// What the kernel says of the connections to an instance, over one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelSample {
    /// Sockets sampled.
    pub samples: u64,
    /// Mean smoothed round-trip time.
    pub srtt_us: f64,
    /// Segments sent again since the last sample.
    pub retransmits: u64,
    /// Sent and not yet acknowledged, summed over the samples.
    pub unacked_segments: u64,
}

/// What one instance uses of its machine, processes it started included. Every value is absent
/// where nobody reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSample {
    /// Memory in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory it can use at most: its limit, or what it has and its machine has free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Disk in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Disk it can use at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_limit_bytes: Option<u64>,
    /// Processor time used, in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    /// Processor time it may use at most, in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Share of the time in which some of it waited for the processor, 0 to 1 (pressure stall
    /// information of the kernel, averaged over 10 s; like the other stalls).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_some_share: Option<f64>,
    /// Share of the time in which some of it waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_some_share: Option<f64>,
    /// Share of the time in which all of it waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_full_share: Option<f64>,
    /// Share of the time in which some of it waited for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_some_share: Option<f64>,
    /// Share of the time in which all of it waited for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_full_share: Option<f64>,
}

/// How a shadow's answers to mirrored requests compare with the originals, since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorSummary {
    /// Copies answered or failed.
    pub compared: u64,
    /// Of them, copies with the same status class as the original.
    pub agreed: u64,
    /// Sum of the original answers' latencies.
    pub original_sum_ms: f64,
    /// Sum of the copies' latencies.
    pub copy_sum_ms: f64,
}
