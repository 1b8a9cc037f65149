//! Whole forecasters on simulated series: do they foresee, are they calibrated, do they survive.

mod common;
mod damaged;
mod disturbances;
mod hostile;
mod regressors;
mod replay;
mod shapes;
mod turns;
mod waking;
