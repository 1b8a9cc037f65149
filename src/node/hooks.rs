//! What the data plane tells others, passed on in their own terms.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use foreshadow_control::{KernelSample, ServiceName};
use foreshadow_mirror::{Mirrorer, Original};
use foreshadow_proxy::{CompletedRequest, RequestObserver, SocketProbe};
use http::Method;

/// Offers answered requests to the mirror.
pub(super) struct MirrorHook(pub(super) Arc<Mirrorer>);

impl RequestObserver for MirrorHook {
    fn wants(&self, service: &ServiceName, method: &Method) -> bool {
        self.0.wants(service, method)
    }

    fn completed(&self, request: CompletedRequest) {
        // Whether the mirror took it shows in its own counters.
        self.0.offer(Original {
            service: request.service,
            method: request.method,
            uri: request.uri,
            headers: request.headers,
            status: request.status,
            latency_ms: request.latency_ms,
        });
    }
}

/// Samples `TCP_INFO` of connections to backends.
#[derive(Debug)]
pub(super) struct KernelProbe;

impl SocketProbe for KernelProbe {
    fn sample(&self, socket: BorrowedFd<'_>) -> Option<KernelSample> {
        foreshadow_ebpf::sample_socket(socket).ok()
    }
}
