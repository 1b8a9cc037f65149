//! What became of decisions, and the thresholds that move with it.
//!
//! Every step that brings a shadow nearer to serving is held against what demand did afterwards:
//! it was right, early, late or false (`ledger`). Every second, too, how many shadows each threshold
//! asks for is held against how many came to be needed (`bets`). Errors move the threshold, slowly and
//! within bounds, to where too few and too many stand as their costs do (`threshold`). Nothing else
//! moves: measured demand starts the same steps under any threshold, and the pool bounds them.

mod bets;
mod ledger;
mod level;
mod orders;
mod step;
mod tally;
mod threshold;
mod view;

use serde::{Deserialize, Serialize};

use crate::announced::Asked;
use crate::clock::LONGEST_STEP_MS;
use crate::queueing::normal_quantile;
use crate::scene::{Scene, count};
use crate::{HorizonView, InstanceId, Law, QuantileSpec, Reason, ServiceSpec, Tier};
use bets::Bets;
use ledger::{Ledger, Truth};
pub(crate) use level::Place;
pub use step::{Step, Thresholds};
pub(crate) use tally::AlarmTally;
use tally::StepTally;
use threshold::Threshold;
pub use view::{
    AlarmScore, FeedbackView, ForecastScore, LeadTime, LongRangeScore, SignalScore, SignalState,
    SignalView, StepScore, ThresholdView,
};

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Needed, and ready before requests were late.
    Right,
    /// Needed, long after it was ready.
    Early,
    /// Requests were late or lost before it was ready.
    Late,
    /// Not needed.
    False,
}

/// The thresholds of one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct InForce {
    /// The levels that start steps; never falling from commit to warm to prepare.
    level: QuantileSpec,
    /// Where these lie among the levels that demand is forecast at, by step.
    places: [Place; 3],
    /// Of each step what it starts at, where errors moved it from there.
    moved: [Option<f64>; 3],
    /// Standard deviations that each level lies above the median, by step; 0 below it.
    sigmas: [f64; 3],
}

impl InForce {
    fn new(spec: &ServiceSpec, level: QuantileSpec, moved: [Option<f64>; 3]) -> Self {
        let levels = spec.quantiles.levels();
        let of_steps = [level.prepare, level.warm, level.commit];
        let places = of_steps.map(|level| Place::of(level, &levels));
        let sigmas = of_steps.map(|level| if level > 0.5 { normal_quantile(level) } else { 0.0 });
        Self { level, places, moved, sigmas }
    }

    /// Standard deviations that the level of a step lies above the median; 0 below it.
    pub(crate) fn sigmas(&self, step: Step) -> f64 {
        self.sigmas[step.index()]
    }

    /// The level of a step, 0 to 1.
    pub(crate) fn sure(&self, step: Step) -> f64 {
        Thresholds::from(*self).of(step)
    }

    /// "0.9 quantile", with the reason where it is not what it started at.
    pub(crate) fn text(&self, step: Step) -> String {
        let level = Thresholds::from(*self).of(step);
        match self.moved[step.index()] {
            None => format!("{level} quantile"),
            Some(start) => format!("{level} quantile ({start} at first, moved by errors)"),
        }
    }

    /// Demand that orders to serve.
    pub(crate) fn commit(&self, view: &HorizonView) -> f64 {
        self.places[Step::Commit.index()].demand_rps(view)
    }

    /// Demand that warms.
    pub(crate) fn warm(&self, view: &HorizonView) -> f64 {
        self.places[Step::Warm.index()].demand_rps(view)
    }

    /// Demand that creates.
    pub(crate) fn prepare(&self, view: &HorizonView) -> f64 {
        self.places[Step::Prepare.index()].demand_rps(view)
    }
}

/// The feedback of one service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Feedback {
    ledger: Ledger,
    bets: [Bets; 3],
    /// By step: prepare, warm, commit.
    tallies: [StepTally; 3],
    thresholds: [Threshold; 3],
    /// How far ahead each step looked last.
    lead_ms: [u64; 3],
}

impl Feedback {
    /// The thresholds that `spec` and what was learned make.
    pub(crate) fn in_force(&self, spec: &ServiceSpec) -> InForce {
        if !spec.feedback {
            return InForce::new(spec, spec.quantiles, [None; 3]);
        }
        let of = |step: Step| self.thresholds[step.index()].level(start(spec, step));
        let commit = of(Step::Commit);
        let warm = of(Step::Warm).max(commit);
        let prepare = of(Step::Prepare).max(warm);
        let moved = Step::ALL.map(|step| {
            let start = start(spec, step);
            self.thresholds[step.index()].is_moved().then_some(start)
        });
        InForce::new(spec, QuantileSpec { prepare, warm, commit }, moved)
    }

    /// Time passed unseen: what is open cannot be judged.
    pub(crate) fn rest(&mut self) {
        self.ledger.dismiss();
        self.bets.iter_mut().for_each(Bets::dismiss);
    }

    /// Takes one tick with what was ordered in it, and returns why thresholds moved.
    pub(crate) fn follow(
        &mut self,
        scene: &Scene<'_>,
        pending: u32,
        saturated: bool,
        elapsed_ms: u64,
        act: bool,
    ) -> Vec<Reason> {
        self.lead_ms =
            [scene.prepare_lead_ms(), scene.warm_lead_ms(), scene.commit_lead_ms(Tier::Warm)];
        let elapsed_ms = elapsed_ms.min(LONGEST_STEP_MS);
        self.thresholds.iter_mut().for_each(|threshold| threshold.pass(elapsed_ms));
        // Losses ask for shadows, too, and that no forecast could know.
        let lost = scene.supply.lost_primaries > 0 || scene.at_risk.primaries > 0;
        if lost || !scene.supply.known || scene.spec.pool.is_none() {
            self.rest();
            return Vec::new();
        }
        let truth = truth(scene, saturated);
        let mut moved = self.settle(scene);
        // Of orders that are not carried out nothing can be learned.
        if act {
            self.judge(scene, truth, &mut moved);
            for ordered in orders::ordered(scene, pending) {
                self.ledger.order(ordered, scene.now_ms);
            }
        } else {
            self.ledger.dismiss();
        }
        let moved = Step::ALL.into_iter().filter(|step| moved[step.index()]);
        let text = |step| self.moved_text(scene.spec, step);
        moved.map(|step| Reason { law: Law::Feedback, text: text(step) }).collect()
    }

    /// Holds what thresholds asked for against what was needed. An announced event asks for more
    /// than any quantile does, and settles no bet.
    fn settle(&mut self, scene: &Scene<'_>) -> [bool; 3] {
        let asked = [scene.prepare_asked(), scene.warm_asked(), scene.commit_asked(Tier::Warm)];
        Step::ALL.map(|step| {
            let (bets, asked) = (&mut self.bets[step.index()], asked[step.index()]);
            if asked.event.is_some() {
                bets.dismiss();
                return false;
            }
            let lead_ms = self.lead_ms[step.index()];
            let shadows = scene.supply.shadows_asked(asked);
            // What came is held against what was asked for with as much room beyond both.
            let came = Asked { rps: scene.outlook.now_rps, ..asked };
            let needed = scene.supply.shadows_asked(came);
            let settled = bets.follow(scene.now_ms, lead_ms, shadows, needed);
            let threshold = &mut self.thresholds[step.index()];
            let start = start(scene.spec, step);
            let mut moved = false;
            for error in settled.into_iter().filter(|_| scene.spec.feedback) {
                moved |= threshold.settle(error, start);
            }
            moved
        })
    }

    /// Judges the steps that can be judged now.
    fn judge(&mut self, scene: &Scene<'_>, truth: Truth, moved: &mut [bool; 3]) {
        let serves = |id: InstanceId| {
            let shadow = scene.shadows().find(|m| m.id() == id)?;
            Some(shadow.seen.tier == Tier::Serving && shadow.seen.moving_to.is_none())
        };
        for judged in self.ledger.judge(truth, serves) {
            self.tallies[judged.step.index()].add(judged.verdict, judged.lead_ms);
            let late = judged.verdict == Verdict::Late && scene.spec.feedback;
            for step in Step::ALL.into_iter().filter(|step| late && judged.blamed[step.index()]) {
                let threshold = &mut self.thresholds[step.index()];
                moved[step.index()] |= threshold.was_late(start(scene.spec, step));
            }
        }
    }

    fn moved_text(&self, spec: &ServiceSpec, step: Step) -> String {
        let start = start(spec, step);
        let level = self.thresholds[step.index()].level(start);
        format!("the {step} quantile is {level:.3} now: {}", self.why(start, step))
    }

    fn why(&self, start: f64, step: Step) -> String {
        let Threshold { too_few, too_many, late, .. } = self.thresholds[step.index()];
        if too_few + too_many + late == 0 {
            return format!("it starts at {start:.3}, and no error has been seen yet");
        }
        format!(
            "it starts at {start:.3}; it asked for too few shadows {too_few} times and for too many \
             {too_many} times, at rest {:.1}% would be too few; {late} shadows were late for it",
            (1.0 - start) * 100.0
        )
    }

    /// How things stand, without what others know.
    pub(crate) fn view(&self, spec: &ServiceSpec) -> FeedbackView {
        let in_force = Thresholds::from(self.in_force(spec));
        let threshold = |step: Step| {
            let start = start(spec, step);
            let (least, most) =
                if spec.feedback { Threshold::bounds(start) } else { (start, start) };
            let reason = if spec.feedback {
                self.why(start, step)
            } else {
                "feedback is off, and it stays where it starts".to_owned()
            };
            let lead_ms = self.lead_ms[step.index()];
            let in_force = in_force.of(step);
            ThresholdView { step, start, in_force, least, most, lead_ms, reason }
        };
        FeedbackView {
            moves: spec.feedback,
            thresholds: Step::ALL.into_iter().map(threshold).collect(),
            steps: Step::ALL
                .into_iter()
                .map(|step| self.tallies[step.index()].score(step))
                .collect(),
            open_steps: self.ledger.len(),
            ..FeedbackView::default()
        }
    }
}

impl From<InForce> for Thresholds {
    fn from(in_force: InForce) -> Self {
        let QuantileSpec { prepare, warm, commit } = in_force.level;
        // To a thousandth: it is told in every record.
        let told = |level: f64| (level * 1_000.0).round() / 1_000.0;
        Self { prepare: told(prepare), warm: told(warm), commit: told(commit) }
    }
}

/// Where a threshold starts: the share of being late in the cost of both errors.
fn start(spec: &ServiceSpec, step: Step) -> f64 {
    match step {
        Step::Prepare => spec.quantiles.prepare,
        Step::Warm => spec.quantiles.warm,
        Step::Commit => spec.quantiles.commit,
    }
}

fn truth(scene: &Scene<'_>, saturated: bool) -> Truth {
    let serving = scene
        .shadows()
        .filter(|m| m.eligible && m.seen.tier == Tier::Serving && m.seen.moving_to.is_none());
    let beyond = if saturated { count(serving).saturating_add(1) } else { 0 };
    let start_up_ms = scene.start_up_ms();
    Truth {
        now_ms: scene.now_ms,
        needed: scene.supply.shadows_for(scene.outlook.now_rps),
        short: scene.supply.shadows_at_the_brim(scene.outlook.sure_rps).max(beyond),
        window_ms: scene.spec.evaluation_window_ms.max(start_up_ms),
    }
}
