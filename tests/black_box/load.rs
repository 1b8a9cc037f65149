//! Clients that ask one request after another, without a pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::{Backend, Node, eventually, try_get};

/// A closed loop of clients, none of which may be answered with anything but 200.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<AtomicU64>, JoinHandle<()>)>,
}

impl Load {
    pub(crate) fn start(proxy: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |n: usize| {
            let (stop, served) = (Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
            let counter = Arc::clone(&served);
            let client = std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = try_get(proxy, "/").unwrap();
                    let nth = counter.fetch_add(1, Ordering::Relaxed);
                    let text = answer.text();
                    assert_eq!(answer.status, 200, "request {nth} of client {n}: {text}");
                }
            });
            (served, client)
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, clients }
    }

    /// Waits until several requests are at `backend` at once.
    pub(crate) fn reaches(&self, node: &Node, backend: &Backend) {
        let address = backend.address.to_string();
        eventually("requests at one backend", || {
            self.check();
            let view = node.api("/api/v1/services/shop");
            let instance =
                view["instances"].as_array()?.iter().find(|i| i["address"] == address)?;
            (instance["last_tick"]["in_flight"].as_u64()? >= 2).then_some(())
        });
    }

    /// Waits until each client has been answered this many times more.
    pub(crate) fn goes_on(&self, times: u64) {
        let served = || self.clients.iter().map(|(served, _)| served.load(Ordering::Relaxed));
        let goals: Vec<u64> = served().map(|now| now + times).collect();
        eventually("answers to every client", || {
            self.check();
            served().zip(&goals).all(|(now, goal)| now >= *goal).then_some(())
        });
    }

    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, client) in self.clients {
            client.join().unwrap();
        }
    }

    fn check(&self) {
        assert!(!self.clients.iter().any(|(_, client)| client.is_finished()), "a client failed");
    }
}
