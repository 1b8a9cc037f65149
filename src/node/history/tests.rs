//! History on a real disk: written, read, pruned, damaged, full, killed.

use std::time::{Duration, Instant};

use foreshadow_control::{
    InstanceId, InstanceObservation, InstanceWeight, LatencySummary, Meters, Mode, Observation,
    Plan, Role, ServiceObservation, ServicePlan, Tier,
};

use super::*;
use crate::node::history::pending::Pending;
use crate::node::history::store::SeriesIds;

/// One that was sent ten requests and failed one of them.
fn instance(id: u64) -> InstanceObservation {
    let latency = LatencySummary {
        count: 10,
        sum_ms: 50.0,
        over_objective: 0,
        p50_ms: 4.0,
        p90_ms: 8.0,
        p99_ms: 9.0,
        max_ms: 12.0,
    };
    let meters = Meters {
        requests: 10,
        in_flight: 2,
        ok: 9,
        server_errors: 1,
        latency,
        ..Meters::default()
    };
    InstanceObservation {
        meters,
        ..InstanceObservation::idle(InstanceId(id), Role::Primary, Tier::Serving)
    }
}

/// A tick of one service that was sent 100 requests, with so many instances.
pub(crate) fn view(at_ms: u64, interval_ms: u64, instances: u64) -> View {
    let service = ServiceName::from("shop");
    View {
        now_ms: at_ms,
        observation: Observation {
            tick: at_ms / 100,
            at_ms,
            interval_ms,
            kill_switch: false,
            services: vec![ServiceObservation {
                arrivals: 100,
                unserved: 1,
                instances: (1..=instances).map(instance).collect(),
                ..ServiceObservation::quiet(service.clone(), Mode::Act)
            }],
        },
        plan: Plan {
            tick: at_ms / 100,
            at_ms,
            services: vec![ServicePlan {
                service,
                mode: Mode::Act,
                act: true,
                weights: vec![InstanceWeight { instance: InstanceId(1), weight: 10_000 }],
                advised: Vec::new(),
                actions: Vec::new(),
                alerts: Vec::new(),
                reasons: Vec::new(),
                demand_rps: 100.0,
                forecast: Vec::new(),
                thresholds: None,
                capacity: Vec::new(),
                rules: Default::default(),
                risk: Vec::new(),
                scaling: None,
                migrations: Vec::new(),
            }],
        },
        addresses: Default::default(),
        shadow_counts: Default::default(),
        workloads: Default::default(),
        bases: Arc::default(),
        feedback: Default::default(),
    }
}

pub(crate) const START_MS: u64 = 1_795_305_600_000;

pub(super) fn keep() -> config::History {
    let day = Duration::from_secs(86_400);
    config::History {
        enabled: true,
        keep_1s: day,
        keep_1m: 14 * day,
        keep_15m: 90 * day,
        keep_1h: 730 * day,
        max_size: 1 << 30,
        snapshot_interval: Duration::from_secs(30),
        snapshot_max_age: 7 * day,
    }
}

pub(super) fn query(resolution: Resolution) -> Query {
    let service = ServiceName::from("shop");
    Query { service, instance: 0, resolution, from_ms: 0, until_ms: u64::MAX, limit: 100_000 }
}

/// Writes `seconds` of ticks from `from_ms` on, one tick per second, as the writer does.
pub(crate) fn write(path: &Path, from_ms: u64, seconds: u64) {
    let mut db = schema::open(path).unwrap();
    let (mut pending, mut ids) = (Pending::default(), SeriesIds::default());
    for second in 0..seconds {
        pending.observe(&view(from_ms + second * 1_000, 1_000, 1));
        if second % 97 == 0 || second + 1 == seconds {
            pending.close_second();
            store::write(&mut db, &mut ids, &pending).unwrap();
            pending.written();
        }
    }
}

#[test]
fn every_resolution_holds_the_same_sums_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(HISTORY_DB);
    // Two runs with a gap, the second beginning amid a minute, a quarter and an hour.
    write(&path, START_MS, 1_000);
    write(&path, START_MS + 1_500_000, 3_000);
    for (resolution, spans) in Resolution::ALL.into_iter().zip([4_000, 67, 5, 2]) {
        let found = read::spans(&path, &query(resolution)).unwrap();
        assert_eq!(found.len(), spans, "{resolution:?}");
        assert_eq!(found.iter().map(|s| s.covered_ms).sum::<u64>(), 4_000_000, "{resolution:?}");
        assert!(found.iter().all(|s| (s.rps, s.least_rps, s.most_rps) == (100.0, 100.0, 100.0)));
        assert_eq!(found.iter().map(|s| s.errors).sum::<u64>(), 8_000);
        let span = found[0];
        assert_eq!(
            (span.latency_mean_ms, span.latency_p99_ms, span.in_flight_mean),
            (5.0, 9.0, 2.0)
        );
        assert!(found.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
    }
    let instance = Query { instance: 1, ..query(Resolution::Hour) };
    let spans = read::spans(&path, &instance).unwrap();
    assert_eq!((spans[0].rps, spans[0].weight_mean), (10.0, 10_000.0));
    let newest = Query { limit: 2, ..query(Resolution::Second) };
    let found = read::spans(&path, &newest).unwrap();
    assert_eq!(found[1].at_ms, START_MS + 1_500_000 + 2_999_000);
}

#[test]
fn each_resolution_is_kept_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(HISTORY_DB);
    write(&path, START_MS, 3_600);
    let mut db = schema::open(&path).unwrap();
    let short = config::History { keep_1s: Duration::from_secs(600), ..keep() };
    store::prune(&mut db, &short, START_MS + 3_600_000).unwrap();
    let left = |resolution| read::spans(&path, &query(resolution)).unwrap().len();
    assert_eq!(Resolution::ALL.map(left), [600, 60, 4, 1]);
    store::prune(&mut db, &short, START_MS + 20 * 86_400_000).unwrap();
    assert_eq!(Resolution::ALL.map(left), [0, 0, 4, 1]);
    store::prune(&mut db, &short, START_MS + 800 * 86_400_000).unwrap();
    assert_eq!(Resolution::ALL.map(left), [0, 0, 0, 0]);
    assert_eq!(store::remove_empty_series(&db).unwrap(), 2);
}

#[test]
fn a_database_too_large_loses_its_oldest_and_finest_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(HISTORY_DB);
    write(&path, START_MS, 7_200);
    let mut db = schema::open(&path).unwrap();
    let tight = config::History { max_size: 1, ..keep() };
    let now_ms = START_MS + 7_200_000;
    let mut bytes = u64::MAX;
    for _ in 0..100 {
        let after = store::prune(&mut db, &tight, now_ms).unwrap().bytes;
        assert!(after <= bytes);
        bytes = after;
    }
    let seconds = read::spans(&path, &query(Resolution::Second)).unwrap();
    assert!((500..=660).contains(&seconds.len()), "{}", seconds.len());
    assert_eq!(seconds.last().unwrap().at_ms, now_ms - 1_000, "the newest stay");
    assert_eq!(read::spans(&path, &query(Resolution::Minute)).unwrap().len(), 120);
}

#[test]
fn what_is_removed_is_given_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(HISTORY_DB);
    write(&path, START_MS, 3_600);
    let mut db = schema::open(&path).unwrap();
    let pages = |db: &rusqlite::Connection, name: &str| -> u64 {
        db.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    };
    let before = pages(&db, "page_count");
    store::prune(&mut db, &keep(), START_MS + 20 * 86_400_000).unwrap();
    assert_eq!(pages(&db, "freelist_count"), 0);
    assert!(pages(&db, "page_count") < before / 2, "of {before} pages");
}

/// Waits for a real condition of the writer's thread.
pub(super) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn ticks_are_written_by_the_thread_and_queued_ones_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), &keep(), START_MS).unwrap();
    for tick in 0..50 {
        history.observe(&Arc::new(view(START_MS + tick * 100, 100, 2)));
    }
    history.close();
    let status = history.status();
    assert_eq!((status.ticks_dropped, status.rows_waiting, status.failures), (0, 0, 0));
    let seconds = history.spans(&query(Resolution::Second)).unwrap();
    assert_eq!(seconds.len(), 5);
    assert_eq!(seconds[0].rps, 1_000.0);
    assert_eq!(history.ticks(&ServiceName::from("shop")).len(), 50);
}

#[test]
fn a_database_that_cannot_be_had_is_said_and_taken_up_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    // A directory stands where the file should: nothing can be opened there.
    let path = dir.path().join(HISTORY_DB);
    std::fs::create_dir(&path).unwrap();
    let history = History::start(dir.path(), &keep(), START_MS).unwrap();
    let trouble = history.status().trouble.expect("it is said");
    assert!(trouble.contains("cannot be written"), "{trouble}");
    history.observe(&Arc::new(view(START_MS, 1_000, 1)));
    until("the tick to be gathered", || !history.ticks(&ServiceName::from("shop")).is_empty());
    std::fs::remove_dir(&path).unwrap();
    // The end tries once more.
    history.close();
    assert_eq!(history.status().trouble, None);
    assert_eq!(history.spans(&query(Resolution::Hour)).unwrap().len(), 1);
}

#[test]
fn a_writer_that_is_stuck_costs_ticks_and_never_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), &keep(), START_MS).unwrap();
    // Held here, the memory of recent ticks keeps the writer from taking the next message.
    let held = lock(&history.recent);
    for tick in 0..QUEUE as u64 + 20 {
        history.observe(&Arc::new(view(START_MS + tick * 100, 100, 1)));
    }
    assert!(history.status().ticks_dropped >= 18);
    drop(held);
    history.close();
    assert!(history.spans(&query(Resolution::Second)).unwrap()[0].rps > 0.0);
}

#[test]
fn history_that_is_turned_off_keeps_and_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let off = config::History { enabled: false, ..keep() };
    let history = History::start(dir.path(), &off, START_MS).unwrap();
    history.observe(&Arc::new(view(START_MS, 100, 1)));
    assert_eq!(history.learned_every_ms(), None);
    history.close();
    assert!(!history.status().enabled);
    assert!(!dir.path().join(HISTORY_DB).exists());
    assert!(history.spans(&query(Resolution::Hour)).unwrap().is_empty());
}

/// A controller that has seen a minute of a service.
pub(super) fn experienced(name: &str, horizon_ms: u64) -> Controller {
    let mut controller = Controller::new(vec![spec(name, horizon_ms)]);
    for tick in 0..600 {
        let mut seen = view(START_MS + tick * 100, 100, 2).observation;
        seen.services[0].service = ServiceName::from(name);
        controller.tick(&seen);
    }
    controller
}

fn spec(name: &str, horizon_ms: u64) -> foreshadow_control::ServiceSpec {
    let text = format!(
        "listeners: [{{ address: '127.0.0.1:1', routes: [{{ service: {name} }}] }}]\n\
         services: {{ {name}: {{ primaries: ['127.0.0.1:2'], forecast: {{ horizon: {horizon_ms}ms }} }} }}"
    );
    let parsed = config::parse(&text, config::Format::Yaml, "test", &|_| None).unwrap();
    parsed.service_specs().remove(0)
}

#[test]
fn what_was_learned_is_taken_up_where_it_fits_and_left_out_where_not() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), &keep(), START_MS).unwrap();
    for name in ["shop", "api", "gone"] {
        let learned = experienced(name, 30_000);
        assert!(history.keep_learned(&learned, &ServiceName::from(name), START_MS));
    }
    history.close();
    let path = dir.path().join(HISTORY_DB);
    let specs = || vec![spec("shop", 30_000), spec("api", 60_000)];
    let mut fresh = Controller::new(specs());
    let week_ms = 7 * 86_400_000;
    let restored = learned::recall(&path, &mut fresh, START_MS + 90_000, week_ms);
    let told: Vec<_> =
        restored.iter().map(|r| (r.service.as_str(), r.taken_up, r.detail.as_str())).collect();
    assert_eq!(told[2], ("shop", true, "90 s old"));
    assert!(told[0].1 && told[0].2.contains("forecaster begins anew"), "{told:?}");
    assert!(!told[1].1 && told[1].2.contains("no service gone"), "{told:?}");
    // What it decides now comes from what was learned: the same as the one that never ended.
    let seen = view(START_MS + 90_000, 100, 2).observation;
    let plan = fresh.tick(&seen);
    let before = experienced("shop", 30_000).tick(&seen);
    let rps = |plan: &Plan| plan.services[0].capacity[0].rps;
    assert!((rps(&plan) / rps(&before) - 1.0).abs() < 0.1, "{} {}", rps(&plan), rps(&before));
    assert!(rps(&plan) > 10.0);

    let mut late = Controller::new(specs());
    let restored = learned::recall(&path, &mut late, START_MS + 8 * 86_400_000, week_ms);
    assert!(restored.iter().all(|r| !r.taken_up), "{restored:?}");
}

#[test]
fn each_service_has_its_turn_and_none_more_than_one_a_second() {
    let names: Vec<ServiceName> =
        (0..5).map(|n| ServiceName::from(format!("s{n}").as_str())).collect();
    let kept = |every_ms, seconds: u64| {
        let mut turns = LearnedTurns::new(every_ms);
        let due = |tick: u64| turns.next(START_MS + tick * 100, 5, |nth| names.get(nth)).cloned();
        (0..10 * seconds).filter_map(due).collect::<Vec<_>>()
    };
    assert_eq!(kept(Some(10_000), 61).len(), 30);
    assert_eq!(kept(Some(1_000), 11).len(), 10, "at most one a second");
    assert_eq!(kept(None, 60).len(), 0);
    let mut once = kept(Some(10_000), 11);
    once.sort();
    assert_eq!(once, names);
}

#[test]
fn how_curves_did_is_there_after_a_restart_and_forgotten_when_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), &keep(), START_MS).unwrap();
    let shop = ServiceName::from("shop");
    for (reach, state) in [("1h", "old"), ("1d", "day"), ("1h", "new")] {
        history.keep_scores(&shop, reach, START_MS, state.to_owned());
    }
    history.close();
    let history = History::start(dir.path(), &keep(), START_MS + 1).unwrap();
    let week_ms = 7 * 86_400_000;
    let kept = |reach, now_ms| history.scores(&shop, reach, now_ms).unwrap();
    assert_eq!(kept("1h", START_MS + week_ms).as_deref(), Some("new"));
    assert_eq!(kept("1d", START_MS).as_deref(), Some("day"));
    assert_eq!((kept("1w", START_MS), kept("1h", START_MS + week_ms + 1)), (None, None));
    assert_eq!(history.scores(&ServiceName::from("api"), "1h", START_MS).unwrap(), None);
}
