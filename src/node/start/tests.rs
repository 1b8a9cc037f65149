//! What is left of a node whose loop has panicked: who asks is told, and it ends in order.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use foreshadow_control::{Action, ServiceName, Tier};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::admin_socket::AdminSocket;
use super::*;
use crate::node::announced::CHANGES_AT_ONCE;
use crate::node::guard::guarded;
use crate::node::operator::{Order, Orders};
use crate::node::tick::Configure;

/// How often calendars are looked at here.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the loop holds when it panics.
#[derive(Clone, Copy, PartialEq)]
enum Holding {
    Nothing,
    AnOrder,
    AConfiguration,
}

/// A node without listeners whose loop waits for what it is to hold and panics.
struct Broken {
    node: Node,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

fn write_config(dir: &Path) -> PathBuf {
    let path = dir.join("foreshadow.yaml");
    // Free a moment ago; a reload opens it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "listeners: [{{ address: {listener}, routes: [{{ service: shop }}] }}]\n\
         services:\n  shop:\n    primaries: [127.0.0.1:1]\n    forecast: {{ calendars: [{}] }}\n    shadows:\n      provider:\n        \
         process: {{ command: [/bin/sh, -c, \"sleep 60; true {{port}}\"] }}\n\
         reload: {{ watch: false }}\nworkers: 1\nstate_dir: {}\n",
        write_calendar(dir, "sale").display(),
        dir.join("state").display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A calendar of one event, each hour since a second after 1970 began.
fn write_calendar(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join("sales.ics");
    let text = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nSUMMARY:{name}\r\n\
         DTSTART:19700101T000001Z\r\nRRULE:FREQ=HOURLY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    );
    // Whole at once, or it is read half written.
    let aside = dir.join("sales.new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    path
}

impl Broken {
    async fn start(holding: Holding) -> Self {
        Self::with_loop(move |orders, configurations| panics(holding, orders, configurations)).await
    }

    async fn with_loop(
        run: impl FnOnce(&Receiver<Request>, &Receiver<Configure>) + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = write_config(dir.path());
        let config = foreshadow_config::load(&path).unwrap();
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let parts = Parts::start(&config).await.unwrap();
        let wiring = wire(&config, 0, &parts.manager).await.unwrap();
        let (requests, request_inbox) = sync_channel(ORDERS);
        let (reloads, reload_inbox) = mpsc::channel(ORDERS);
        let (configures, configure_inbox) = sync_channel(1);
        let (stop_loop, _) = channel();
        let (dry_runs, _) = sync_channel(1);
        let lanes = (Metrics::new().0, Alerting::new().0);
        let shared = Arc::new(parts.share(&config, lanes, (requests, dry_runs), reloads).unwrap());
        let ending = Arc::clone(&shared);
        let looping = std::thread::spawn(move || {
            guarded(&ending, || run(&request_inbox, &configure_inbox));
        });
        let reloader = Reloader::new(
            Arc::clone(&shared),
            path,
            wiring,
            parts.readiness,
            parts.host,
            configures,
            Fingerprint::of(""),
        );
        let hangup = signal(SignalKind::hangup()).unwrap();
        let causes =
            Causes::watch(&reloader, reload_inbox, hangup, false, Some(LOOK_EVERY)).unwrap();
        tokio::spawn(reloader.run(causes));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = socket.local_addr().unwrap();
        let server = serve_admin(&shared, AdminSocket::Tcp(socket), &config);
        let drain_timeout = config.drain_timeout;
        let node = Node { shared, looping: Some(looping), stop_loop, admin: server, drain_timeout };
        Self { node, admin, _dir: dir }
    }

    /// Asks the admin interface; the answer whole.
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        asked(self.admin, method, path, body).await
    }

    async fn order(&self) -> String {
        self.ask("POST", "/api/v1/kill-switch", &json!({ "engaged": true }).to_string()).await
    }

    async fn reload(&self) -> String {
        self.ask("POST", "/api/v1/reload", "{}").await
    }
}

async fn asked(admin: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn panics(holding: Holding, orders: &Receiver<Request>, configurations: &Receiver<Configure>) {
    let _held = match holding {
        Holding::Nothing => (None, None),
        Holding::AnOrder => (orders.recv().ok(), None),
        Holding::AConfiguration => (None, configurations.recv().ok()),
    };
    panic!("on purpose");
}

fn says(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(text), "no {text:?} in {answer}");
}

async fn everyone_is_told(broken: &Broken) {
    while !broken.node.shared.ticks.ended() {
        tokio::task::yield_now().await;
    }
    says(&broken.order().await, 503, "the control loop has ended: it has never ticked");
    says(&broken.reload().await, 422, "the control loop has ended");
    for path in ["/readyz", "/api/v1/weights"] {
        says(&broken.ask("GET", path, "").await, 503, "the control loop has ended");
    }
    says(&broken.ask("GET", "/healthz", "").await, 200, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_the_loop_panics_with_is_refused_for_what_happened() {
    let broken = Broken::start(Holding::AnOrder).await;
    let answer = broken.order().await;
    says(&answer, 503, "the control loop has");
    assert!(answer.contains("ended") && !answer.contains("shutting down"), "{answer}");
    everyone_is_told(&broken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_the_loop_panics_with_is_refused_and_changes_nothing() {
    let broken = Broken::start(Holding::AConfiguration).await;
    let before = broken.node.shared.config.load_full();
    says(&broken.reload().await, 422, "the loop has ended");
    assert!(Arc::ptr_eq(&before, &broken.node.shared.config.load_full()));
    everyone_is_told(&broken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_loop_has_panicked_still_ends_its_shadows() {
    let mut broken = Broken::start(Holding::Nothing).await;
    let manager = Arc::clone(&broken.node.shared.manager);
    manager.apply(&ServiceName::from("shop"), &[Action::create(Tier::Warm)]);
    let pid = loop {
        match manager.snapshot().first() {
            Some(shadow) if shadow.pid.is_some() => break shadow.pid.unwrap(),
            Some(_) => tokio::task::yield_now().await,
            None => panic!("the shadow could not be made: {:?}", manager.take_facts()),
        }
    };
    let error = broken.node.end().await.unwrap_err().to_string();
    assert!(error.contains("the loop had panicked"), "{error}");
    assert!(manager.snapshot().is_empty());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_events_announced_at_once_the_whole_list_comes_last() {
    const EVENTS: usize = 12;
    let (lists, told) = channel();
    let node = Broken::with_loop(move |orders, _| {
        for request in orders.iter().take(EVENTS) {
            let Order::Events(events) = request.order else { panic!("{} ordered", request.order) };
            lists.send(events.len()).unwrap();
            request.done.send(Orders::default()).unwrap();
        }
    })
    .await;
    let start_ms = node.node.shared.clock.now_ms() + 3_600_000;
    let announce = |nth: usize| {
        let event = json!({
            "service": "shop", "name": format!("event {nth}"),
            "start_ms": start_ms, "end_ms": start_ms + 1_000, "lift": 2.0,
        });
        let admin = node.admin;
        async move { asked(admin, "POST", "/api/v1/events", &event.to_string()).await }
    };
    let mut asking = tokio::task::JoinSet::new();
    (0..EVENTS).map(announce).for_each(|asked| drop(asking.spawn(asked)));
    for answer in asking.join_all().await {
        says(&answer, 201, "event");
    }
    let lists: Vec<usize> = told.iter().collect();
    assert_eq!(lists, (1..=EVENTS).collect::<Vec<_>>(), "a list was out of date when it came");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tick_takes_many_announced_events_and_those_beyond_wait_for_the_next() {
    const EVENTS: usize = CHANGES_AT_ONCE + 4;
    let node = Broken::with_loop(move |orders, _| {
        let mut left = EVENTS;
        while left > 0 {
            // None of them is answered before all that may wait together are there.
            let together = left.min(CHANGES_AT_ONCE);
            let wait = || orders.recv_timeout(Duration::from_secs(30)).expect("they come together");
            let waiting: Vec<Request> = (0..together).map(|_| wait()).collect();
            assert!(orders.try_recv().is_err(), "more wait than may");
            for request in waiting {
                request.done.send(Orders::default()).unwrap();
            }
            left -= together;
        }
    })
    .await;
    let start_ms = node.node.shared.clock.now_ms() + 3_600_000;
    let mut asking = tokio::task::JoinSet::new();
    for nth in 0..EVENTS {
        let event = json!({
            "service": "shop", "name": format!("event {nth}"),
            "start_ms": start_ms, "end_ms": start_ms + 1_000, "lift": 2.0,
        });
        let admin = node.admin;
        asking
            .spawn(async move { asked(admin, "POST", "/api/v1/events", &event.to_string()).await });
    }
    for answer in asking.join_all().await {
        says(&answer, 201, "event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_that_changes_is_read_again_and_a_bad_one_refused() {
    let node = Broken::with_loop(|_, configurations| {
        configurations.iter().for_each(|configure| configure.done.send(()).unwrap());
    })
    .await;
    let dir = node._dir.path();
    let shared = &node.node.shared;
    let event = || {
        let config = shared.config.load();
        let service = &config.services[&ServiceName::from("shop")];
        service.forecast.occurrences(0, 2_000).remove(0).name
    };
    let coming = || {
        let calendar = shared.long.calendar();
        calendar.get(&ServiceName::from("shop")).map(|events| events[0].name.clone())
    };
    let is_known = |name: &str| event() == name && coming().as_deref() == Some(name);
    LongForecasts::start(shared);
    let deadline = Instant::now() + Duration::from_secs(30);
    let waited = || assert!(Instant::now() < deadline, "the calendar is not read again");
    while !is_known("sale") {
        waited();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    write_calendar(dir, "fair");
    // Coming events would be looked up again after a minute by themselves.
    while !is_known("fair") {
        waited();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    std::fs::remove_file(dir.join("sales.ics")).unwrap();
    while shared.reload.load().refused == 0 {
        waited();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    assert_eq!(event(), "fair");
    assert_eq!(shared.reload.load().applied, 1);
    shared.long.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_of_an_instance_are_not_answered_with_those_of_its_service() {
    let node = Broken::with_loop(|orders, _| drop(orders.recv())).await;
    let ticks = "/api/v1/services/shop/history?resolution=100ms";
    says(&node.ask("GET", ticks, "").await, 200, "\"ticks\":[]");
    let answer = node.ask("GET", &format!("{ticks}&instance=i3"), "").await;
    says(&answer, 400, "of instances use 1s or longer");
}
