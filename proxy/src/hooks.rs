//! What the data plane tells others about requests, without knowing who they are.

use std::os::fd::BorrowedFd;

use foreshadow_control::{InstanceId, KernelSample, ServiceName};
use http::{HeaderMap, Method, Uri};

/// Hears of requests that were answered, for instance to mirror them.
///
/// Called on the worker threads: implementations must not block, wait for a lock that others hold
/// for long, or do work beyond handing the value on.
pub trait RequestObserver: Send + Sync + 'static {
    /// Whether this request should be reported; asked once per request, before it is sent. Saying
    /// no costs nothing further.
    fn wants(&self, service: &ServiceName, method: &Method) -> bool;

    /// A request that was wanted has been answered by an instance.
    fn completed(&self, request: CompletedRequest);
}

/// A request answered by an instance; failed and aborted requests are not reported.
#[derive(Clone, Debug)]
pub struct CompletedRequest {
    /// The service it was routed to.
    pub service: ServiceName,
    /// The instance that answered.
    pub instance: InstanceId,
    /// Method as sent to the instance.
    pub method: Method,
    /// Target as sent to the instance, in origin form.
    pub uri: Uri,
    /// Fields as sent to the instance.
    pub headers: HeaderMap,
    /// Status of the answer.
    pub status: u16,
    /// From the request's arrival to the last byte of its answer.
    pub latency_ms: f64,
}

/// Asks the kernel about a connection to an instance.
pub trait SocketProbe: Send + Sync + 'static {
    /// One sample, or `None` when the kernel does not say; `retransmits` counts since the last
    /// sample of the same connection. Called on a worker thread, once a request in sixteen has its
    /// connection: it must take no more than microseconds.
    fn sample(&self, socket: BorrowedFd<'_>) -> Option<KernelSample>;
}
