//! Requests that wait for a backend as it falls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreshadow_control::Health;
use foreshadow_proxy::{CheckKind, EjectionPolicy, HealthCheck, UpstreamPolicy};

use crate::support::{Backend, Client, Rig, table, until};

/// Timeouts that no test lives to see, and a check of `path`.
fn patient(path: Option<&str>) -> UpstreamPolicy {
    let check = |path: &str| HealthCheck {
        kind: CheckKind::Http { path: path.to_owned(), host: None, expected: Vec::new() },
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 2,
    };
    UpstreamPolicy {
        first_byte_timeout: Duration::from_secs(600),
        total_timeout: Duration::from_secs(600),
        health: path.map(check),
        ..UpstreamPolicy::default()
    }
}

async fn until_health(rig: &Rig, of: &Backend, wanted: impl Fn(&Health) -> bool) {
    until("its health to change", || {
        let drained = rig.plane.drain_meters();
        let id = u64::from(of.address.port());
        drained[0].instances.iter().any(|i| i.instance.0 == id && wanted(&i.health))
    })
    .await;
}

/// A client whose request is at `backend`, and waits there.
async fn waiting(rig: &Rig, backend: &Backend, method: &str) -> Client {
    let before = backend.requests();
    let mut client = rig.client().await;
    client.send(format!("{method} /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
    until("the request at the backend", || backend.requests() > before).await;
    client
}

#[tokio::test]
async fn clients_of_a_backend_that_hangs_go_on_once_it_is_known() {
    const CLIENTS: usize = 16;
    let good = Backend::http("good").await;
    // On a thread of its own, which can be stopped as a signal stops a process.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hung = runtime.spawn(Backend::http("hung")).await.unwrap();
    let rig = Rig::with(patient(Some("/")), &[good.address, hung.address]).await;
    let served: Arc<Vec<AtomicUsize>> = Arc::new((0..CLIENTS).map(|_| 0.into()).collect());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (address, served) = (rig.address, Arc::clone(&served));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                loop {
                    assert_eq!(client.get("/").await.status, 200);
                    served[n].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("load on both", || hung.requests() > 100 && good.requests() > 100).await;
    let (thaw, frozen) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move { frozen.recv() });
    until_health(&rig, &hung, |health| matches!(health, Health::Down(_))).await;
    let counts = || served.iter().map(|n| n.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let before = counts();
    until("every client served again", || {
        counts().iter().zip(&before).all(|(now, before)| *now > before + 2)
    })
    .await;
    assert!(clients.iter().all(|client| !client.is_finished()), "one was not answered with 200");
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    drop(thaw);
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_may_be_repeated_goes_elsewhere_and_the_rest_stays() {
    let (bad, good) = (Backend::http("bad").await, Backend::http("good").await);
    good.gate.add_permits(100_000);
    let rig = Rig::with(patient(None), &[bad.address]).await;
    let mut get = waiting(&rig, &bad, "GET").await;
    let mut put = waiting(&rig, &bad, "PUT").await;
    let mut post = waiting(&rig, &bad, "POST").await;
    // The check of the bad one hangs, too.
    let both = [bad.address, good.address];
    rig.plane.publish(&table(patient(Some("/hold")), &both)).unwrap();
    assert_eq!(get.answer().await.text(), "good");
    assert_eq!(put.answer().await.text(), "good");
    bad.gate.add_permits(100_000);
    let answer = post.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "bad"));
    // Their connections go on.
    for client in [&mut get, &mut put, &mut post] {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_backend_that_is_ejected_loses_who_waits_to_a_newer_one() {
    let (bad, good) = (Backend::http("bad").await, Backend::http("good").await);
    good.gate.add_permits(1);
    let ejection = EjectionPolicy { max_ejected_share: 1.0, ..EjectionPolicy::default() };
    let policy = UpstreamPolicy { ejection, ..patient(None) };
    let rig = Rig::with(policy.clone(), &[bad.address]).await;
    let mut client = waiting(&rig, &bad, "GET").await;
    for _ in 0..5 {
        assert_eq!(rig.get("/status/500").await.status, 500);
    }
    until_health(&rig, &bad, |health| *health == Health::Ejected).await;
    rig.plane.publish(&table(policy, &[bad.address, good.address])).unwrap();
    assert_eq!(client.answer().await.text(), "good");
}

#[tokio::test]
async fn nobody_is_taken_back_from_the_only_backend() {
    let only = Backend::http("only").await;
    let rig = Rig::with(patient(Some("/hold")), &[only.address]).await;
    let mut client = waiting(&rig, &only, "GET").await;
    until_health(&rig, &only, |health| matches!(health, Health::Down(_))).await;
    // Two more checks, each of which takes longer than a request waits between two looks.
    let asked = only.requests();
    until("more checks", || only.requests() > asked + 2).await;
    only.gate.add_permits(100_000);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "only"));
}
