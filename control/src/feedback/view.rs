//! What is told of the feedback of one service.

use serde::{Deserialize, Serialize};

use super::Step;
use crate::LearningView;

/// How decisions about one service turned out, and what follows from that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedbackView {
    /// Whether thresholds move with it.
    pub moves: bool,
    /// The thresholds of the three steps: prepare, warm, commit.
    pub thresholds: Vec<ThresholdView>,
    /// What became of the steps ordered, by kind.
    pub steps: Vec<StepScore>,
    /// Steps ordered and not judged yet.
    pub open_steps: usize,
    /// Forecasts of demand of the tick's own forecaster, by horizon.
    pub forecasts: Vec<ForecastScore>,
    /// Forecasts from kept history, by horizon.
    pub long_range: Vec<LongRangeScore>,
    /// Signals that demand is forecast with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<SignalView>,
    /// Rules that look ahead, in the order of the spec.
    pub rules: Vec<AlarmScore>,
    /// Alarms that an instance will fail.
    pub risk: AlarmScore,
    /// What was learned from outcomes, by place.
    #[serde(default)]
    pub learning: LearningView,
}

/// One threshold: the quantile of demand that starts a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdView {
    /// The step it starts.
    pub step: Step,
    /// What it starts at: the share of its own cost in the cost of both errors,
    /// `c_violation / (c_violation + c_idle)`.
    pub start: f64,
    /// What is in force.
    pub in_force: f64,
    /// It is never below this.
    pub least: f64,
    /// It is never above this.
    pub most: f64,
    /// How far ahead it looks: the learned lead time of the step and those after it.
    pub lead_ms: u64,
    /// Why it is what it is.
    pub reason: String,
}

/// What became of the steps of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepScore {
    /// The step.
    pub step: Step,
    /// Needed within half an evaluation window after it was ready, and ready before requests were
    /// late for want of it.
    pub right: u64,
    /// Needed, but later.
    pub early: u64,
    /// Requests were late or lost before it was ready.
    pub late: u64,
    /// Not needed for an evaluation window.
    #[serde(rename = "false")]
    pub false_ones: u64,
    /// From being ready to being needed, of the newest 64; negative where it was late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<LeadTime>,
}

/// Lead times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadTime {
    /// The tenth percentile.
    pub p10_ms: i64,
    /// The median.
    pub p50_ms: i64,
    /// The ninetieth percentile.
    pub p90_ms: i64,
}

/// Forecasts at one horizon, held against what came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastScore {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Truths compared.
    pub scored: u64,
    /// Mean absolute error, requests per second.
    pub mae_rps: f64,
    /// The same of "same as now".
    pub naive_mae_rps: f64,
    /// The quantile levels.
    pub levels: Vec<f64>,
    /// Of each level, the share of truths at or below it; ideally the level.
    pub coverage: Vec<f64>,
    /// Of each level, the mean pinball loss, requests per second.
    pub loss_rps: Vec<f64>,
    /// The same of "same as now".
    pub naive_loss_rps: Vec<f64>,
    /// Whether decisions lean on it.
    pub heard: bool,
}

/// Forecasts from kept history at one horizon, held against what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongRangeScore {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Truths compared.
    pub scored: u64,
    /// Mean pinball loss over all levels, requests per second.
    pub loss_rps: f64,
    /// The same of "same as now".
    pub naive_loss_rps: f64,
    /// Whether its record speaks against it.
    pub heard: bool,
}

/// A signal that demand is forecast with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalView {
    /// Its name.
    pub signal: String,
    /// Whether it is of use now.
    pub state: SignalState,
    /// By how much it leads demand, as far as is known.
    pub lead_ms: u64,
    /// How much it and demand so much later have in common, 0 to 1: the absolute correlation of their
    /// swings.
    pub correlation: f64,
    /// What it foretold when it expected clearly more than the forecaster, by horizon.
    pub forecasts: Vec<SignalScore>,
}

/// Whether a signal is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalState {
    /// It arrives, and moves.
    Arriving,
    /// It does not arrive.
    Missing,
    /// It has stood still for four times longer than ever before.
    Still,
}

/// What a signal foretold at one horizon when it expected clearly more than the forecaster did, held
/// against what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalScore {
    /// How far ahead.
    pub horizon_ms: u64,
    /// Occasions on which it spoke up and the truth is known.
    pub occasions: u64,
    /// Mean absolute error on the last of them, requests per second.
    pub error_rps: f64,
    /// The same of the forecaster.
    pub error_without_rps: f64,
    /// Whether decisions lean on it.
    pub heard: bool,
}

/// What became of alarms of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlarmScore {
    /// The rule, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It came true within its horizon.
    pub right: u64,
    /// It did not.
    #[serde(rename = "false")]
    pub false_ones: u64,
    /// It did not, after something was done against it.
    pub averted: u64,
    /// It happened without an alarm.
    pub missed: u64,
    /// From the alarm to its coming true, of the newest 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<LeadTime>,
}
