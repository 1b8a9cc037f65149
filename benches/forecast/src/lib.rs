//! What the forecasting benches share: recorded traces, read from a folder outside the repository.

mod catalogue;
mod parse;
mod trace;

pub use catalogue::{TRACES_VARIABLE, load_all, traces_dir};
pub use parse::{Table, TraceError, read_table, read_text};
pub use trace::Trace;
