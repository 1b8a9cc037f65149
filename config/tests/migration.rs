//! How instances are moved elsewhere, and when that may begin, as it is written.

use std::time::Duration;

use foreshadow_config::{Config, Errors, Format, Migration, parse};
use foreshadow_control::MigrationSpec;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 2026-10-24T00:00:00Z, a Saturday; clocks in Berlin go back in the night after it.
const SATURDAY_MS: u64 = 1_792_800_000_000;

fn read_with(service: &str) -> Result<Config, Errors> {
    let text = format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
         services:\n  s:\n    primaries: ['127.0.0.1:1']\n    {service}\n"
    );
    parse(&text, Format::Yaml, "config.yaml", &|_| None)
}

const SHADOWS: &str = "shadows: { provider: { process: { command: [./s, '{port}'] } } }";

fn migration(written: &str) -> Migration {
    let config = read_with(&format!("{SHADOWS}\n    migration: {written}"));
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    config.services["s"].migration.clone().expect("a migration is written")
}

fn refused(written: &str) -> String {
    let read = read_with(&format!("{SHADOWS}\n    migration: {written}"));
    let errors = read.expect_err("it is wrong");
    let all: Vec<String> = errors.iter().map(|d| d.message()).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.join("\n")
}

#[test]
fn what_is_not_written_is_as_the_law_has_it() {
    assert_eq!(migration("{}").spec(), MigrationSpec::default());
    let config = read_with(SHADOWS).unwrap();
    assert_eq!(config.services["s"].migration, None);
    assert_eq!(config.service_specs()[0].migration, MigrationSpec::default());
}

#[test]
fn all_of_it_reaches_the_law() {
    let written = "{ steps: [10%, 0.5, 100%], verify: 2s, ready: 1m, drain: 5s, risk: 60% }";
    let spec = migration(written).spec();
    assert_eq!(spec.steps, [0.1, 0.5, 1.0]);
    assert_eq!((spec.verify_ms, spec.ready_ms, spec.drain_ms), (2_000, 60_000, 5_000));
    assert_eq!(spec.risk, Some(0.6));
}

#[test]
fn what_could_not_be_done_is_refused_where_it_is_written() {
    let twenty_one = format!("{{ steps: [{}] }}", vec!["1%"; 21].join(", "));
    let many = vec!["{ start: 2026-01-01T00:00:00 }"; 33].join(", ");
    for (written, message) in [
        ("{ steps: [] }", "found 0 steps, expected 1 to 20 steps"),
        (&twenty_one, "found 21 steps, expected 1 to 20 steps"),
        ("{ steps: [50%, 25%, 100%] }", "found 25%, expected more than the step before, 50%"),
        ("{ steps: [50%, 50%, 100%] }", "found 50%, expected more than the step before, 50%"),
        ("{ steps: [0%, 100%] }", "found 0%, expected a share of 0.1% to 100%"),
        ("{ steps: [50%, 110%] }", "found 110%, expected a share of 0.1% to 100%"),
        ("{ steps: [5%, 90%] }", "found a last step of 90%, expected 100% as the last step"),
        ("{ verify: 100ms }", "found 100ms, expected at least 1s"),
        ("{ ready: 2h }", "found 2h, expected at most 1h"),
        ("{ drain: 0s }", "found 0s, expected at least 1s"),
        ("{ risk: 100% }", "found 100%, expected at most 99%"),
        ("{ windows: [] }", "found 0 windows, expected 1 to 32 windows"),
        (&format!("{{ windows: [{many}] }}"), "found 33 windows"),
        ("{ windows: [{ rule: FREQ=DAILY }] }", "found no \"start\""),
        ("{ windows: [{ start: tonight }] }", "found a window that never is"),
        (
            "{ windows: [{ start: 2026-01-01T00:00:00, timezone: Mars/Olympus }] }",
            "the timezone \"Mars/Olympus\" is not in the IANA database",
        ),
        ("{ windows: [{ start: 2026-01-01T00:00:00, duration: 40d }] }", "at most 31d"),
        ("{ step: [100%] }", "did you mean \"steps\"?"),
    ] {
        let found = refused(written);
        assert!(found.contains(message), "{written}: {found}");
    }
    let alone = read_with("migration: {}").unwrap_err().to_string();
    let message = "found a migration without shadows, expected shadows beside it";
    assert!(alone.contains(message) && alone.contains("an instance moves to a shadow"), "{alone}");
}

#[test]
fn a_window_follows_the_clock_on_the_wall() {
    let nightly = "{ windows: [{ start: 2026-01-04T02:00:00, timezone: Europe/Berlin, \
                   rule: FREQ=DAILY, duration: 2h }] }";
    let migration = migration(nightly);
    let next = |at_ms: u64| migration.window(SATURDAY_MS + at_ms).unwrap();
    let saturday = (SATURDAY_MS, SATURDAY_MS + 2 * HOUR_MS);
    assert_eq!(next(0), saturday, "at 02:00 in Berlin it is midnight UTC");
    assert_eq!(next(HOUR_MS), saturday, "what is open counts");
    let sunday = SATURDAY_MS + DAY_MS;
    assert_eq!(next(2 * HOUR_MS).0, sunday, "what has just closed does not");
    let monday = SATURDAY_MS + 2 * DAY_MS + HOUR_MS;
    assert_eq!(next(DAY_MS + 3 * HOUR_MS).0, monday, "02:00 is an hour later in UTC from then on");
    let config = read_with(&format!("{SHADOWS}\n    migration: {nightly}")).unwrap();
    let printed = config.to_yaml().unwrap();
    let back = parse(&printed, Format::Yaml, "printed.yaml", &|_| None).unwrap();
    assert_eq!(back, config, "{printed}");
}

#[test]
fn of_several_windows_the_next_counts_and_without_any_it_is_always_time() {
    let two = migration(
        "{ windows: [{ start: 2026-10-25T12:00:00, duration: 30m }, \
         { start: 2026-10-24T12:00:00, duration: 1h }] }",
    );
    assert_eq!(two.window(SATURDAY_MS).unwrap().0, SATURDAY_MS + 12 * HOUR_MS);
    let sunday = two.window(SATURDAY_MS + 13 * HOUR_MS).unwrap();
    assert_eq!(sunday.0, SATURDAY_MS + 36 * HOUR_MS);
    assert_eq!(Duration::from_millis(sunday.1 - sunday.0), Duration::from_secs(1_800));
    assert_eq!(two.window(SATURDAY_MS + 3 * DAY_MS), None, "none comes any more");
    assert_eq!(migration("{}").window(SATURDAY_MS), Some((0, u64::MAX)));
}
