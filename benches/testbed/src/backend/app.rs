//! What the backend answers: work, health, stats and the control of faults.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::args::Args;
use super::fault::{FaultKind, FaultSpec, Schedule};
use super::report::exposition;
use super::service::ServiceTimes;
use super::slots::Slots;

const INSTANCE: HeaderName = HeaderName::from_static("x-instance");
const LOAD_METRICS: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const MAX_CONTROL_BODY: usize = 64 * 1024;

/// The state behind all connections of one backend, on one thread.
pub(super) struct App {
    args: Args,
    name: HeaderValue,
    body: Bytes,
    started: Instant,
    slots: Rc<Slots>,
    times: RefCell<ServiceTimes>,
    dice: RefCell<StdRng>,
    faults: RefCell<Schedule>,
    fault_changes: watch::Sender<u64>,
    served: Cell<u64>,
    errors: Cell<u64>,
    rejected: Cell<u64>,
    pub(super) connections: Cell<u32>,
}

/// The answer to `GET /_testbed/stats`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Name of the instance, as in `x-instance`.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Time since the process began its start-up, in milliseconds.
    pub uptime_ms: u64,
    /// Requests served with 200; health checks and control requests are not counted anywhere.
    pub served: u64,
    /// Requests answered 500 by the `errors` fault.
    pub errors: u64,
    /// Requests answered 503 because the queue was full.
    pub rejected: u64,
    /// Requests in service now.
    pub in_service: u32,
    /// Requests waiting for a slot now.
    pub queue_depth: u32,
    /// Most requests in service at the same time so far.
    pub peak_in_service: u32,
    /// Most requests waiting at the same time so far.
    pub peak_queue_depth: u32,
    /// Open connections.
    pub connections: u32,
    /// Slots.
    pub concurrency: u32,
    /// Share of the slots in use over the last full second, 0..=1.
    pub utilization: f64,
    /// Slot time used since start, in seconds.
    pub busy_s: f64,
    /// Factor that the warm-up curve has on service times now; 1 is warm.
    pub warmup_factor: f64,
    /// The fault in force.
    pub fault: Option<FaultSpec>,
}

impl App {
    /// `started` is the begin of the process's start-up; faults count from `now`.
    pub(super) fn new(args: Args, started: Instant, now: Instant) -> Self {
        let name = args.name.clone().unwrap_or_else(|| std::process::id().to_string());
        let mut faults = Schedule::default();
        for fault in &args.fault {
            faults.add(*fault, now);
        }
        Self {
            name: HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("unnamed")),
            body: vec![b'x'; args.body].into(),
            started,
            slots: Rc::new(Slots::new(args.concurrency, args.queue, now)),
            times: RefCell::new(ServiceTimes::new(&args)),
            // A stream of its own: faults must not change the service times that a seed gives.
            dice: RefCell::new(StdRng::seed_from_u64(args.seed ^ 0x5EED_FA17)),
            faults: RefCell::new(faults),
            fault_changes: watch::Sender::new(0),
            served: Cell::new(0),
            errors: Cell::new(0),
            rejected: Cell::new(0),
            connections: Cell::new(0),
            args,
        }
    }

    /// The fault in force now.
    pub(super) fn fault(&self) -> Option<FaultSpec> {
        self.faults.borrow().active(Instant::now())
    }

    /// Waits until the fault in force may have changed since `changes` was last looked at.
    pub(super) async fn fault_change(&self, changes: &mut watch::Receiver<u64>) {
        let next = self.faults.borrow().next_change(Instant::now());
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = changes.changed() => {
                debug_assert!(changed.is_ok(), "the sender lives in the app");
            }
        }
    }

    pub(super) fn fault_changes(&self) -> watch::Receiver<u64> {
        self.fault_changes.subscribe()
    }

    /// Whether a request with this draw is hit by a fault of this kind now.
    fn hit(&self, kind: FaultKind, draw: f64) -> Option<FaultSpec> {
        self.fault().filter(|fault| fault.kind == kind && draw < fault.share)
    }

    async fn while_hanging(&self, draw: f64) {
        let mut changes = self.fault_changes();
        while self.hit(FaultKind::Hang, draw).is_some() {
            self.fault_change(&mut changes).await;
        }
    }

    /// Answers one request.
    pub(super) async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let control = request.uri().path().starts_with("/_testbed/");
        let mut response = match request.uri().path() {
            "/healthz" => {
                let draw = self.dice.borrow_mut().random();
                self.while_hanging(draw).await;
                text(StatusCode::OK, "ok\n")
            }
            "/_testbed/stats" => json(StatusCode::OK, &self.stats()),
            "/_testbed/metrics" => text(StatusCode::OK, &exposition(&self.stats())),
            "/_testbed/fault" => self.control(request).await,
            _ if control => {
                text(StatusCode::NOT_FOUND, "there are only /_testbed/stats, /metrics and /fault\n")
            }
            _ => self.work(request).await,
        };
        let headers = response.headers_mut();
        headers.insert(INSTANCE, self.name.clone());
        for (name, value) in &self.args.header {
            headers.append(name.clone(), value.clone());
        }
        if let Some(report) = self.args.load_report.and_then(|report| report.of(&self.stats())) {
            headers.insert(LOAD_METRICS, report);
        }
        if !control && self.fault().is_some_and(|fault| fault.kind == FaultKind::Refuse) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn work(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let draw: f64 = self.dice.borrow_mut().random();
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return text(StatusCode::BAD_REQUEST, "the request body is incomplete\n");
            }
        }
        if self.hit(FaultKind::Crash, draw).is_some() {
            die();
        }
        if self.hit(FaultKind::Errors, draw).is_some() {
            self.errors.set(self.errors.get() + 1);
            return text(StatusCode::INTERNAL_SERVER_ERROR, "failed as told to\n");
        }
        let Some(slot) = self.slots.enter().await else {
            self.rejected.set(self.rejected.get() + 1);
            return text(StatusCode::SERVICE_UNAVAILABLE, "the queue is full\n");
        };
        self.while_hanging(draw).await;
        let mut time = self.times.borrow_mut().draw(Instant::now());
        if let Some(slow) = self.hit(FaultKind::Slow, draw) {
            time = time.mul_f64(slow.factor);
        }
        if self.args.cpu {
            burn(time).await
        } else {
            tokio::time::sleep(time).await
        }
        drop(slot);
        self.served.set(self.served.get() + 1);
        Response::new(Full::new(self.body.clone()))
    }

    async fn control(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let body = match Limited::new(request.into_body(), MAX_CONTROL_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        };
        let parsed = serde_json::from_slice::<FaultSpec>(&body).map_err(|error| error.to_string());
        match parsed.and_then(|fault| fault.checked().map_err(|error| error.to_string())) {
            Ok(fault) => {
                self.faults.borrow_mut().add(fault, Instant::now());
                self.fault_changes.send_modify(|version| *version += 1);
                json(StatusCode::OK, &fault)
            }
            Err(problem) => {
                let form = r#"send {"kind":"slow","share":0.5,"factor":5,"after_ms":0,"for_ms":0}"#;
                text(StatusCode::BAD_REQUEST, &format!("{problem}; {form}\n"))
            }
        }
    }

    /// The numbers of this moment.
    pub(super) fn stats(&self) -> Stats {
        let now = Instant::now();
        let usage = self.slots.usage(now);
        Stats {
            name: self.name.to_str().unwrap_or_default().to_owned(),
            pid: std::process::id(),
            uptime_ms: now.saturating_duration_since(self.started).as_millis() as u64,
            served: self.served.get(),
            errors: self.errors.get(),
            rejected: self.rejected.get(),
            in_service: usage.in_service,
            queue_depth: usage.waiting,
            peak_in_service: usage.peak_in_service,
            peak_queue_depth: usage.peak_waiting,
            connections: self.connections.get(),
            concurrency: self.args.concurrency,
            utilization: usage.utilization,
            busy_s: usage.busy.as_secs_f64(),
            warmup_factor: self.times.borrow().factor(now),
            fault: self.fault(),
        }
    }
}

/// Ends the process as the kernel would: no destructor, no goodbye to any client.
pub(super) fn die() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        tracing::error!(%error, "cannot kill this process");
    }
    std::process::abort()
}

/// Uses `time` of CPU on a thread of its own. Measured in CPU time, so that a limited CPU share
/// makes it take longer, as real work would. Dropping the future ends it early.
async fn burn(time: Duration) {
    struct StopOnDrop(Arc<AtomicBool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = StopOnDrop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let burned = tokio::task::spawn_blocking(move || {
        let used = || {
            let used = clock_gettime(ClockId::ThreadCPUTime);
            Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
        };
        let end = used() + time;
        while used() < end && !stopped.load(Ordering::Relaxed) {
            std::hint::black_box((0..1_000_u64).fold(0, |sum: u64, i| sum.wrapping_mul(31) ^ i));
        }
    });
    if let Err(error) = burned.await {
        tracing::error!(%error, "the work ended early");
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(body) => {
            let mut response = text(status, &body);
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}
