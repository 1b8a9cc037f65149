//! The schema: each table as it is written, before it is checked.
//!
//! A table is declared once with [`table!`]; its keys, their descriptions, the reader and the
//! JSON Schema all come from that declaration.

mod choice;
mod docker;
mod kubernetes;
mod leaf;
mod learning;
mod listener;
mod metrics;
mod migration;
mod providers;
mod read;
mod root;
mod rule;
mod scaling;
mod service;
mod shadows;
mod text;
mod vm;

pub(crate) use choice::*;
pub(crate) use docker::*;
pub(crate) use kubernetes::*;
pub(crate) use leaf::*;
pub(crate) use learning::*;
pub(crate) use listener::*;
pub(crate) use metrics::*;
pub(crate) use migration::*;
pub(crate) use providers::*;
pub(crate) use read::{Either, List, Map, Read};
pub(crate) use root::*;
pub(crate) use rule::*;
pub(crate) use scaling::*;
pub(crate) use service::*;
pub(crate) use shadows::*;
pub(crate) use text::*;
pub(crate) use vm::*;
