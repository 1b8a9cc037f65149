//! What is believed of an instance's capacity, alone and beside its peers'.

/// How much instances of one service are taken to differ in capacity, as a relative deviation.
const ALIKE: f64 = 0.15;

/// What is believed of an instance's capacity, in requests per second within the objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Belief {
    pub(crate) rps: f64,
    pub(crate) lower_rps: f64,
    pub(crate) upper_rps: Option<f64>,
    /// Relative standard error of `rps`; large where it is a bound that decisions may lean on.
    pub(crate) error: f64,
}

/// Mean of the logarithms of what is known, each counting by its precision. What is only bounded
/// from below counts where it says that the others are taken to be too small: that an instance has
/// carried little is no sign that it cannot carry more.
pub(crate) fn common_rps(beliefs: &[Belief]) -> Option<f64> {
    let known = || beliefs.iter().filter(|b| b.upper_rps.is_some());
    let most_rps = || beliefs.iter().map(|b| b.rps).reduce(f64::max);
    let Some(known_rps) = mean_rps(known()) else { return most_rps() };
    let larger = |b: &&Belief| b.upper_rps.is_some() || b.rps > known_rps;
    mean_rps(beliefs.iter().filter(larger))
}

fn mean_rps<'a>(beliefs: impl Iterator<Item = &'a Belief>) -> Option<f64> {
    let (mut total, mut sum) = (0.0, 0.0);
    for belief in beliefs {
        let precision = 1.0 / (belief.error * belief.error + ALIKE * ALIKE);
        total += precision;
        sum += precision * libm::log(belief.rps);
    }
    (total > 0.0).then(|| libm::exp(sum / total))
}

/// An estimate drawn towards its peers', the more the less certain it is (James and Stein 1961):
/// instances of one service differ less than what is measured of them.
pub(crate) fn shrunk_rps(belief: &Belief, typical_rps: f64) -> f64 {
    let own = 1.0 / (belief.error * belief.error).max(1e-6);
    let peers = 1.0 / (ALIKE * ALIKE);
    libm::exp(
        (own * libm::log(belief.rps.max(1e-3)) + peers * libm::log(typical_rps)) / (own + peers),
    )
}
