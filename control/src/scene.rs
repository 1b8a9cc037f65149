//! One service in one tick: what every law looks at, and the orders they have given so far.

use crate::announced::{Asked, Event};
use crate::clock::LONGEST_STEP_MS;
use crate::demand::Outlook;
use crate::feedback::InForce;
use crate::fleet::Member;
use crate::lead_time::LeadTimes;
use crate::migration::Shift;
use crate::place::{Places, Spot};
use crate::providers::Providers;
use crate::risk::AtRisk;
use crate::rules::Claims;
use crate::sizing::Shortage;
use crate::supply::Supply;
use crate::{
    Action, InstanceId, Law, PlaceName, PlannedAction, PoolSpec, Reason, ServiceSpec, Step, Tier,
};

/// What is forecast is mean demand over this at least.
const LEAST_MEAN_MS: u64 = 1_000;

/// What every law looks at.
pub(crate) struct Scene<'a> {
    pub(crate) spec: &'a ServiceSpec,
    /// The pool's figures as they come out for the primaries and the demand there are.
    pub(crate) pool: PoolSpec,
    /// Shadows of any tier, never fewer.
    pub(crate) least: u32,
    /// Shadows that are wanted and that no place makes.
    pub(crate) shortage: Option<Shortage>,
    pub(crate) now_ms: u64,
    /// From an instance's first request to its usual speed, by what was seen of all.
    pub(crate) warm_up_ms: u64,
    pub(crate) outlook: &'a Outlook,
    /// Which quantile of demand starts which step.
    pub(crate) in_force: InForce,
    /// What is known of the provider in each place.
    pub(crate) providers: &'a Providers,
    /// Where new shadows can be made.
    pub(crate) places: Places<'a>,
    pub(crate) supply: Supply,
    pub(crate) members: Vec<Member<'a>>,
    /// Who was lost lately and who witnessed it; empty when nobody was.
    pub(crate) loss: &'a str,
    /// Whether that was seen in this tick.
    pub(crate) lost_now: bool,
    /// Those that had requests and were taken out of the configuration in this tick.
    pub(crate) removed: Option<String>,
    /// What firing rules ask for.
    pub(crate) claims: Claims,
    /// Who is likely to fail, and what is needed for them.
    pub(crate) at_risk: AtRisk,
    /// Who shares what one of both would be given.
    pub(crate) shift: Option<Shift>,
    pub(crate) actions: Vec<PlannedAction>,
}

impl Scene<'_> {
    /// The loop sees the effect of an order one tick later at the earliest.
    fn tick_ms(&self) -> u64 {
        self.spec.tick_ms.min(LONGEST_STEP_MS)
    }

    /// Where the next shadow to leave `tier` stands; none where one would be made first.
    fn place_from(&self, tier: Tier) -> Option<&PlaceName> {
        if !self.places.are_many() {
            return None;
        }
        let standing = self.shadows().filter(|m| m.seen.tier == tier && !m.is_lost());
        let next = standing
            .min_by_key(|m| (self.distance(m), std::cmp::Reverse(m.seen.tier_age_ms), m.id()));
        next.map(|m| &m.seen.place)
    }

    /// How long steps take in a place, or where the next shadow would be made.
    fn leads_at(&self, place: Option<&PlaceName>) -> &LeadTimes {
        place.map_or_else(|| self.places.next_leads(), |place| self.providers.leads(place))
    }

    fn warm_up_at(&self, place: Option<&PlaceName>) -> u64 {
        self.places.warm_up_ms(place, self.spec.warm_up_ms).unwrap_or(self.warm_up_ms)
    }

    fn commit_lead(&self, place: Option<&PlaceName>, from: Tier) -> u64 {
        let step_ms = self.leads_at(place).ms(from, Tier::Serving).saturating_add(self.tick_ms());
        step_ms.saturating_add(self.warm_up_at(place))
    }

    /// From the order to serve to full capacity, for the next shadow that stands at `from`.
    pub(crate) fn commit_lead_ms(&self, from: Tier) -> u64 {
        self.commit_lead(self.place_from(from), from)
    }

    /// The same for one of them.
    pub(crate) fn commit_lead_ms_of(&self, id: InstanceId, from: Tier) -> u64 {
        let place = self.shadows().find(|m| m.id() == id).map(|m| &m.seen.place);
        self.commit_lead(place.or_else(|| self.place_from(from)), from)
    }

    /// From the order to warm up to full capacity: the order to serve comes after it.
    pub(crate) fn warm_lead_ms(&self) -> u64 {
        self.warm_lead(self.place_from(Tier::Shadow))
    }

    fn warm_lead(&self, place: Option<&PlaceName>) -> u64 {
        let leads = self.leads_at(place);
        let step_ms = leads.ms(Tier::Shadow, Tier::Warm).saturating_add(self.tick_ms());
        self.commit_lead(place, Tier::Warm).saturating_add(step_ms)
    }

    /// From the order to create to full capacity, where the next shadow would be made; creations that are
    /// expected to fail before are counted in.
    pub(crate) fn prepare_lead_ms(&self) -> u64 {
        let leads = self.places.next_leads();
        let step_ms = leads.ms(Tier::Cold, Tier::Shadow).saturating_add(self.tick_ms());
        self.warm_lead(None).saturating_add(step_ms).saturating_add(self.again_ms())
    }

    fn again_ms(&self) -> u64 {
        self.places.next().map_or(0, Spot::again_ms)
    }

    /// What a new shadow takes to full capacity, without the ticks in which orders are seen.
    pub(crate) fn start_up_ms(&self) -> u64 {
        let step_ms = self.places.next_leads().ms(Tier::Cold, Tier::Serving);
        step_ms.saturating_add(self.warm_up_at(None)).saturating_add(self.again_ms())
    }

    /// Demand that orders a shadow at `from` to serve.
    pub(crate) fn commit_asked(&self, from: Tier) -> Asked {
        self.commit_asked_within(self.commit_lead_ms(from))
    }

    /// The same for one of them.
    pub(crate) fn commit_asked_of(&self, id: InstanceId, from: Tier) -> Asked {
        self.commit_asked_within(self.commit_lead_ms_of(id, from))
    }

    fn commit_asked_within(&self, lead_ms: u64) -> Asked {
        let asked = self.outlook.asked(lead_ms, |h| self.in_force.commit(h));
        self.holding(asked, Step::Commit, lead_ms)
    }

    /// Demand that warms a shadow.
    pub(crate) fn warm_asked(&self) -> Asked {
        let lead_ms = self.warm_lead_ms();
        let asked = self.outlook.asked(lead_ms, |h| self.in_force.warm(h));
        self.holding(asked, Step::Warm, lead_ms)
    }

    /// Demand that makes a new shadow.
    pub(crate) fn prepare_asked(&self) -> Asked {
        let lead_ms = self.prepare_lead_ms();
        let asked = self.outlook.asked(lead_ms, |h| self.in_force.prepare(h));
        self.holding(asked, Step::Prepare, lead_ms)
    }

    /// `asked` by the quantile that starts `step`, with the chance that it holds: what is forecast is
    /// mean demand over a tenth of the horizon.
    pub(crate) fn holding(&self, asked: Asked, step: Step, lead_ms: u64) -> Asked {
        let mean_ms = (lead_ms / 10).max(LEAST_MEAN_MS).max(self.spec.tick_ms);
        asked.holding(self.in_force.sigmas(step), mean_ms)
    }

    pub(crate) fn shadows(&self) -> impl Iterator<Item = &Member<'_>> {
        self.members.iter().filter(|m| m.is_shadow())
    }

    pub(crate) fn committed(&self) -> u32 {
        count(self.members.iter().filter(|m| m.is_committed()))
    }

    /// Shadows that are, or will be, running at some size, those out of order left out.
    pub(crate) fn warm_or_more(&self) -> u32 {
        count(self.shadows().filter(|m| m.heading >= Some(Tier::Warm) && !m.is_lost()))
    }

    /// 1 where a shadow that is at `tier` or readier and does not serve was made under settings that have
    /// changed: it stays until another stands in its place, and does not count meanwhile. One at a time.
    pub(crate) fn replaced(&self, tier: Tier) -> u32 {
        let idle = |m: &&Member<'_>| {
            m.heading.is_some_and(|heading| (tier..Tier::Serving).contains(&heading))
        };
        u32::from(self.shadows().filter(idle).any(|m| m.seen.outdated && !m.is_lost()))
    }

    /// Orders a shadow to another tier, or its end, and lets the laws that follow see it so.
    pub(crate) fn order(&mut self, id: InstanceId, to: Option<Tier>, law: Law, text: String) {
        let action = match to {
            Some(tier) => Action::Move { instance: id, tier },
            None => Action::Destroy { instance: id },
        };
        self.actions.push(PlannedAction { action, reason: Reason { law, text } });
        if let Some(member) = self.members.iter_mut().find(|m| m.id() == id) {
            member.heading = to;
            member.busy = true;
            member.eligible &= to == Some(Tier::Serving);
        }
    }

    /// How far and dear a shadow is, to order them by: whether no primary that may take requests runs in
    /// its zone, what its place costs in millionths of an hour's price, and how many microseconds away it is.
    pub(crate) fn distance(&self, member: &Member<'_>) -> (bool, u64, u64) {
        let spec = self.places.get(&member.seen.place).map(|spot| &spot.spec);
        let figure = |figure: f64, scale: f64| (figure.max(0.0) * scale) as u64;
        let cost = spec.map_or(0, |spec| figure(spec.cost_per_hour, 1e6));
        (!self.is_near(member), cost, spec.map_or(0, |spec| figure(spec.latency_ms, 1e3)))
    }

    /// Why more shadows are kept running than are wanted to.
    pub(crate) fn shortage_text(&self) -> String {
        let missing = self.shortage.map_or(0, |shortage| shortage.missing);
        format!(
            "{} more {} wanted and cannot be made now, so one that exists is made readier: {}",
            shadows_text(missing),
            if missing == 1 { "is" } else { "are" },
            self.places.shortage()
        )
    }

    /// Whether a primary that may take requests runs in the shadow's zone.
    pub(crate) fn is_near(&self, member: &Member<'_>) -> bool {
        self.members.iter().any(|m| m.is_primary() && m.eligible && m.seen.zone == member.seen.zone)
    }
}

/// What asks for a step: the quantile that expects so much, or an announced event.
pub(crate) fn asked_text(asked: Asked, quantile: &str, lead_ms: u64) -> String {
    let rps = asked.rps;
    match asked.event {
        Some(event @ Event::Upcoming(..)) => {
            format!("{event}: {rps:.0} rps are expected then ({quantile})")
        }
        Some(event @ Event::Running(..)) => format!("{event}: {rps:.0} rps are expected"),
        None => format!("the {quantile} of demand within {lead_ms} ms is {rps:.0} rps"),
    }
}

/// "1 shadow", "2 shadows".
pub(crate) fn shadows_text(shadows: u32) -> String {
    format!("{shadows} shadow{}", if shadows == 1 { "" } else { "s" })
}

/// Length of an iterator as the kind of number that pools are written in.
pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
