//! Kernel truth for the loop: what this kernel offers and the TCP_INFO baseline.
//!
//! [`probe`] says where each signal comes from on this machine and why. [`tcp_info()`] reads one of
//! our own sockets, which needs no privilege, and [`SocketTracker`] turns such readings into
//! [`foreshadow_control::KernelSample`]s.

mod capabilities;
mod report;
mod tcp_info;
mod tracker;

pub use capabilities::Capabilities;
pub use report::{KernelReport, Signal, SignalSource, Source, probe};
pub use tcp_info::{TcpInfoSample, tcp_info};
pub use tracker::{SocketTracker, sample_socket};
