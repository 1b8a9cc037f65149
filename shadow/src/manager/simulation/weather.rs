//! What goes wrong, and when: drawn for each schedule, over before its end.

use std::fmt;

use super::random::Random;
use crate::error::Cause;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Everything takes twenty times as long.
    Slow,
    /// Half of what is asked is refused, for reasons of all kinds.
    Failing,
    /// Every order to make one is refused for this.
    NothingIsMade(Cause),
    /// Nobody can be asked.
    Away,
    /// Nothing is heard of it, and nothing is done.
    Silent,
    /// What is asked is not answered; half of it is done, perhaps much later.
    Hangs,
    /// What is asked is done, now or soon, and the answer is lost.
    AnswersLost,
    /// It says that one was made, and nothing is there.
    LiesOfMaking,
    /// It says that one has ended, and it runs.
    LiesOfEnding,
    /// It leaves some out when it says what is there.
    LiesOfWhatIsThere,
    /// Whatever is made is never ready.
    Deaf,
    /// Everything is said to be ready, whether or not anything is there.
    LiesOfReadiness,
    /// Instances go without a word.
    Vanishing,
    /// Instances end by themselves.
    Ending,
    /// No more than one may be made.
    Quota,
    /// The registry cannot be written.
    RegistryReadOnly,
    /// The registry takes half a second for each job.
    RegistrySlow,
    /// Primaries do not answer.
    PrimariesDown,
}

impl Trouble {
    const ALL: [Self; 18] = [
        Self::Slow,
        Self::Failing,
        Self::NothingIsMade(Cause::NoImage),
        Self::Away,
        Self::Silent,
        Self::Hangs,
        Self::AnswersLost,
        Self::LiesOfMaking,
        Self::LiesOfEnding,
        Self::LiesOfWhatIsThere,
        Self::Deaf,
        Self::LiesOfReadiness,
        Self::Vanishing,
        Self::Ending,
        Self::Quota,
        Self::RegistryReadOnly,
        Self::RegistrySlow,
        Self::PrimariesDown,
    ];
}

/// All troubles of a schedule, each with its time.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    spells: Vec<(u64, u64, Trouble)>,
}

impl Weather {
    /// Some spells within the first `length_ms`.
    pub(super) fn drawn(random: &mut Random, length_ms: u64) -> Self {
        let many = random.between(0, 5);
        let spell = |random: &mut Random| {
            let begins = random.between(0, length_ms - 1);
            let ends = (begins + random.between(500, 15_000)).min(length_ms);
            (begins, ends, *random.pick(&Trouble::ALL))
        };
        let mut spells: Vec<_> = (0..many).map(|_| spell(random)).collect();
        // What is said to have ended, and is not listed either, nobody can see before the next start.
        if spells.iter().any(|(.., trouble)| *trouble == Trouble::LiesOfEnding) {
            spells.retain(|(.., trouble)| *trouble != Trouble::LiesOfWhatIsThere);
        }
        Self { spells }
    }

    /// One spell only.
    pub(super) fn of(trouble: Trouble, from_ms: u64, to_ms: u64) -> Self {
        Self { spells: vec![(from_ms, to_ms, trouble)] }
    }

    pub(super) fn has(&self, trouble: Trouble, now_ms: u64) -> bool {
        self.now(now_ms).any(|now| now == trouble)
    }

    /// Why nothing is made.
    pub(super) fn refuses(&self, now_ms: u64) -> Option<Cause> {
        self.now(now_ms).find_map(|trouble| match trouble {
            Trouble::NothingIsMade(cause) => Some(cause),
            _ => None,
        })
    }

    fn now(&self, now_ms: u64) -> impl Iterator<Item = Trouble> {
        let now = move |(from, to, _): &&(u64, u64, Trouble)| (*from..*to).contains(&now_ms);
        self.spells.iter().filter(now).map(|(.., trouble)| *trouble)
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (from, to, trouble) in &self.spells {
            writeln!(
                f,
                "  {:>7.3} to {:>7.3} s: {trouble:?}",
                *from as f64 / 1e3,
                *to as f64 / 1e3
            )?;
        }
        Ok(())
    }
}
