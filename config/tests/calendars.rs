//! Calendars as programs write them that people have.

use std::path::Path;

use foreshadow_config::{Forecast, Format, parse};

/// 2026-10-23T00:00:00Z, a Friday; clocks in Berlin go back in the night to Sunday.
const FRIDAY_MS: u64 = 1_792_713_600_000;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;

fn forecast(file: &str) -> Forecast {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/calendars").join(file);
    let text = format!(
        "listeners: [{{ address: 127.0.0.1:80, routes: [{{ service: shop }}] }}]\n\
         services: {{ shop: {{ primaries: [127.0.0.1:1], forecast: {{ calendars: [{file:?}] }} }} }}\n"
    );
    let mut config = parse(&text, Format::Yaml, "config.yaml", &|_| None).expect("a configuration");
    config.services.pop_first().expect("a service").1.forecast
}

/// Names of occurrences within `days` of Friday, with their starts and ends in minutes from then.
fn found(file: &str, days: u64) -> Vec<(String, u64, u64)> {
    let all = forecast(file).occurrences(FRIDAY_MS, FRIDAY_MS + days * DAY_MS);
    let minutes = |ms: u64| (ms - FRIDAY_MS) / MINUTE_MS;
    all.into_iter().map(|it| (it.name, minutes(it.start_ms), minutes(it.end_ms))).collect()
}

fn named(expected: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    expected.iter().map(|(name, start, end)| ((*name).to_owned(), *start, *end)).collect()
}

#[test]
fn outlook_names_zones_of_windows_and_writes_its_own_out() {
    let expected = named(&[
        ("Flash sale, daily", 420, 510),
        ("Flash sale, daily", 1_860, 1_950),
        ("Custom zone", 2_040, 2_100),
        ("Flash sale, daily", 3_360, 3_450),
        ("Custom zone", 3_540, 3_600),
    ]);
    assert_eq!(found("outlook.ics", 3), expected);
    assert_eq!(forecast("outlook.ics").calendars[0].left_out, []);
    let new_year_ms = FRIDAY_MS + 69 * DAY_MS;
    let last = forecast("outlook.ics").occurrences(new_year_ms, new_year_ms + 30 * DAY_MS);
    assert_eq!(last.len(), 1, "UNTIL is the 31st at 9:00 on the wall: {last:?}");
}

#[test]
fn google_ends_rules_with_a_date_and_repeats_what_a_clock_shows_twice() {
    let expected = named(&[
        ("Nightly batch", 30, 90),
        ("Launch", 1_320, 1_380),
        // Left out on the 24th; on the 25th 2:30 comes twice, of which the first is meant.
        ("Nightly batch", 2_910, 2_970),
        ("Holiday", 4_260, 5_700),
        ("Nightly batch", 4_410, 4_470),
    ]);
    assert_eq!(found("google.ics", 7), expected);
}

#[test]
fn apple_writes_times_that_no_clock_or_two_show_and_one_event_takes_no_other_with_it() {
    // From half past two to half past three: two hours, since the first half past two is meant.
    assert_eq!(found("apple.ics", 7), named(&[("Shown twice", 2_910, 3_030)]));
    let forecast = forecast("apple.ics");
    // 2026-03-29T01:30:00Z, which is 3:30 in Berlin.
    let skipped = forecast.occurrences(1_774_747_800_000, 1_774_747_800_001);
    assert_eq!((skipped.len(), skipped[0].start_ms), (1, 1_774_747_800_000));
    let warnings: Vec<String> = forecast.calendars[0].warnings().collect();
    assert_eq!(warnings.len(), 1);
    let told =
        "apple.ics:45: the event \"On Mars\" is left out: the zone \"Mars/Olympus\" is neither";
    assert!(warnings[0].contains(told), "{warnings:?}");
}

#[test]
fn thunderbird_names_zones_by_paths_and_ends_rules_on_the_wall() {
    let expected = named(&[("Weekly mail", 480, 540), ("Weekly mail", 10_620, 10_680)]);
    assert_eq!(found("thunderbird.ics", 30), expected);
}

#[test]
fn of_very_many_events_only_the_soonest_and_the_latest_are_laid_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.ics");
    let event = |nth: usize| {
        format!(
            "BEGIN:VEVENT\nSUMMARY:e{nth}\nDTSTART:20200101T000000Z\nRRULE:FREQ=MINUTELY\n\
             DURATION:PT30S\nEND:VEVENT\n"
        )
    };
    let many: String = (0..6_000).map(event).collect();
    std::fs::write(&file, format!("BEGIN:VCALENDAR\n{many}END:VCALENDAR\n")).unwrap();
    let forecast = forecast(file.to_str().unwrap());
    let left_out = &forecast.calendars[0].left_out;
    assert_eq!(left_out.len(), 1_000, "every rule is gone through whenever it is looked ahead");
    assert!(left_out[0].why.contains("more than 5000 rules"), "{:?}", left_out[0]);
    assert_eq!(forecast.calendars[0].warnings().count(), 11);
    let ahead = forecast.occurrences(FRIDAY_MS, FRIDAY_MS + 8 * DAY_MS);
    assert_eq!(ahead.len(), 10_000);
    let last_ms = ahead.iter().map(|it| it.start_ms).max().unwrap();
    assert_eq!(last_ms, FRIDAY_MS + MINUTE_MS, "5000 start in every minute");
    let back = forecast.last_occurrences(FRIDAY_MS - 366 * DAY_MS, FRIDAY_MS);
    assert_eq!((back.len(), back[0].start_ms), (10_000, FRIDAY_MS - 2 * MINUTE_MS));
}

#[test]
fn zones_that_are_nothing_but_work_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zones.ics");
    let part = "BEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\n\
                RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\nEND:STANDARD\n";
    let zone =
        |nth: usize| format!("BEGIN:VTIMEZONE\nTZID:Z{nth}\n{}END:VTIMEZONE\n", part.repeat(400));
    let event = |zone: &str| {
        format!(
            "BEGIN:VEVENT\nSUMMARY:{:.9}\nDTSTART;TZID={zone}:20261121T100000\nEND:VEVENT\n",
            zone
        )
    };
    let zones: String = (0..5).map(zone).collect();
    let named: String = (0..5).map(|nth| event(&format!("Z{nth}"))).collect();
    let long = event(&"/".repeat(300_000));
    std::fs::write(&file, format!("BEGIN:VCALENDAR\n{zones}{named}{long}END:VCALENDAR\n")).unwrap();
    let forecast = forecast(file.to_str().unwrap());
    let left_out = &forecast.calendars[0].left_out;
    let whys: Vec<&str> = left_out.iter().map(|one| one.why.as_str()).collect();
    assert_eq!(
        whys.iter().filter(|why| why.contains("more than 1000 parts")).count(),
        3,
        "{whys:?}"
    );
    assert!(whys.iter().any(|why| why.contains("300000 bytes long")), "{whys:?}");
}
