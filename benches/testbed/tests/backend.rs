//! The backend on real sockets and in real processes.

mod support;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use foreshadow_testbed::backend::{
    self, Args, BackendError, BackendHandle, FaultKind, FaultSpec, Stats,
};
use rustix::process::Signal;
use support::{Client, Process, fault, get, stats, wait_for};

const HANG: &str = r#"{"kind":"hang"}"#;
const NONE: &str = r#"{"kind":"none"}"#;

fn spawn(args: Args) -> BackendHandle {
    let args = Args { service_time: Duration::from_millis(1), ..args };
    backend::spawn(args).expect("the backend starts")
}

#[test]
fn answers_work_health_and_stats() {
    let backend = spawn(Args { name: Some("one".to_owned()), body: 42, ..Args::default() });
    let mut client = Client::connect(backend.address());
    let work = client.ask("POST", "/any/path?x=1", "some body");
    assert_eq!((work.status, work.body.len(), work.header("x-instance")), (200, 42, Some("one")));
    assert_eq!(client.ask("GET", "/healthz", "").body, "ok\n");
    assert_eq!(client.ask("GET", "/_testbed/none", "").status, 404);
    let stats = stats(backend.address());
    assert_eq!((stats.served, stats.in_service, stats.name.as_str()), (1, 0, "one"));
    drop(client);
    backend.stop().unwrap();
}

#[test]
fn the_concurrency_limit_queues_and_the_queue_is_bounded() {
    let backend = spawn(Args { concurrency: 2, queue: 3, ..Args::default() });
    let address = backend.address();
    fault(address, HANG);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| client.send("GET", "/", ""));
    wait_for("two in service and three waiting", || {
        let stats = stats(address);
        (stats.in_service == 2 && stats.queue_depth == 3).then_some(())
    });
    let rejected = get(address, "/");
    assert_eq!(rejected.status, 503, "{rejected:?}");
    clients.pop();
    wait_for("the client that went away to leave the queue", || {
        (stats(address).queue_depth == 2).then_some(())
    });
    fault(address, NONE);
    for client in &mut clients {
        assert_eq!(client.receive().unwrap().status, 200);
    }
    let stats = stats(address);
    assert_eq!((stats.peak_in_service, stats.peak_queue_depth), (2, 3));
    assert_eq!((stats.served, stats.rejected), (4, 1));
    assert!(stats.busy_s > 0.0);
}

#[test]
fn faults_switch_at_run_time() {
    let backend = spawn(Args::default());
    let address = backend.address();
    assert_eq!(get(address, "/").status, 200);
    fault(address, r#"{"kind":"errors"}"#);
    assert_eq!(get(address, "/").status, 500);
    assert_eq!(get(address, "/healthz").status, 200);
    fault(address, NONE);
    assert_eq!(get(address, "/").status, 200);
    fault(address, r#"{"kind":"slow","factor":100}"#);
    let start = Instant::now();
    assert_eq!(get(address, "/").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100), "1 ms times 100");
    fault(address, r#"{"kind":"errors","share":0.5}"#);
    let failed = (0..100).filter(|_| get(address, "/").status == 500).count();
    // Five standard deviations around the mean of 100 fair draws.
    assert!((25..=75).contains(&failed), "{failed}");
    assert_eq!(stats(address).fault.map(|fault| fault.kind), Some(FaultKind::Errors));
}

#[test]
fn a_hang_reaches_the_health_check_and_ends() {
    let backend = spawn(Args::default());
    let address = backend.address();
    fault(address, HANG);
    let mut health = Client::connect(address);
    health.send("GET", "/healthz", "");
    // The backend has one thread, so a later answer shows that the earlier request was seen.
    for _ in 0..10 {
        assert_eq!(stats(address).served, 0);
    }
    assert!(health.is_silent());
    fault(address, NONE);
    assert_eq!(health.receive().unwrap().status, 200);
}

#[test]
fn a_refused_port_opens_again() {
    let backend = spawn(Args::default());
    let address = backend.address();
    let refused = || match TcpStream::connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    };
    let mut kept = Client::connect(address);
    let mut other = Client::connect(address);
    assert_eq!(other.ask("GET", "/", "").header("connection"), None);
    assert_eq!(kept.ask("POST", "/_testbed/fault", r#"{"kind":"refuse"}"#).status, 200);
    wait_for("a refused connection", refused);
    let ask_stats = |kept: &mut Client| -> Stats {
        serde_json::from_str(&kept.ask("GET", "/_testbed/stats", "").body).unwrap()
    };
    assert_eq!(ask_stats(&mut kept).fault, Some(FaultSpec::new(FaultKind::Refuse)));
    assert_eq!(other.ask("GET", "/", "").header("connection"), Some("close"));
    assert_eq!(kept.ask("POST", "/_testbed/fault", NONE).status, 200);
    wait_for("an open port", || TcpStream::connect(address).ok());

    // Without anybody's help, too.
    let timed = r#"{"kind":"refuse","for_ms":100}"#;
    assert_eq!(kept.ask("POST", "/_testbed/fault", timed).status, 200);
    wait_for("the end of the fault", || ask_stats(&mut kept).fault.is_none().then_some(()));
    wait_for("an open port", || TcpStream::connect(address).ok());
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_bad_fault_is_refused_with_the_right_form() {
    let backend = spawn(Args::default());
    let mut client = Client::connect(backend.address());
    for bad in
        ["", "{}", r#"{"kind":"boom"}"#, r#"{"kind":"slow","share":7}"#, r#"{"kind":"none","x":1}"#]
    {
        let answer = client.ask("POST", "/_testbed/fault", bad);
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.body.contains(r#"{"kind":"slow""#), "{}", answer.body);
    }
    assert_eq!(client.ask("GET", "/_testbed/fault", "").status, 405);
}

#[test]
fn a_busy_port_is_an_error_with_a_remedy() {
    let backend = spawn(Args::default());
    let error = backend::spawn(Args { listen: backend.address(), ..Args::default() }).unwrap_err();
    assert!(matches!(error, BackendError::Listen { .. }));
    assert!(error.to_string().contains("--port"), "{error}");
}

#[test]
fn a_crash_ends_the_process_at_once() {
    let mut backend = Process::start(&[]);
    let mut busy = Client::connect(backend.address);
    fault(backend.address, HANG);
    busy.send("GET", "/", "");
    wait_for("a request in service", || (stats(backend.address).in_service == 1).then_some(()));
    fault(backend.address, r#"{"kind":"crash"}"#);
    assert_eq!(backend.child.wait().unwrap().signal(), Some(9));
    assert!(busy.receive().is_err());
}

#[test]
fn a_crash_may_be_planned_from_the_command_line() {
    let mut backend = Process::start(&["--fault", "slow:factor=2", "--fault", "crash:after=50ms"]);
    assert_eq!(backend.child.wait().unwrap().signal(), Some(9));
    let spec = FaultSpec { share: 0.0, ..FaultSpec::new(FaultKind::Crash) };
    let backend = spawn(Args { fault: vec![spec], ..Args::default() });
    assert_eq!(get(backend.address(), "/").status, 200, "a share of 0 hits nobody");
}

#[test]
fn the_port_opens_after_the_start_up_with_the_memory_held() {
    let start = Instant::now();
    let backend = Process::start(&["--startup", "200ms", "--memory", "40MB"]);
    assert!(start.elapsed() >= Duration::from_millis(200));
    let status = std::fs::read_to_string(format!("/proc/{}/status", backend.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kb: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident_kb >= 39_000, "{resident}");
}

#[test]
fn sigterm_lets_requests_in_flight_finish() {
    let mut backend = Process::start(&["--service-time", "1s"]);
    let mut idle = Client::connect(backend.address);
    assert_eq!(idle.ask("GET", "/healthz", "").status, 200);
    let mut busy = Client::connect(backend.address);
    busy.send("GET", "/", "");
    wait_for("a request in service", || (stats(backend.address).in_service == 1).then_some(()));
    backend.signal(Signal::TERM);
    assert_eq!(busy.receive().unwrap().status, 200);
    assert!(idle.receive().is_err(), "an idle connection is closed");
    assert!(backend.child.wait().unwrap().success());
}

#[test]
fn a_stopped_process_goes_on_where_it_was() {
    let backend =
        Process::start(&["--service-time", "1ms", "--warmup", "1h", "--cold-factor", "2"]);
    backend.signal(Signal::STOP);
    let mut client = Client::connect(backend.address);
    client.send("GET", "/", "");
    assert!(client.is_silent());
    backend.signal(Signal::CONT);
    assert_eq!(client.receive().unwrap().status, 200);
    let factor = stats(backend.address).warmup_factor;
    assert!(factor > 1.9 && factor < 2.0, "the warm-up began with the request: {factor}");
}

#[test]
fn cpu_work_uses_cpu() {
    let backend = Process::start(&["--service-time", "60ms", "--cpu"]);
    assert_eq!(get(backend.address, "/").status, 200);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", backend.child.id())).unwrap();
    let ticks: u64 =
        stat.split(' ').skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // A tick is 10 ms; the kernel may round one away.
    assert!(ticks >= 5, "{ticks} ticks of CPU for 60 ms of work");
}

#[test]
fn a_wrong_flag_is_explained() {
    for (args, remedy) in [
        (["--service-time", "20"], "like 20ms"),
        (["--fault", "boom"], "use one of crash"),
        (["--concurrency", "0"], "1..=65536"),
        (["--cold-factor", "0"], "from 0.01"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_foreshadow-testbed"))
            .arg("backend")
            .args(args)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(remedy), "{message}");
    }
}
