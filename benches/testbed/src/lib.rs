//! A real HTTP backend with tunable behaviour and an open-loop load generator.
//!
//! Both halves are plain libraries as well as subcommands: a test or a demo may run the backend
//! as a process of its own and the load in its own thread, watching it live.

pub mod backend;
pub mod load;
pub mod node;
pub mod units;
