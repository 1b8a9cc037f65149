//! What came of a policy.

use serde::Serialize;

/// What came of one policy on one trace; see the crate's page for what the figures mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The policy, as it can be written again.
    pub policy: String,
    /// Time that counted: without learning and long gaps.
    pub scored_s: f64,
    /// Requests in that time.
    pub requests: u64,
    /// Time of ticks with more violated requests than allowed.
    pub violation_s: f64,
    /// What was missing in that time.
    pub violation_by: Missing,
    /// Requests that the instances could not serve within the objective.
    pub violated_requests: f64,
    /// The same as a share of all requests, 0 to 1.
    pub violated_share: f64,
    /// Hours of instances that existed, of any tier.
    pub instance_hours: f64,
    /// The same at the price of their tiers.
    pub cost: f64,
    /// Most instances at once.
    pub most_instances: u32,
    /// Instances that began to serve, and whether they were needed.
    pub activations: Activations,
    /// How good the forecasts were; empty for policies without, and for those whose middle quantile
    /// is no median.
    pub forecast: Vec<HorizonOutcome>,
    /// For charts; covers the whole trace.
    #[serde(skip)]
    pub timeline: Vec<TimelinePoint>,
}

/// Time of violation by what would have carried the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Missing {
    /// Instances that were ready and did not serve.
    pub waking_s: f64,
    /// Instances that were ordered and still starting: demand grew faster than they start.
    pub starting_s: f64,
    /// More than was ordered.
    pub unordered_s: f64,
}

/// Instances that began to serve, and whether they were needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Activations {
    /// Instances that began to serve.
    pub total: u64,
    /// Those without which the others would have stayed below the policy's own target utilisation
    /// for the whole window after.
    pub false_ones: u64,
    /// Of those needed beyond the capacity of the others: ready after the need began.
    pub late: u64,
    /// From being ready to being needed beyond the capacity of the others, in seconds; negative
    /// where it came late. Only those needed so within the window; none when there are none.
    pub lead_s: Option<Quartiles>,
}

/// A distribution in five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles {
    /// Values there are.
    pub count: u64,
    /// Tenth percentile.
    pub p10: f64,
    /// Lower quartile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// Upper quartile.
    pub p75: f64,
    /// Ninetieth percentile.
    pub p90: f64,
}

impl Quartiles {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Some(Self {
            count: values.len() as u64,
            p10: at(0.1),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
        })
    }
}

/// How good forecasts were at one horizon.
///
/// The truth at horizon `h` is mean demand over `max(1 s, h / 10)`, at least a tick, around `h`
/// ahead. *Same as now* is mean demand of the last two seconds, at least a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HorizonOutcome {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Forecasts compared.
    pub scored: u64,
    /// Mean absolute error of the median, in requests per second.
    pub mae_rps: f64,
    /// The same of "same as now".
    pub naive_mae_rps: f64,
    /// Share of truths between the lower and the upper quantile.
    pub covered: f64,
    /// Share of truths at or below the lower quantile.
    pub below_lower: f64,
    /// Share of truths at or below the upper quantile.
    pub below_upper: f64,
    /// Mean width from the lower to the upper quantile, in requests per second.
    pub width_rps: f64,
}

/// A stretch of ticks in one point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimelinePoint {
    /// Unix time in milliseconds at which it begins.
    pub at_ms: u64,
    /// Highest demand of a tick.
    pub demand_rps: f64,
    /// Lowest capacity of a tick.
    pub capacity_rps: f64,
    /// Ticks of violation.
    pub violated: u32,
}
