//! Requests that wait for a backend as it falls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreshadow_control::{Health, Meters};
use foreshadow_proxy::{CheckKind, EjectionPolicy, HealthCheck, UpstreamPolicy};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Backend, Client, Rig, table, until};

/// Timeouts that no test lives to see, and a check of `path`.
fn patient(path: Option<&str>) -> UpstreamPolicy {
    let check = |path: &str| HealthCheck {
        kind: CheckKind::Http { path: path.to_owned(), host: None, expected: Vec::new() },
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
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

/// Makes the check of `backend` fail or pass, and waits until that is known.
async fn turn(rig: &Rig, backend: &Backend, status: u16) {
    backend.health.store(status, Ordering::SeqCst);
    until_health(rig, backend, |health| match status {
        200 => *health == Health::Up,
        _ => matches!(health, Health::Down(_)),
    })
    .await;
}

/// Waits for longer than requests wait between two looks: the passing of time is what is tested.
async fn several_looks() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

fn meters(rig: &Rig, of: &Backend) -> (Meters, u64) {
    rig.plane.drain_meters();
    let id = u64::from(of.address.port());
    let totals = rig.plane.totals();
    let instance = totals[0].instances.iter().find(|i| i.instance.0 == id).unwrap();
    (instance.meters, instance.aborted)
}

#[tokio::test]
async fn those_who_wait_stay_where_what_felled_one_felled_all() {
    const EACH: usize = 8;
    let both = [Backend::http("a").await, Backend::http("b").await];
    let rig = Rig::with(patient(Some("/health")), &both.each_ref().map(|b| b.address)).await;
    let mut clients = Vec::new();
    while both.iter().any(|backend| backend.requests() < EACH) {
        let mut client = rig.client().await;
        let sent = both[0].requests() + both[1].requests();
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
        until("the request", || both[0].requests() + both[1].requests() > sent).await;
        clients.push(client);
    }
    let before = both.each_ref().map(Backend::requests);
    both.iter().for_each(|backend| backend.health.store(500, Ordering::SeqCst));
    for backend in &both {
        turn(&rig, backend, 500).await;
    }
    for backend in &both {
        turn(&rig, backend, 200).await;
        several_looks().await;
    }
    assert_eq!(both.each_ref().map(Backend::requests), before, "none was sent again");
    both.iter().for_each(|backend| backend.gate.add_permits(1000));
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    for backend in &both {
        let (meters, aborted) = meters(&rig, backend);
        assert_eq!((meters.timeouts, meters.retries, aborted), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_backend_that_is_well_again_keeps_who_waits() {
    let (blinking, other) = (Backend::http("blinking").await, Backend::http("other").await);
    let rig = Rig::with(patient(Some("/health")), &[blinking.address]).await;
    let mut client = waiting(&rig, &blinking, "GET").await;
    for status in [500, 200] {
        turn(&rig, &blinking, status).await;
        several_looks().await;
    }
    let two = [blinking.address, other.address];
    rig.plane.publish(&table(patient(Some("/health")), &two)).unwrap();
    until_health(&rig, &other, |health| *health == Health::Up).await;
    several_looks().await;
    assert_eq!(other.requests(), 0);
    // It falls once more, and for good.
    other.gate.add_permits(1);
    turn(&rig, &blinking, 500).await;
    assert_eq!(client.answer().await.text(), "other");
}

#[tokio::test]
async fn to_be_taken_back_from_is_no_failure_on_top_of_the_fall() {
    const CLIENTS: usize = 8;
    let (bad, good) = (Backend::http("bad").await, Backend::http("good").await);
    good.gate.add_permits(1000);
    let rig = Rig::with(patient(Some("/health")), &[bad.address]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(waiting(&rig, &bad, "GET").await);
    }
    rig.plane.publish(&table(patient(Some("/health")), &[bad.address, good.address])).unwrap();
    turn(&rig, &bad, 500).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "good");
    }
    until("the retries counted", || meters(&rig, &good).0.retries == CLIENTS as u64).await;
    let (counted, aborted) = meters(&rig, &bad);
    assert_eq!((counted.timeouts, counted.failed(), aborted), (0, 0, CLIENTS as u64));
    // Its check alone takes it back.
    turn(&rig, &bad, 200).await;
    let before = bad.requests();
    while bad.requests() == before {
        assert_eq!(rig.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_request_that_everybody_else_has_had_stays_where_it_is() {
    let resetting = Backend::raw(|stream, head| async move {
        if head.contains(" /hold ") {
            stream.set_zero_linger().unwrap();
            drop(stream);
        } else {
            answer_checks(stream).await;
        }
    })
    .await;
    let slow = Backend::http("slow").await;
    let mut policy = patient(Some("/health"));
    policy.retries.attempts = 3;
    policy.ejection.consecutive_errors = 0;
    let rig = Rig::with(policy, &[resetting.address, slow.address]).await;
    until_health(&rig, &resetting, |health| *health == Health::Up).await;
    // Those that come to the slow one first are given up: the other is still to be tried for them.
    let mut client = waiting(&rig, &slow, "GET").await;
    while meters(&rig, &resetting).0.read_errors == 0 {
        client = waiting(&rig, &slow, "GET").await;
    }
    turn(&rig, &slow, 500).await;
    several_looks().await;
    slow.gate.add_permits(1000);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "slow"));
}

/// Says that all is well until the connection ends.
async fn answer_checks(mut stream: TcpStream) {
    let mut asked = vec![0; 4096];
    while stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_ok()
        && matches!(stream.read(&mut asked).await, Ok(count) if count > 0)
    {}
}

#[tokio::test]
async fn of_two_with_one_retry_between_them_one_stays() {
    let (bad, good) = (Backend::http("bad").await, Backend::http("good").await);
    good.gate.add_permits(1000);
    let mut policy = patient(Some("/health"));
    (policy.retries.budget_share, policy.retries.min_per_s) = (0.0, 0.1);
    let rig = Rig::with(policy.clone(), &[bad.address]).await;
    let mut clients = [waiting(&rig, &bad, "GET").await, waiting(&rig, &bad, "GET").await];
    rig.plane.publish(&table(policy, &[bad.address, good.address])).unwrap();
    turn(&rig, &bad, 500).await;
    until("one taken back", || good.requests() == 1).await;
    several_looks().await;
    bad.gate.add_permits(1000);
    let mut answers = Vec::new();
    for client in &mut clients {
        answers.push(client.answer().await.text().to_owned());
    }
    answers.sort();
    assert_eq!(answers, ["bad", "good"]);
}

#[tokio::test]
async fn a_backend_that_fell_and_was_replaced_loses_who_waits() {
    let (gone, new) = (Backend::http("gone").await, Backend::http("new").await);
    new.gate.add_permits(1);
    let rig = Rig::with(patient(Some("/health")), &[gone.address]).await;
    let mut client = waiting(&rig, &gone, "GET").await;
    turn(&rig, &gone, 500).await;
    // As a plan does it: the new one takes its place in one step.
    rig.plane.publish(&table(patient(Some("/health")), &[new.address])).unwrap();
    assert_eq!(client.answer().await.text(), "new");
}
