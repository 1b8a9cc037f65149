//! Why a replay came out otherwise: fields in which two plans differ, and ticks that are missing.

use std::collections::BTreeSet;

use foreshadow_control::{Divergence, Entry, Plan};
use serde::Serialize;
use serde_json::Value;

/// Fields that are named; of more, how many.
const MOST_FIELDS: usize = 20;
/// Length of a value, in characters, beyond which its rest is left out.
const LONGEST_VALUE: usize = 100;
/// What the times of two ticks may differ from what the later one says was between them.
const JITTER_MS: u64 = 50;

/// A field that is not the same in two plans.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Field {
    /// The service; absent for the plan as a whole.
    service: Option<String>,
    /// Where in its plan.
    path: String,
    /// As recorded; absent where there is none.
    recorded: Option<Value>,
    /// As made now; absent where there is none.
    replayed: Option<Value>,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}: ")?;
        }
        let (recorded, replayed) = (short(self.recorded.as_ref()), short(self.replayed.as_ref()));
        write!(f, "{}: recorded {recorded}, replayed {replayed}", self.path)
    }
}

fn short(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// In what two plans of a tick differ.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Differences {
    /// The tick.
    tick: u64,
    /// The first fields.
    fields: Vec<Field>,
    /// How many more there are.
    more: usize,
}

impl Differences {
    pub(super) fn of(divergence: &Divergence) -> serde_json::Result<Self> {
        let (recorded, replayed) = (&divergence.recorded, &divergence.replayed);
        let mut found = Self { tick: replayed.tick, ..Self::default() };
        let whole =
            |plan: &Plan| serde_json::to_value(Plan { services: Vec::new(), ..plan.clone() });
        found.compare(None, "", Some(&whole(recorded)?), Some(&whole(replayed)?));
        let names = |plan: &Plan| plan.services.iter().map(|s| s.service.clone()).collect();
        let (old, new): (BTreeSet<_>, BTreeSet<_>) = (names(recorded), names(replayed));
        for name in old.union(&new) {
            let of = |plan: &Plan| {
                let service = plan.services.iter().find(|service| service.service == *name);
                service.map(serde_json::to_value).transpose()
            };
            found.compare(Some(name.as_str()), "", of(recorded)?.as_ref(), of(replayed)?.as_ref());
        }
        Ok(found)
    }

    pub(super) fn describe(&self, text: &mut String) -> std::fmt::Result {
        use std::fmt::Write as _;
        for field in &self.fields {
            write!(text, "\n  {field}")?;
        }
        match (self.fields.len(), self.more) {
            (0, _) => write!(text, "\n  in nothing that can be written down"),
            (_, 0) => Ok(()),
            (_, 1) => write!(text, "\n  and in one more field"),
            (_, more) => write!(text, "\n  and in {more} more fields"),
        }
    }

    fn compare(
        &mut self,
        service: Option<&str>,
        path: &str,
        recorded: Option<&Value>,
        replayed: Option<&Value>,
    ) {
        match (recorded, replayed) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for key in keys {
                    let dot = if path.is_empty() { "" } else { "." };
                    self.compare(service, &format!("{path}{dot}{key}"), old.get(key), new.get(key));
                }
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                for (key, old, new) in side_by_side(old, new) {
                    self.compare(service, &format!("{path}[{key}]"), old, new);
                }
            }
            _ if recorded == replayed => {}
            _ if self.fields.len() == MOST_FIELDS => self.more += 1,
            _ => self.fields.push(Field {
                service: service.map(str::to_owned),
                path: if path.is_empty() { "the plan".to_owned() } else { path.to_owned() },
                recorded: recorded.cloned(),
                replayed: replayed.cloned(),
            }),
        }
    }
}

/// Elements that belong together: those of the same instance where that tells them apart, or else
/// those of the same position.
fn side_by_side<'a>(
    old: &'a [Value],
    new: &'a [Value],
) -> Vec<(String, Option<&'a Value>, Option<&'a Value>)> {
    let instances = |list: &[Value]| -> Option<BTreeSet<u64>> {
        let ids: BTreeSet<u64> =
            list.iter().map(|element| element["instance"].as_u64()).collect::<Option<_>>()?;
        (ids.len() == list.len()).then_some(ids)
    };
    if let (Some(in_old), Some(in_new)) = (instances(old), instances(new)) {
        let find = |list: &'a [Value], id: u64| {
            list.iter().find(move |element| element["instance"].as_u64() == Some(id))
        };
        let pair = |id: &u64| (format!("i{id}"), find(old, *id), find(new, *id));
        return in_old.union(&in_new).map(pair).collect();
    }
    (0..old.len().max(new.len())).map(|n| (n.to_string(), old.get(n), new.get(n))).collect()
}

/// Ticks of which a recording says that they were, and that are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Gap {
    /// The last tick before it.
    after_tick: u64,
    /// The first tick after it; not above the one before where lines are out of order.
    before_tick: u64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { after_tick, before_tick } = self;
        match before_tick.checked_sub(*after_tick) {
            None | Some(0) => write!(f, "tick {before_tick} comes after tick {after_tick}"),
            Some(2) => write!(f, "tick {} is missing", after_tick + 1),
            Some(_) => write!(f, "ticks between {after_tick} and {before_tick} are missing"),
        }
    }
}

/// Follows a recording and finds gaps in it.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: Option<(u64, u64)>,
    /// The first since the last checkpoint: what comes after it has not seen what the node saw.
    pub(super) first: Option<Gap>,
}

impl Gaps {
    pub(super) fn see(&mut self, entry: &Entry) {
        match entry {
            Entry::Checkpoint { .. } => *self = Self::default(),
            Entry::Configure { .. } => {}
            Entry::Tick { observation, .. } => {
                let now = (observation.tick, observation.at_ms);
                let before = self
                    .last
                    .replace(now)
                    .filter(|last| !follows(*last, now, observation.interval_ms));
                if let Some((after_tick, _)) = before {
                    let gap = Gap { after_tick, before_tick: observation.tick };
                    self.first.get_or_insert(gap);
                }
            }
        }
    }
}

/// Whether a tick is the next one. A loop that runs late leaves numbers out, and the next tick covers
/// the time of all of them.
fn follows((tick, at_ms): (u64, u64), now: (u64, u64), interval_ms: u64) -> bool {
    let covered = now.1.saturating_sub(at_ms) <= interval_ms.saturating_add(JITTER_MS);
    now.0 > tick && (now.0 == tick + 1 || covered)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_a_late_loop_leaves_out_are_no_gap() {
        assert!(follows((13, 1_300), (14, 1_400), 100));
        assert!(follows((13, 1_300), (15, 1_500), 200), "the loop was late");
        assert!(!follows((13, 1_300), (15, 1_500), 100), "a line is missing");
        assert!(!follows((13, 1_300), (13, 1_300), 100), "a line is there twice");
        let gap = |after_tick, before_tick| Gap { after_tick, before_tick }.to_string();
        assert_eq!(gap(13, 15), "tick 14 is missing");
        assert_eq!(gap(13, 16), "ticks between 13 and 16 are missing");
        assert_eq!(gap(13, 13), "tick 13 comes after tick 13");
    }

    #[test]
    fn fields_are_named_by_path_and_instances_by_their_number() {
        let old = json!({ "weights": [{ "instance": 1, "weight": 5 }, { "instance": 2, "weight": 5 }], "act": true });
        let new = json!({ "weights": [{ "instance": 2, "weight": 10 }], "act": true, "at": [1.5] });
        let mut found = Differences::default();
        found.compare(Some("shop"), "", Some(&old), Some(&new));
        let said: Vec<String> = found.fields.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "shop: at: recorded nothing, replayed [1.5]",
                r#"shop: weights[i1]: recorded {"instance":1,"weight":5}, replayed nothing"#,
                "shop: weights[i2].weight: recorded 5, replayed 10",
            ]
        );
        let [long, longer] = [1_000, 1_001].map(|n| json!(vec!["é".repeat(n); 50]));
        found.compare(None, "long", Some(&long), Some(&longer));
        let mut text = String::new();
        found.describe(&mut text).unwrap();
        assert_eq!((found.fields.len(), found.more), (MOST_FIELDS, 33));
        assert!(text.len() < 20_000 && text.ends_with("and in 33 more fields"), "{text}");
    }
}
