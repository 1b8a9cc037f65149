//! Backends that hang: they accept, and answer nothing.

use rustix::process::Signal;

use crate::load::Load;
use crate::support::{Backend, Node, eventually};

#[test]
fn a_backend_that_hangs_costs_no_idempotent_request() {
    let slow = ["--service-time", "5ms"];
    let (a, b) = (Backend::start(&slow), Backend::start(&slow));
    // By far longer than anything here is waited for: no request is saved by its timeout.
    let node = Node::start(&format!(
        "  shop:\n    primaries: [{}, {}]\n    health: {{ path: /healthz, interval: 200ms, timeout: 200ms }}\n\
         \x20   timeouts: {{ first_byte: 300s, total: 300s }}\n",
        a.address, b.address,
    ));
    let load = Load::start(node.proxy, 16);
    load.reaches(&node, &b);
    b.process.signal(Signal::STOP);
    load.goes_on(20);
    let health = || {
        let view = node.api("/api/v1/services/shop");
        let instances = view["instances"].as_array()?;
        let found = instances.iter().find(|i| i["address"] == b.address.to_string())?;
        Some(found["health"] == "up")
    };
    eventually("the backend to be known as hung", || (health() == Some(false)).then_some(()));
    load.end();
    b.process.signal(Signal::CONT);
    eventually("the backend to be up again", || (health() == Some(true)).then_some(()));
}
