//! What may be learned from outcomes, as written.

use super::read::table;
use super::{Count, PaceName, Switch};

table! {
    /// What is learned from outcomes, and how far it may go; see docs/learning.md.
    RawLearning {
        /// Whether failures, lead times of what failed and warm-up count by place in where and when shadows are
        /// made. Default: on.
        enabled: Switch,
        /// Whether migrations shift by what became of earlier ones to the same place, in place of the
        /// configured steps alone. Default: off.
        steps: Switch,
        /// The fastest plan that may be chosen for it: careful, normal (the configured one), brisk.
        /// Default: normal.
        fastest: PaceName,
        /// Migrations in a row that must go well before a faster plan is tried, 1 to 1,000. Default: 5.
        successes: Count,
    }
}
