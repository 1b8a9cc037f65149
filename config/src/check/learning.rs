//! What may be learned from outcomes, and how far it may go.

use foreshadow_control::{LearningSpec, Pace};

use super::range;
use crate::Learning;
use crate::raw::RawLearning;
use crate::reader::{At, Field, Problem, Reader};

/// Figures of steps stand beside `steps: on` only: elsewhere they would do nothing.
pub(super) fn learning(field: Field<RawLearning>, r: &mut Reader<'_>) -> Learning {
    let raw = field.value().unwrap_or_default();
    let enabled = raw.enabled.value().is_none_or(|enabled| enabled.0);
    let steps_place = match &raw.steps {
        Field::Given(At { value, place }) if value.0 => Some(place.clone()),
        _ => None,
    };
    let steps = steps_place.is_some();
    if let (Some(place), false) = (&steps_place, enabled) {
        let problem = Problem::new("steps: on beside enabled: off", "one of the two");
        r.report(place, problem.help("nothing is learned where learning is off"));
    }
    let places = [
        (
            "fastest",
            match &raw.fastest {
                Field::Given(at) => Some(at.place.clone()),
                _ => None,
            },
        ),
        (
            "successes",
            match &raw.successes {
                Field::Given(at) => Some(at.place.clone()),
                _ => None,
            },
        ),
    ];
    for (name, place) in places {
        if let (Some(place), false) = (place, steps) {
            let problem = Problem::new(format!("{name} without steps: on"), "steps: on beside it");
            r.report(&place, problem.help("it bounds which steps are chosen"));
        }
    }
    Learning {
        enabled,
        steps: enabled && steps,
        fastest: raw.fastest.value().map_or(Pace::Normal, |pace| pace.0),
        successes: range::count(raw.successes, 1..=1_000, LearningSpec::SUCCESSES, r),
    }
}
