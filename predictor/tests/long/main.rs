//! Long forecasts from made-up histories: what they learn, and what must not harm them.

mod categories;
mod common;
mod effects;
mod extra;
mod hostile;
mod interactions;
mod leads;
mod shapes;
