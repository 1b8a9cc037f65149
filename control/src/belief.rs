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

/// Mean of the logarithms, each counting by its precision.
pub(crate) fn common_rps(beliefs: &[Belief]) -> Option<f64> {
    let precision = |b: &Belief| 1.0 / (b.error * b.error + ALIKE * ALIKE);
    let total: f64 = beliefs.iter().map(precision).sum();
    let sum: f64 = beliefs.iter().map(|b| precision(b) * b.rps.ln()).sum();
    (total > 0.0).then(|| (sum / total).exp())
}

/// An estimate drawn towards its peers', the more the less certain it is (James and Stein 1961):
/// instances of one service differ less than what is measured of them.
pub(crate) fn shrunk_rps(belief: &Belief, typical_rps: f64) -> f64 {
    let own = 1.0 / (belief.error * belief.error).max(1e-6);
    let peers = 1.0 / (ALIKE * ALIKE);
    ((own * belief.rps.max(1e-3).ln() + peers * typical_rps.ln()) / (own + peers)).exp()
}
