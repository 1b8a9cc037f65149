//! One migration: the order it stands on, and what is shown of it.

use foreshadow_control::{InstanceId, MigrationPhase, MigrationView, PlaceName, ServiceName};
use serde::{Deserialize, Serialize};

/// A migration that somebody asked for and that is not over; kept over restarts. Times are Unix times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Distinct among all that were ever asked for.
    pub(crate) id: u64,
    /// The service.
    pub(crate) service: ServiceName,
    /// Who moves; none until the law has chosen.
    #[serde(default)]
    pub(crate) instance: Option<InstanceId>,
    /// Where to; none until the law has chosen.
    #[serde(default)]
    pub(crate) to: Option<PlaceName>,
    /// Not before this.
    #[serde(default)]
    pub(crate) at_ms: Option<u64>,
    /// Whether it begins outside of windows too.
    #[serde(default)]
    pub(crate) passes_windows: bool,
    /// Who asked, and when.
    pub(crate) by: String,
    pub(crate) asked_ms: u64,
    /// When it began; what has begun waits for no window any more.
    #[serde(default)]
    pub(crate) began_ms: Option<u64>,
    /// Who called it off.
    #[serde(default)]
    pub(crate) called_off_by: Option<String>,
}

/// How a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It has not begun.
    Waiting,
    /// It has begun and is not over.
    UnderWay,
    /// The instance carries nothing any more.
    Done,
    /// A check failed, and everything is as before.
    RolledBack,
    /// Somebody called it off, and everything is as before.
    CalledOff,
    /// It could not begin.
    Refused,
}

impl State {
    /// Those in which nothing more happens.
    pub(crate) const ENDS: [Self; 4] =
        [Self::Done, Self::RolledBack, Self::CalledOff, Self::Refused];

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::UnderWay => "under_way",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::CalledOff => "called_off",
            Self::Refused => "refused",
        }
    }

    /// Whether nothing more happens.
    pub(crate) fn is_over(self) -> bool {
        Self::ENDS.contains(&self)
    }

    pub(super) fn of(phase: MigrationPhase, is_called_off: bool) -> Self {
        match phase {
            MigrationPhase::Scheduled => Self::Waiting,
            MigrationPhase::Done => Self::Done,
            MigrationPhase::RolledBack if is_called_off => Self::CalledOff,
            MigrationPhase::RolledBack => Self::RolledBack,
            MigrationPhase::Refused if is_called_off => Self::CalledOff,
            MigrationPhase::Refused => Self::Refused,
            MigrationPhase::Preparing
            | MigrationPhase::Shifting
            | MigrationPhase::Draining
            | MigrationPhase::RollingBack => Self::UnderWay,
        }
    }
}

/// A migration as it is shown, and kept once it is over. Times are Unix times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its number; none while one is under way that nobody asked for.
    pub(crate) id: Option<u64>,
    /// The service.
    pub(crate) service: ServiceName,
    /// Who was asked for, if anybody.
    pub(crate) instance: Option<InstanceId>,
    /// Where to, if that was asked for.
    pub(crate) to: Option<PlaceName>,
    /// Not before this.
    pub(crate) at_ms: Option<u64>,
    /// Whether it begins outside of windows too.
    pub(crate) passes_windows: bool,
    /// Who asked: an operator, or the law.
    pub(crate) by: String,
    /// When it was asked for; none where the law began it.
    pub(crate) asked_ms: Option<u64>,
    pub(crate) began_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    /// Who called it off.
    pub(crate) called_off_by: Option<String>,
    /// How it stands.
    pub(crate) state: State,
    /// Why, in a sentence.
    pub(crate) text: String,
    /// What the law says of it; none before its first tick.
    pub(crate) law: Option<MigrationView>,
    /// What is left for somebody to do.
    pub(crate) then: Option<String>,
}

impl Record {
    /// As asked for, and nothing more known.
    pub(crate) fn of(standing: &Standing) -> Self {
        let has_begun = standing.began_ms.is_some();
        Self {
            id: Some(standing.id),
            service: standing.service.clone(),
            instance: standing.instance,
            to: standing.to.clone(),
            at_ms: standing.at_ms,
            passes_windows: standing.passes_windows,
            by: standing.by.clone(),
            asked_ms: Some(standing.asked_ms),
            began_ms: standing.began_ms,
            ended_ms: None,
            called_off_by: standing.called_off_by.clone(),
            state: if has_begun { State::UnderWay } else { State::Waiting },
            text: "nothing was said of it yet".to_owned(),
            law: None,
            then: None,
        }
    }

    /// One that the law began by itself.
    pub(crate) fn of_law(service: &ServiceName) -> Self {
        Self {
            id: None,
            service: service.clone(),
            instance: None,
            to: None,
            at_ms: None,
            passes_windows: false,
            by: "the law `migrate`".to_owned(),
            asked_ms: None,
            began_ms: None,
            ended_ms: None,
            called_off_by: None,
            state: State::UnderWay,
            text: String::new(),
            law: None,
            then: None,
        }
    }

    /// With what the law says in a tick at `at_ms`, which is `now_ms` in Unix time.
    pub(crate) fn told(mut self, view: &MigrationView, at_ms: u64, now_ms: u64) -> Self {
        let mut view = view.clone();
        if let Some(schedule) = &mut view.schedule {
            schedule.start_ms = unix(schedule.start_ms, at_ms, now_ms);
        }
        self.state = State::of(view.phase, self.called_off_by.is_some());
        self.text.clone_from(&view.text);
        if self.began_ms.is_none() && self.state == State::UnderWay {
            self.began_ms = view.schedule.as_ref().map(|schedule| schedule.start_ms);
        }
        self.law = Some(view);
        self
    }
}

/// A time of ticks as Unix time.
pub(crate) fn unix(tick_ms: u64, at_ms: u64, now_ms: u64) -> u64 {
    now_ms.saturating_add(tick_ms).saturating_sub(at_ms)
}
