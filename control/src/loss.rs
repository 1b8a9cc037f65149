//! Who was lost, and who says so: the text of a failover.

use serde::{Deserialize, Serialize};

use crate::{Fact, Health, InstanceId, InstanceObservation, ServiceObservation};

/// A loss counts as the cause of what is ordered for this long.
const MEMORY_MS: u64 = 3_000;
/// Instances named at most, and characters of a witness's own words.
pub(crate) const MOST_NAMED: usize = 8;
const MOST_CHARS: usize = 160;

/// The last instances lost that served.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Losses {
    at_ms: Option<u64>,
    /// "i65 down: connection refused, i70 exited: signal 9".
    text: String,
}

impl Losses {
    /// Takes the instances that had requests and are out of order or gone, and the exits of those
    /// that served though they had none.
    pub(crate) fn observe(&mut self, lost: &[InstanceId], seen: &ServiceObservation, now_ms: u64) {
        if !self.is_fresh(now_ms) {
            self.text.clear();
        }
        let served = |fact: &Fact| match fact {
            Fact::Exited { instance, tier: crate::Tier::Serving, .. } => Some(*instance),
            _ => None,
        };
        let mut ids: Vec<InstanceId> = lost.to_vec();
        ids.extend(seen.facts.iter().filter_map(served).filter(|id| !lost.contains(id)));
        if ids.is_empty() {
            return;
        }
        self.at_ms = Some(now_ms);
        let named: Vec<String> = ids.iter().take(MOST_NAMED).map(|id| witness(*id, seen)).collect();
        self.text = named.join(", ");
        if ids.len() > MOST_NAMED {
            self.text.push_str(&format!(" and {} more", ids.len() - MOST_NAMED));
        }
    }

    pub(crate) fn is_fresh(&self, now_ms: u64) -> bool {
        self.at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < MEMORY_MS)
    }

    pub(crate) fn is_new(&self, now_ms: u64) -> bool {
        self.at_ms == Some(now_ms)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Who was taken out of the configuration, of those that had requests.
pub(crate) fn removed_text(removed: &[InstanceId]) -> Option<String> {
    let named: Vec<String> = removed.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = removed.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| format!("{}{more} taken out of service", named.join(", ")))
}

fn witness(id: InstanceId, seen: &ServiceObservation) -> String {
    if let Some(instance) = seen.instances.iter().find(|i| i.instance == id) {
        return state_text(instance);
    }
    let exit = seen.facts.iter().find_map(|fact| match fact {
        Fact::Exited { instance, detail, .. } if *instance == id => Some(shortened(detail)),
        _ => None,
    });
    exit.map_or_else(|| format!("{id} is gone"), |detail| format!("{id} exited: {detail}"))
}

/// Why an instance takes no requests, in the words of who found it.
pub(crate) fn state_text(seen: &InstanceObservation) -> String {
    let id = seen.instance;
    match &seen.health {
        Health::Down(why) => format!("{id} down: {}", shortened(why)),
        Health::Ejected => format!("{id} ejected"),
        _ if seen.drained => format!("{id} drained by an operator"),
        _ if seen.leaving => format!("{id} leaves by its own scaling"),
        Health::Unknown => format!("{id} not checked yet"),
        Health::Up => format!("{id} is no longer to serve"),
    }
}

fn shortened(words: &str) -> String {
    words.chars().take(MOST_CHARS).collect()
}
