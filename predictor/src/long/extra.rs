//! A forecaster from outside, as one more expert.

/// A forecaster that someone brings, weighed like the others by what it got right.
///
/// It is asked from about two dozen moments of the past and once at the end, so that it must take no
/// longer than a 25th of what a fit may.
pub trait Extra {
    /// The values after `past`, oldest first, which is whole and in units of the series' typical value,
    /// without the effects of events and regressors. What is shorter than asked is repeated.
    ///
    /// # Errors
    ///
    /// Why there is no forecast; the expert is then left out of the fit.
    fn ahead(&self, past: &[f64]) -> Result<Vec<f64>, String>;
}

/// Answers beyond this are left out: no series is a thousand times its typical value.
const MOST: f64 = 1e3;

/// Asks from each of `moments`, which are counts of values known.
///
/// # Errors
///
/// The first error, or what is wrong with an answer.
pub(super) fn ask(
    extra: &dyn Extra,
    values: &[f64],
    moments: &[usize],
) -> Result<Vec<Vec<f64>>, String> {
    let said = |at: &usize| {
        let answer = extra.ahead(&values[..*at])?;
        let bad = answer.iter().position(|value| !(-MOST..=MOST).contains(value));
        match (bad, answer.is_empty()) {
            (Some(step), _) => Err(format!(
                "step {step} of its answer is {} times the typical value, outside -{MOST}..={MOST}",
                answer[step]
            )),
            (None, true) => Err("its answer is empty".to_owned()),
            (None, false) => Ok(answer),
        }
    };
    moments.iter().map(said).collect()
}
