//! The real manager with the real provider of a contract and the real controller, in a closed loop over
//! a simulated world: random schedules of demand, faults of the provider, orders by hand, reloads, and
//! crashes at any point. After each nothing may be leaked, doubled or forgotten.
//!
//! Time is that of a paused clock, so that a schedule of minutes takes milliseconds; everything in it
//! follows from its seed. `FORESHADOW_SIM_SCHEDULES` says how many run, `FORESHADOW_SIM_SEED` from which
//! on.

mod life;
mod nature;
mod order;
mod outage;
mod random;
mod schedule;
mod seams;
mod weather;
mod world;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::schedule::Tally;

/// Of an ordinary run.
const SCHEDULES: u64 = 2_000;
const FIRST: u64 = 1;
/// So many that went wrong are enough to learn from.
const ENOUGH: usize = 20;

fn set(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("it is a number"))
}

/// A directory for the state of a schedule, in memory where there is such a place: the disk has no part
/// in this.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory can be made")
}

fn one(seed: u64) -> Result<(Tally, String), String> {
    let dir = directory();
    schedule::run(seed, dir.path()).map_err(|wrong| {
        format!(
            "the schedule of seed {seed} went wrong: {wrong}\n\
             again: FORESHADOW_SIM_SEED={seed} FORESHADOW_SIM_SCHEDULES=1 cargo nextest run \
             --workspace --lib -E 'test(simulation)'"
        )
    })
}

#[test]
fn nothing_is_leaked_doubled_or_forgotten_over_random_schedules() {
    let (many, first) =
        (set("FORESHADOW_SIM_SCHEDULES", SCHEDULES), set("FORESHADOW_SIM_SEED", FIRST));
    let next = AtomicU64::new(first);
    let tallies = Mutex::new(Vec::new());
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = failures.lock().expect("nobody panics").len() >= ENOUGH;
                    if seed >= first + many || enough {
                        return;
                    }
                    match one(seed) {
                        Ok((tally, _)) => tallies.lock().expect("nobody panics").push(tally),
                        Err(wrong) => failures.lock().expect("nobody panics").push(wrong),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics");
    let short: Vec<&str> = failures.iter().filter_map(|text| text.lines().next()).collect();
    assert!(failures.is_empty(), "{}\n\nin all:\n{}", failures[0], short.join("\n"));
    let tallies = tallies.into_inner().expect("nobody panics");
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let slowest = tallies.iter().map(|tally| tally.calm_ms).max().unwrap_or(0);
    println!(
        "{} schedules, {} lives, {} crashes, {} instances made, {} orders to make and to end: 0 leaked, \
         0 doubled, 0 forgotten; in order again after {:.1} s on average, {:.1} s at most",
        tallies.len(),
        sum(|tally| tally.lives),
        sum(|tally| tally.crashes),
        sum(|tally| tally.made),
        sum(|tally| tally.orders),
        sum(|tally| tally.calm_ms) as f64 / tallies.len().max(1) as f64 / 1e3,
        slowest as f64 / 1e3,
    );
}

#[test]
fn a_seed_is_the_same_schedule_each_time() {
    for seed in 11..17 {
        let [first, second] = [(); 2].map(|()| match one(seed) {
            Ok((_, trace)) => trace,
            Err(wrong) => wrong,
        });
        for (nth, (a, b)) in first.lines().zip(second.lines()).enumerate() {
            assert_eq!(a, b, "seed {seed}, line {nth}");
        }
        assert_eq!(first.len(), second.len());
    }
}
