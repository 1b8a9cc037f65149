//! Whole forecasters on simulated series: do they foresee, are they calibrated, do they survive.

mod common;
mod damaged;
mod hostile;
mod replay;
mod shapes;
mod waking;
