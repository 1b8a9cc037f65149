//! Whether a shadow's answers to mirrored requests allow it to serve.

use crate::{MirrorSummary, Objective};

/// Copies compared before they count; below, the readiness check has to do.
const ENOUGH: u64 = 20;
/// Least share of copies whose status class agrees with the original's.
pub(crate) const LEAST_AGREEMENT: f64 = 0.95;
/// Copies may take this many times as long as the originals, or the objective.
const MOST_SLOWDOWN: f64 = 3.0;

/// What mirrored requests say of a shadow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It may serve.
    Fit,
    /// Its answers differ: share that agreed.
    Disagrees(f64),
    /// Its answers come too late: mean latency, and that of the originals.
    TooSlow(f64, f64),
}

/// Judges a shadow by its mirrored answers.
pub(crate) fn verdict(mirror: Option<&MirrorSummary>, objective: &Objective) -> Verdict {
    let Some(mirror) = mirror.filter(|m| m.compared >= ENOUGH) else { return Verdict::Fit };
    let compared = mirror.compared as f64;
    let agreement = mirror.agreed as f64 / compared;
    let (original_ms, copy_ms) = (mirror.original_sum_ms / compared, mirror.copy_sum_ms / compared);
    if agreement < LEAST_AGREEMENT {
        Verdict::Disagrees(agreement)
    } else if copy_ms > (MOST_SLOWDOWN * original_ms).max(objective.latency_ms) {
        Verdict::TooSlow(copy_ms, original_ms)
    } else {
        Verdict::Fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Objective =
        Objective { latency_ms: 50.0, latency_quantile: 0.99, error_rate: 0.001 };

    fn summary(compared: u64, agreed: u64, copy_ms: f64) -> MirrorSummary {
        let sum = |ms| compared as f64 * ms;
        MirrorSummary { compared, agreed, original_sum_ms: sum(10.0), copy_sum_ms: sum(copy_ms) }
    }

    #[test]
    fn few_copies_say_nothing() {
        assert_eq!(verdict(None, &OBJECTIVE), Verdict::Fit);
        assert_eq!(verdict(Some(&summary(19, 0, 1e9)), &OBJECTIVE), Verdict::Fit);
    }

    #[test]
    fn agreement_and_latency_are_both_asked_for() {
        assert_eq!(verdict(Some(&summary(20, 19, 49.0)), &OBJECTIVE), Verdict::Fit);
        assert_eq!(verdict(Some(&summary(20, 18, 1.0)), &OBJECTIVE), Verdict::Disagrees(0.9));
        assert_eq!(
            verdict(Some(&summary(100, 100, 51.0)), &OBJECTIVE),
            Verdict::TooSlow(51.0, 10.0)
        );
    }
}
