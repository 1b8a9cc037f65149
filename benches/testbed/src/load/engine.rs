//! The load thread: issues requests when they are due and runs them over pooled connections.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tokio::time::timeout_at;

use super::arrivals::Arrivals;
use super::connection::{Connection, Exchange};
use super::recorder::{Outcome, Shared};
use super::report::FailureKind;
use super::spec::{LoadSpec, Target};
use super::timer::Timer;

/// Runs the whole load on the calling thread. Whether it could start goes to `ready`.
pub(super) fn run(
    spec: LoadSpec,
    target: Target,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    ready: SyncSender<io::Result<()>>,
) {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let made = built.and_then(|runtime| {
        let entered = runtime.enter();
        let timer = Timer::new();
        drop(entered);
        Ok((runtime, timer?))
    });
    let (runtime, timer, answer) = match made {
        Ok((runtime, timer)) => (Some(runtime), Some(timer), Ok(())),
        Err(error) => (None, None, Err(error)),
    };
    if ready.send(answer).is_err() {
        return;
    }
    if let (Some(runtime), Some(timer)) = (runtime, timer) {
        let engine = Rc::new(Engine::new(spec, target, shared));
        LocalSet::new().block_on(&runtime, engine.drive(timer, stopped));
    }
}

struct Engine {
    spec: LoadSpec,
    target: Target,
    shared: Arc<Shared>,
    /// Parked workers; the last one used is taken first, so that as few connections as possible
    /// stay warm.
    idle: RefCell<Vec<Rc<Slot>>>,
    workers: Cell<usize>,
    /// Due times of requests that wait for a connection, oldest first.
    waiting: RefCell<VecDeque<Duration>>,
    in_flight: Cell<usize>,
    /// Told when the last request in flight has ended.
    all_ended: Notify,
}

/// Where a parked worker gets its next request.
#[derive(Default)]
struct Slot {
    due: Cell<Option<Duration>>,
    filled: Notify,
}

impl Engine {
    fn new(spec: LoadSpec, target: Target, shared: Arc<Shared>) -> Self {
        Self {
            spec,
            target,
            shared,
            idle: RefCell::default(),
            workers: Cell::new(0),
            waiting: RefCell::default(),
            in_flight: Cell::new(0),
            all_ended: Notify::new(),
        }
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Issues every arrival when it is due, until the profile is over and every request has its
    /// outcome. A stop, or a dropped handle, ends the profile early.
    async fn drive(self: Rc<Self>, timer: Timer, mut stopped: watch::Receiver<bool>) {
        let mut arrivals =
            Arrivals::new(self.spec.profile.clone(), self.spec.spread, self.spec.seed);
        let mut next = arrivals.next();
        let mut end = self.spec.profile.duration();
        loop {
            let now = self.now();
            while let Some(due) = next.filter(|due| *due <= now) {
                self.issue(due);
                next = arrivals.next();
            }
            self.expire_waiting();
            let issuing = now < end || next.is_some();
            if issuing {
                self.shared.with(|recorder| recorder.advance(now));
            } else if self.in_flight.get() == 0 {
                break;
            }
            // Empty seconds are to be seen as well, so it wakes at every border of a second.
            let border = Duration::from_secs(now.as_secs() + 1);
            let expiry = self.waiting.borrow().front().map(|&due| due + self.spec.timeout);
            let wake = next.into_iter().chain(expiry).chain([end]).filter(|&at| at > now);
            let wake = wake.min().map_or(border, |at| at.min(border));
            tokio::select! {
                woken = timer.sleep_until(self.shared.started + wake) => {
                    if let Err(error) = woken {
                        tracing::error!(%error, "the load stops: its timer failed");
                        break;
                    }
                }
                () = self.all_ended.notified(), if !issuing => {}
                _changed = stopped.changed(), if issuing => {
                    next = None;
                    end = now;
                }
            }
        }
        while self.in_flight.get() > 0 {
            self.all_ended.notified().await;
        }
        self.shared.with(|recorder| recorder.close(end, self.now()));
    }

    /// Gives a due request to a parked worker, a new worker, or the queue, in this order.
    fn issue(self: &Rc<Self>, due: Duration) {
        let now = self.now();
        self.shared.with(|recorder| recorder.issued(due, now));
        self.in_flight.set(self.in_flight.get() + 1);
        let parked = self.idle.borrow_mut().pop();
        if let Some(slot) = parked {
            slot.due.set(Some(due));
            slot.filled.notify_one();
        } else if self.workers.get() < self.spec.connections {
            self.workers.set(self.workers.get() + 1);
            tokio::task::spawn_local(Rc::clone(self).work(due));
        } else if self.waiting.borrow().len() < self.spec.backlog {
            self.waiting.borrow_mut().push_back(due);
        } else {
            self.end(due, &Outcome::Failed(FailureKind::Backlog, None));
        }
    }

    /// Ends the waiting requests whose time is over. All have the same timeout, so the oldest is
    /// always first.
    fn expire_waiting(&self) {
        let now = self.now();
        loop {
            let mut waiting = self.waiting.borrow_mut();
            let Some(due) = waiting.front().copied().filter(|due| *due + self.spec.timeout <= now)
            else {
                return;
            };
            waiting.pop_front();
            drop(waiting);
            self.end(due, &Outcome::Failed(FailureKind::Timeout, None));
        }
    }

    fn end(&self, due: Duration, outcome: &Outcome) {
        let now = self.now();
        self.shared.with(|recorder| recorder.ended(due, now, outcome));
        self.in_flight.set(self.in_flight.get() - 1);
        if self.in_flight.get() == 0 {
            self.all_ended.notify_one();
        }
    }

    /// One worker, one connection: runs requests one after another until the runtime is dropped.
    async fn work(self: Rc<Self>, first: Duration) {
        let slot = Rc::new(Slot::default());
        let mut connection = None;
        let mut next = Some(first);
        loop {
            let due = match next {
                Some(due) => due,
                None => {
                    self.idle.borrow_mut().push(Rc::clone(&slot));
                    slot.filled.notified().await;
                    match slot.due.take() {
                        Some(due) => due,
                        None => continue,
                    }
                }
            };
            let deadline = self.shared.started + due + self.spec.timeout;
            let attempt = self.attempt(&mut connection);
            let outcome = match timeout_at(deadline.into(), attempt).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Outcome::Failed(FailureKind::Timeout, None),
            };
            if matches!(outcome, Outcome::Failed(FailureKind::Timeout, _)) {
                // The late answer must not be taken for that of the next request.
                connection = None;
            }
            self.end(due, &outcome);
            next = self.waiting.borrow_mut().pop_front();
        }
    }

    /// Runs one request, on the open connection if there is one and on a new one otherwise.
    ///
    /// A kept connection may have been closed by the peer in the meantime. As long as nothing was
    /// written on it, going out on a new one is no retry, and every pooled client does so.
    async fn attempt(&self, connection: &mut Option<Connection>) -> Outcome {
        if connection.as_ref().is_some_and(Connection::is_closed) {
            *connection = None;
        }
        if let Some(kept) = connection {
            match kept.exchange(self.request()).await {
                Exchange::NotSent => self.shared.with(|recorder| recorder.reconnected()),
                other => return self.judge(connection, other),
            }
        }
        *connection = None;
        match Connection::open(self.target.address).await {
            Ok(mut opened) => {
                self.shared.with(|recorder| recorder.connection_opened());
                let exchange = opened.exchange(self.request()).await;
                *connection = Some(opened);
                self.judge(connection, exchange)
            }
            Err(kind) => Outcome::Failed(kind, None),
        }
    }

    fn judge(&self, connection: &mut Option<Connection>, exchange: Exchange) -> Outcome {
        let (status, headers) = match exchange {
            Exchange::Answered(status, headers) => (status, headers),
            Exchange::NotSent => {
                *connection = None;
                return Outcome::Failed(FailureKind::Reset, None);
            }
            Exchange::Broken(kind) => {
                *connection = None;
                return Outcome::Failed(kind, None);
            }
        };
        if let Some(name) = headers.get("x-instance").and_then(|name| name.to_str().ok()) {
            let now = self.now();
            self.shared.with(|recorder| recorder.answered_by(name, now));
        }
        if status.as_u16() < 400 {
            Outcome::Completed
        } else {
            Outcome::Failed(FailureKind::Status, Some(status.as_u16()))
        }
    }

    fn request(&self) -> Request<Full<bytes::Bytes>> {
        let mut request = Request::new(Full::new(self.spec.body.clone()));
        *request.method_mut() = self.spec.method.clone();
        *request.uri_mut() = self.target.path.clone();
        *request.headers_mut() = self.target.headers.clone();
        request
    }
}
