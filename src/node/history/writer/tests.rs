//! The writer as its thread would run it: full disks, lost databases, wrong clocks.

use super::*;
use crate::node::history::bucket::Resolution;
use crate::node::history::tests::{START_MS, experienced, keep, query, until, view};
use crate::node::history::{HISTORY_DB, read, schema};
use crate::node::view::View;

/// A writer with a database in `dir`, and what it works on, for tests that are its thread.
fn writer(dir: &std::path::Path) -> (Writer, Work) {
    let path = dir.join(HISTORY_DB);
    let writer = Writer {
        db: Some(schema::open(&path).unwrap()),
        path,
        keep: keep(),
        health: Arc::new(Health { started_ms: START_MS, ..Health::default() }),
        recent: RecentTicks::default(),
    };
    let work = Work::new(Duration::ZERO);
    (writer, work)
}

fn waiting(writer: &Writer) -> u64 {
    writer.health.waiting.load(Ordering::Relaxed)
}

#[test]
fn a_full_disk_is_said_and_what_waited_is_written_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut work) = writer(dir.path());
    let pages = |writer: &Writer, most: i64| {
        let db = writer.db.as_ref().unwrap();
        db.pragma_update(None, "max_page_count", most).unwrap();
    };
    // The database may not grow by a page more: what SQLite says is what it says of a full disk.
    let db = writer.db.as_ref().unwrap();
    let now = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    pages(&writer, now);
    let mut seconds = 0;
    while writer.health.trouble.load().is_none() {
        assert!(seconds < 1_000, "a full disk is never said");
        work.pending.observe(&view(START_MS + seconds * 1_000, 1_000, 200));
        writer.flush(&mut work);
        seconds += 1;
    }
    let trouble = writer.health.trouble.load_full().unwrap();
    assert!(trouble.contains("full"), "{trouble}");
    assert_eq!(writer.health.lost_rows.load(Ordering::Relaxed), 0, "it waits in memory");
    assert!(waiting(&writer) > 0);
    // Nothing half of a batch was written: every resolution holds the same time.
    let path = writer.path.clone();
    let covered = |resolution| -> u64 {
        let spans = read::spans(&path, &query(resolution)).unwrap();
        spans.iter().map(|span| span.covered_ms).sum()
    };
    let whole = covered(Resolution::Hour);
    assert!(whole < seconds * 1_000);
    assert!(Resolution::ALL.iter().all(|resolution| covered(*resolution) == whole));

    pages(&writer, 1 << 30);
    work.pending.observe(&view(START_MS + seconds * 1_000, 1_000, 200));
    work.pending.close_second();
    writer.flush(&mut work);
    assert_eq!(writer.health.trouble.load_full(), None);
    assert_eq!(waiting(&writer), 0);
    for resolution in Resolution::ALL {
        assert_eq!(covered(resolution), (seconds + 1) * 1_000, "{resolution:?}");
    }
}

#[test]
fn seconds_are_whole_however_often_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut work) = writer(dir.path());
    // Of each second the first half is silent and the second one busy: ten times 100 a second.
    for tick in 0..40 {
        let mut seen: View = view(START_MS + tick * 100, 100, 0);
        seen.observation.services[0].arrivals = if tick % 10 < 5 { 0 } else { 20 };
        work.pending.observe(&seen);
        if tick % 10 == 4 {
            writer.flush(&mut work);
        }
    }
    work.pending.close_second();
    writer.flush(&mut work);
    for resolution in Resolution::ALL {
        for span in read::spans(&writer.path, &query(resolution)).unwrap() {
            let rates = (span.rps, span.least_rps, span.most_rps);
            assert_eq!(rates, (100.0, 100.0, 100.0), "{resolution:?}");
        }
    }
}

fn event(name: &str) -> Event {
    let (start_ms, end_ms) = (START_MS, START_MS + 60_000);
    Event { service: "shop".to_owned(), name: name.to_owned(), start_ms, end_ms, lift: 2.0 }
}

#[test]
fn events_and_memories_wait_for_a_database_that_cannot_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = writer(dir.path());
    writer.db = None;
    std::fs::remove_file(&writer.path).unwrap();
    std::fs::create_dir(&writer.path).unwrap();
    let (path, health) = (writer.path.clone(), Arc::clone(&writer.health));
    let (inbox, messages) = std::sync::mpsc::sync_channel(8);
    let thread = std::thread::spawn(move || writer.run(&messages));
    let service = foreshadow_control::ServiceName::from("shop");
    inbox.send(Message::Started(vec![event("sale")])).unwrap();
    until("it to be tried", || health.failures.load(Ordering::Relaxed) > 0);
    let controller = experienced("shop", 30_000);
    let memory = controller.memory(&service).unwrap();
    inbox.send(Message::Learned(vec![Dated { at_ms: START_MS, memory }])).unwrap();
    std::fs::remove_dir(&path).unwrap();
    drop(inbox);
    thread.join().unwrap();
    let events = read::events(&path, &service).unwrap();
    assert_eq!(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["sale"]);
    let mut fresh = experienced("shop", 30_000);
    let restored = learned::recall(&path, &mut fresh, START_MS, 1);
    assert!(restored.len() == 1 && restored[0].taken_up, "{restored:?}");
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_the_newest() {
    let mut work = Work::new(Duration::ZERO);
    work.start((0..MOST_EVENTS + 5).map(|n| event(&n.to_string())).collect());
    assert_eq!((work.started.len(), work.started[0].name.as_str()), (MOST_EVENTS, "5"));
    let controller = experienced("shop", 30_000);
    let dated = |at_ms| {
        let service = foreshadow_control::ServiceName::from("shop");
        Dated { at_ms, memory: controller.memory(&service).unwrap() }
    };
    (1..4).for_each(|at_ms| work.learn(vec![dated(at_ms)]));
    assert_eq!(work.learned.iter().map(|d| d.at_ms).collect::<Vec<_>>(), [3]);
}

#[test]
fn rows_of_a_clock_that_was_ahead_go_once_it_is_sure_that_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut work) = writer(dir.path());
    let day_ms = 86_400_000;
    for at_ms in [START_MS + 40 * day_ms, START_MS] {
        work.goes_to(at_ms);
        work.pending.observe(&view(at_ms, 1_000, 1));
    }
    work.pending.close_second();
    writer.flush(&mut work);
    let left = |resolution| read::spans(&dir.path().join(HISTORY_DB), &query(resolution));
    let db = writer.db.as_ref().unwrap();
    assert_eq!(store::newest_ms(db, START_MS).unwrap(), Some(START_MS));
    writer.prune(&mut work);
    assert_eq!(left(Resolution::Hour).unwrap().len(), 2, "the clock may be behind now");
    work.ahead_since = work.ahead_since.and_then(|since| since.checked_sub(HOLD_AFTER_LEAP));
    writer.prune(&mut work);
    for resolution in Resolution::ALL {
        let spans = left(resolution).unwrap();
        assert_eq!(spans.iter().map(|s| s.at_ms).collect::<Vec<_>>(), [START_MS]);
    }
}

#[test]
fn a_size_that_cannot_be_kept_is_said_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut work) = writer(dir.path());
    work.goes_to(START_MS);
    work.pending.observe(&view(START_MS, 1_000, 1));
    work.pending.close_second();
    writer.flush(&mut work);
    writer.keep.max_size = 1;
    writer.prune(&mut work);
    let trouble = writer.health.trouble().unwrap();
    assert!(trouble.contains("history.max_size"), "{trouble}");
    writer.health.worked(1);
    assert!(writer.health.trouble().is_some(), "what is written does not make it smaller");
    writer.keep.max_size = 1 << 30;
    writer.prune(&mut work);
    assert_eq!(writer.health.trouble(), None);
}
