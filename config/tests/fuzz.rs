//! Calendars changed as a fuzzer changes them, the same ones at every run.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use mutate::{cases, changed, samples};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "BEGIN:VEVENT\n",
    "END:VEVENT\n",
    "BEGIN:VTIMEZONE\n",
    "RRULE:FREQ=SECONDLY\n",
    "INTERVAL=65535",
    "RRULE:FREQ=YEARLY;BYDAY=-53SU,366MO;BYSETPOS=-366\n",
    "FREQ=MONTHLY;BYMONTHDAY=31;COUNT=9",
    "BYHOUR=0,1,2,3;",
    "BYWEEKNO=53;",
    "BYYEARDAY=-366;",
    "UNTIL=99991231T235959Z",
    "WKST=SU;",
    "DTSTART:00010101T000000\n",
    "DTSTART:99991231T235959Z\n",
    "EXDATE:20261024T100000Z\n",
    "RDATE:20261024\n",
    "TZID=Pacific/Apia:",
    "RECURRENCE-ID:20261024T100000Z\n",
    "DURATION:P9999W\n",
    "TZOFFSETFROM:-2359\n",
    "\n ",
    "\u{feff}",
    "\0",
    "é",
    ":",
    ";",
    "\"",
    "-",
    "0",
];

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn whatever_a_calendar_holds_it_is_read_or_refused_and_looking_ahead_ends(
        text in changed(
            [samples("tests/calendars"), samples("../fuzz/corpus/calendar")].concat(),
            WORDS,
        ),
    ) {
        const NOW_MS: u64 = 1_792_713_600_000;
        let text = String::from_utf8_lossy(&text);
        match foreshadow_config::calendar(&text, 1.0) {
            Err(error) => prop_assert!(!error.is_empty() && error.len() < 300, "{error}"),
            Ok((events, left_out)) => {
                let lines = text.lines().count();
                for left_out in &left_out {
                    prop_assert!((1..=lines).contains(&left_out.line), "{left_out:?}");
                    prop_assert!(!left_out.why.is_empty(), "{left_out:?}");
                }
                for event in events.iter().take(5) {
                    let ahead = event.occurrences(NOW_MS, NOW_MS + 8 * 86_400_000);
                    prop_assert!(ahead.len() <= 500);
                    prop_assert!(ahead.is_sorted_by_key(|it| it.start_ms));
                    let fits = |it: &foreshadow_config::Occurrence| it.end_ms > NOW_MS;
                    prop_assert!(ahead.iter().all(fits), "{ahead:?}");
                }
            }
        }
    }
}
