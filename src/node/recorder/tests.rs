//! A disk that takes nothing for a while.

use super::files::begin;
use super::*;

/// Ticks until `done`, at most for as long as a test may take.
fn tick_until(recorder: &mut Recorder, what: &str, done: impl Fn(&Recorder) -> bool) {
    let controller = Controller::new(Vec::new());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done(recorder) {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        recorder.before_tick(&controller);
        recorder.record(Entry::Configure { specs: Vec::new() });
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn lines(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect("a whole entry")).collect()
}

#[test]
fn a_disk_that_was_full_for_a_while_is_recorded_to_again_from_a_checkpoint_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.ndjson");
    let full = Arc::new(AtomicBool::new(true));
    let (is_full, good) = (Arc::clone(&full), path.clone());
    let open = move |keep| {
        let full = is_full.load(Ordering::Relaxed);
        begin(if full { Path::new("/dev/full") } else { &good }, keep && !full)
    };
    let recording = Arc::new(Recording::default());
    recording.path.store(Some(Arc::new(path.clone())));
    let rest = Duration::from_millis(1);
    let mut recorder = Recorder::writing(open, 1 << 30, Arc::clone(&recording), rest).unwrap();
    tick_until(&mut recorder, "failures", |_| recording.status().failures >= 3);
    let status = recording.status();
    assert!(!status.good() && status.trouble.unwrap().contains("cannot write"));
    full.store(false, Ordering::Relaxed);
    tick_until(&mut recorder, "a recording", |_| recording.status().good());
    drop(recorder);
    let entries = lines(&path);
    assert!(matches!(entries.first(), Some(Entry::Checkpoint { .. })), "{entries:?}");
    assert!(entries.len() > 1);
}

#[test]
fn a_directory_that_was_gone_for_a_while_is_recorded_to_again() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let path = inside.join("recording.ndjson");
    let recording = Arc::new(Recording::default());
    let target = path.clone();
    let mut recorder = Recorder::writing(
        move |keep| begin(&target, keep),
        20_000,
        Arc::clone(&recording),
        Duration::from_millis(1),
    )
    .unwrap();
    std::fs::remove_dir_all(&inside).unwrap();
    tick_until(&mut recorder, "failures", |_| recording.status().failures >= 3);
    std::fs::create_dir(&inside).unwrap();
    tick_until(&mut recorder, "a recording", |_| recording.status().trouble.is_none());
    drop(recorder);
    assert!(matches!(lines(&path).first(), Some(Entry::Checkpoint { .. })));
}

#[test]
fn failures_keep_what_was_recorded_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.ndjson");
    std::fs::write(&path, "{}\n").unwrap();
    begin(&path, true).unwrap();
    for _ in 0..3 {
        begin(&path, false).unwrap();
    }
    let older = dir.path().join("recording.ndjson.1");
    assert_eq!(std::fs::read_to_string(older).unwrap(), "{}\n");
}

#[test]
fn the_size_is_that_of_the_file_whatever_waited_when_it_was_to_begin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.ndjson");
    let (queue, messages) = sync_channel(64);
    let entry = || Message::Entry(Box::new(Entry::Configure { specs: Vec::new() }));
    let waiting = std::iter::repeat_with(entry).take(40);
    let all = [Message::Rotate].into_iter().chain(waiting).chain([Message::Rotate, entry()]);
    all.for_each(|message| queue.try_send(message).unwrap());
    drop(queue);
    let recording = Recording::default();
    write_all(|keep| begin(&path, keep), &messages, &recording);
    assert_eq!(recording.status().bytes, path.metadata().unwrap().len());
    assert_eq!(lines(&path).len(), 1);
    assert_eq!(lines(&dir.path().join("recording.ndjson.1")).len(), 40);
}

#[test]
fn a_file_that_is_slow_to_begin_is_asked_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.ndjson");
    let recording = Arc::new(Recording::default());
    let (go_on, told) = sync_channel::<()>(8);
    let begun = Arc::new(AtomicU64::new(0));
    let (target, count) = (path.clone(), Arc::clone(&begun));
    let slow = move |keep| {
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            told.recv().expect("told to go on");
        }
        begin(&target, keep)
    };
    let rest = Duration::from_millis(1);
    let mut recorder = Recorder::writing(slow, 2_000, Arc::clone(&recording), rest).unwrap();
    let second = Arc::clone(&begun);
    tick_until(&mut recorder, "a second file", move |_| second.load(Ordering::SeqCst) == 2);
    let controller = Controller::new(Vec::new());
    for _ in 0..10 {
        recorder.before_tick(&controller);
        recorder.record(Entry::Configure { specs: Vec::new() });
    }
    go_on.send(()).unwrap();
    drop(recorder);
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    assert_eq!(recording.status().bytes, path.metadata().unwrap().len());
}
