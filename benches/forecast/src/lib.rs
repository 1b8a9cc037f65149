//! What the forecasting benches share: recorded traces, read from a folder outside the repository.

mod catalogue;
mod cell;
mod evaluate;
mod parse;
mod summary;
mod trace;

pub use catalogue::{TRACES_VARIABLE, load_all, traces_dir};
pub use cell::Cell;
pub use evaluate::{LEVELS, evaluate, spec_of};
pub use parse::{Table, TraceError, read_table, read_text};
pub use summary::{Summary, Target};
pub use trace::Trace;
