//! How a migration changes what the other laws see of an instance.

use crate::InstanceId;
use crate::fleet::Member;

/// What a member is for the laws beside that of migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The pool's laws neither count nor touch it.
    pub(crate) hidden: bool,
    /// It is counted and filled as a primary is.
    pub(crate) stands: bool,
    /// Another one is counted in its place.
    pub(crate) replaced: bool,
}

impl Member<'_> {
    /// Requests are shared out to it before any overflow to shadows.
    pub(crate) fn is_base(&self) -> bool {
        self.is_primary() || self.part.stands
    }

    /// Its capacity is what demand is held against before any shadow is asked for.
    pub(crate) fn is_supply(&self) -> bool {
        self.is_base() && !self.part.replaced
    }

    /// It carries requests only as far as its migration has come.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.part.replaced || (self.part.hidden && !self.part.stands)
    }
}

/// A pair that shares what one of them would be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shift {
    pub(crate) source: InstanceId,
    pub(crate) target: InstanceId,
    /// Part of the source's requests that the target is to have, 0 to 1.
    pub(crate) moved: f64,
    /// It is not slewed: what was moved goes back for a failure.
    pub(crate) urgent: bool,
}

/// The pair's places among the members, and what each of both is to be given at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Split {
    pub(crate) source: usize,
    pub(crate) target: usize,
    source_rps: f64,
    target_rps: f64,
}

impl Shift {
    /// Divides what the source carries; nothing where not both are there.
    ///
    /// `carried` is what each member may be given. The source keeps what neither the target nor the
    /// others carry of `demand_rps`, whatever the step says: a migration takes no capacity away that is
    /// needed. A source that may take nothing leaves all to the target, a target that may not all to the
    /// source.
    pub(crate) fn split(
        &self,
        members: &[Member<'_>],
        carried: &[f64],
        target_utilisation: f64,
        demand_rps: f64,
    ) -> Option<Split> {
        let at = |id: InstanceId| members.iter().position(|m| m.id() == id);
        let (source, target) = (at(self.source)?, at(self.target)?);
        let from = &members[source];
        // What it would have if it were well: an instance that fails is given less, its target not.
        let whole_rps = target_utilisation * from.rps * from.ramp;
        let (most_source_rps, most_target_rps) = (carried[source], carried[target]);
        let both = |source_rps, target_rps| Split { source, target, source_rps, target_rps };
        if !members[target].eligible {
            return Some(both(most_source_rps, 0.0));
        }
        if !from.eligible {
            return Some(both(0.0, most_target_rps));
        }
        let moved = self.moved.clamp(0.0, 1.0);
        let target_rps = (moved * whole_rps).min(most_target_rps);
        let others_rps: f64 = carried
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != source && *at != target)
            .map(|(_, rps)| rps)
            .sum();
        let needed_rps = (demand_rps - others_rps - target_rps).min(most_source_rps);
        let kept_rps = ((1.0 - moved) * most_source_rps).max(needed_rps).max(0.0);
        Some(both(kept_rps, target_rps))
    }
}

impl Split {
    pub(crate) fn sum_rps(&self) -> f64 {
        self.source_rps + self.target_rps
    }

    /// Shares out among both what was filled for them as one, which stands at the source.
    pub(crate) fn divide(&self, amounts: &mut [f64]) {
        let sum_rps = self.sum_rps();
        if sum_rps <= 0.0 {
            return;
        }
        let all = amounts[self.source];
        amounts[self.target] = all * self.target_rps / sum_rps;
        amounts[self.source] = all * self.source_rps / sum_rps;
    }
}
