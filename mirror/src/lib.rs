//! Keeps shadows current: request mirroring policy and comparison of answers.
//!
//! A sampled share of a service's safe requests is copied to instances that do not serve yet. The
//! copies are bounded in number, in time and in size, wait for nobody and are waited for by
//! nobody; their answers are thrown away once status class and latency have been compared with
//! the original's. What is learned is a [`foreshadow_control::MirrorSummary`] per instance.

mod copy;
mod mirrorer;
mod policy;
mod target;

pub use mirrorer::{MirrorStats, Mirrorer, Original};
pub use policy::{MIRROR_HEADER, MirrorPolicy, Refusal, may_mirror};
