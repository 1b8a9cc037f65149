//! Clients that go away while their answer is awaited.

use foreshadow_proxy::UpstreamPolicy;

use crate::support::{Backend, Client, Rig, until};

/// Clients that go away at once.
const CLIENTS: usize = 20;

/// How a client goes away after its request was sent.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// It resets the connection.
    Reset,
    /// It closes its sending side, waits, and resets the connection.
    HalfCloseThenReset,
    /// It has sent the next request as well, and resets the connection.
    PipelineThenReset,
}

async fn goes(mut client: Client, leaving: Leaving) {
    match leaving {
        Leaving::Reset => {}
        Leaving::HalfCloseThenReset => client.half_close().await,
        Leaving::PipelineThenReset => client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await,
    }
    client.stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn a_client_that_closes_has_given_up_where_the_listener_says_so() {
    let backend = Backend::http("ok").await;
    let rig = Rig::tuned(UpstreamPolicy::default(), &[backend.address], |spec| {
        spec.abort_on_close = true;
    })
    .await;
    let mut client = rig.client().await;
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request at the backend", || backend.requests() == 1).await;
    drop(client);
    rig.abort_counted().await;
    assert_eq!(rig.get("/").await.text(), "ok");
}

#[tokio::test]
async fn requests_of_clients_that_are_gone_end_before_their_backend_answers() {
    for leaving in [Leaving::Reset, Leaving::HalfCloseThenReset, Leaving::PipelineThenReset] {
        let backend = Backend::http("ok").await;
        let rig = Rig::start(&[backend.address]).await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = rig.client().await;
            client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
            clients.push(client);
        }
        until("the requests at the backend", || backend.requests() == CLIENTS).await;
        for client in clients {
            goes(client, leaving).await;
        }
        until(&format!("every connection gone after {leaving:?}"), || {
            rig.plane.connections()[0].active == 0
        })
        .await;
        rig.plane.drain_meters();
        let instance = &rig.plane.totals()[0].instances[0];
        assert_eq!(instance.aborted, CLIENTS as u64, "{leaving:?}");
        assert_eq!(instance.meters.read_errors, 0, "{leaving:?}");
    }
}
