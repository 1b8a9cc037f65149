//! What the forecasting benches share: recorded traces, read from a folder outside the repository,
//! and made-up ones for where it is not there.

mod catalogue;
mod cell;
mod detectors;
mod episodes;
mod evaluate;
mod held_out;
mod labelled;
mod level;
mod parse;
mod petshop;
mod reliability;
mod spent;
mod summary;
mod synthetic;
mod trace;

pub use catalogue::{TRACES_VARIABLE, load_all, traces_dir};
pub use cell::Cell;
pub use detectors::Detector;
pub use episodes::{Figures, Matching, at_rate, figures, quartiles};
pub use evaluate::{LEVELS, evaluate, spec_of};
pub use held_out::{Found, HeldOut, Scored, held_out};
pub use labelled::{Labelled, load_labelled};
pub use parse::{Table, TraceError, read_table, read_text};
pub use petshop::{PetshopFigures, petshop};
pub use reliability::{Bin, Reliability, reliability};
pub use spent::{Spent, thread_cpu_ms};
pub use summary::{Summary, Target};
pub use synthetic::load_or_make;
pub use trace::Trace;
