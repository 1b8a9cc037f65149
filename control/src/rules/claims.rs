//! What firing rules ask for together.

use serde::{Deserialize, Serialize};

use crate::ServiceName;

/// One action of one firing rule, for the service it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// The service it is about.
    pub(crate) of: ServiceName,
    pub(super) what: What,
    pub(super) weight: u32,
    pub(super) priority: u32,
    /// The rule and its figures.
    pub(super) text: String,
}

/// What is asked for; counts are levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Activate(u32),
    Warm(u32),
    Prepare(u32),
    Hold,
}

/// What all firing rules ask of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claims {
    /// Shadows that should serve.
    pub(crate) activate: Option<Claim>,
    /// Shadows that should run.
    pub(crate) warm: Option<Claim>,
    /// Shadows that should exist.
    pub(crate) prepare: Option<Claim>,
    /// Nothing is to be taken back.
    pub(crate) hold: bool,
}

/// A number of shadows and who asks for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) shadows: u32,
    pub(crate) text: String,
}

impl Claims {
    /// Of each kind of action, those of the highest priority decide: the mean of their counts, each
    /// counting by its weight, rounded up. One that holds is enough.
    pub(super) fn of<'a>(asks: impl Iterator<Item = &'a Ask> + Clone) -> Self {
        let of_kind = |count: fn(What) -> Option<u32>| {
            claim(asks.clone().filter_map(|ask| Some((ask, count(ask.what)?))))
        };
        Self {
            activate: of_kind(|what| match what {
                What::Activate(count) => Some(count),
                _ => None,
            }),
            warm: of_kind(|what| match what {
                What::Warm(count) => Some(count),
                _ => None,
            }),
            prepare: of_kind(|what| match what {
                What::Prepare(count) => Some(count),
                _ => None,
            }),
            hold: asks.clone().any(|ask| ask.what == What::Hold),
        }
    }

    /// Shadows that should serve.
    pub(crate) fn serving(&self) -> u32 {
        self.activate.as_ref().map_or(0, |claim| claim.shadows)
    }

    /// Shadows that should run.
    pub(crate) fn running(&self) -> u32 {
        self.warm.as_ref().map_or(0, |claim| claim.shadows)
    }

    /// Shadows that should exist.
    pub(crate) fn existing(&self) -> u32 {
        self.prepare.as_ref().map_or(0, |claim| claim.shadows).max(self.running())
    }

    /// Who asks that so many exist.
    pub(crate) fn existing_text(&self) -> &str {
        let most = |claim: &&Claim| claim.shadows == self.existing();
        let claim = self.prepare.as_ref().filter(most).or(self.warm.as_ref());
        claim.map_or("", |claim| &claim.text)
    }
}

fn claim<'a>(counted: impl Iterator<Item = (&'a Ask, u32)> + Clone) -> Option<Claim> {
    let highest = counted.clone().map(|(ask, _)| ask.priority).max()?;
    let deciding: Vec<(&Ask, u32)> = counted.filter(|(ask, _)| ask.priority == highest).collect();
    if let [(ask, count)] = deciding[..] {
        return Some(Claim { shadows: count, text: ask.text.clone() });
    }
    let weights: u64 = deciding.iter().map(|(ask, _)| u64::from(ask.weight)).sum();
    let sum: u64 =
        deciding.iter().map(|(ask, count)| u64::from(ask.weight) * u64::from(*count)).sum();
    let shadows = u32::try_from(sum.div_ceil(weights.max(1))).unwrap_or(u32::MAX);
    let named: Vec<String> = deciding
        .iter()
        .map(|(ask, count)| format!("{} asks for {count} with weight {}", ask.text, ask.weight))
        .collect();
    let text = format!("{}; by weight {shadows}", named.join("; "));
    Some(Claim { shadows, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, what: What, weight: u32, priority: u32) -> Ask {
        Ask { of: ServiceName::from("web"), what, weight, priority, text: name.to_owned() }
    }

    fn activated(asks: &[(u32, u32, u32)]) -> u32 {
        let asks: Vec<Ask> = asks
            .iter()
            .map(|(count, weight, priority)| ask("r", What::Activate(*count), *weight, *priority))
            .collect();
        Claims::of(asks.iter()).serving()
    }

    #[test]
    fn priority_decides_and_weight_among_equals() {
        assert_eq!(activated(&[]), 0);
        assert_eq!(activated(&[(5, 1, 0)]), 5);
        assert_eq!(activated(&[(5, 1000, 0), (1, 1, 1)]), 1, "the higher priority decides alone");
        assert_eq!(activated(&[(2, 1, 3), (4, 1, 3)]), 3);
        assert_eq!(activated(&[(2, 1, 3), (3, 1, 3)]), 3, "2.5 is rounded up");
        assert_eq!(activated(&[(1, 10, 0), (8, 1, 0)]), 2, "18 / 11 is rounded up");
        assert_eq!(activated(&[(2, 10, 0), (2, 1, 0)]), 2, "an exact mean stays");
        assert_eq!(activated(&[(1000, 1000, 1000); 64]), 1000);
    }

    #[test]
    fn kinds_of_action_do_not_mix() {
        let asks = [
            ask("a", What::Warm(3), 1, 9),
            ask("b", What::Activate(1), 1, 0),
            ask("c", What::Prepare(2), 1, 5),
            ask("d", What::Hold, 1, 0),
        ];
        let claims = Claims::of(asks.iter());
        assert_eq!((claims.serving(), claims.running(), claims.existing()), (1, 3, 3));
        assert!(claims.hold);
        assert_eq!(claims.existing_text(), "a");
        assert_eq!(Claims::of([].iter()), Claims::default());
    }
}
