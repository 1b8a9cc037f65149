//! Logs and tables changed as a fuzzer changes them, the same ones at every run.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use foreshadow_backtest::read::{CsvReader, CsvSpec, LogFormat, LogReader};
use foreshadow_backtest::{Kind, Sample, Series};
use mutate::{cases, changed, samples};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "\n",
    "\"",
    "[",
    "]",
    "[1000000000]",
    "[14/Nov/2023:22:13:20 +0000]",
    "-",
    "NaN",
    "inf",
    "-1",
    "1e308",
    "2026-11-23T09:00:00Z",
    "0",
    ",",
    ";",
    "\t",
    "{\"time\":",
    "}",
    "null",
    "\0",
    "é",
    "\u{feff}",
    "9223372036854775807",
    "+9999",
];

fn is_sound(samples: Vec<Sample>, kind: Kind) -> bool {
    let series = Series::from_samples(samples, kind, Some(3_600_000));
    series.map_or(true, |(series, _)| {
        series.rps.iter().flatten().all(|rps| (0.0..=1e9).contains(rps))
    })
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn whatever_a_log_holds_it_becomes_rates_or_is_refused(
        text in changed(samples("../fuzz/corpus/access_log"), WORDS),
    ) {
        let text = String::from_utf8_lossy(&text);
        for format in [LogFormat::Common, LogFormat::Json] {
            let mut reader = LogReader::new(format, None);
            text.lines().for_each(|line| reader.line(line));
            match reader.finish() {
                Ok((samples, report)) => {
                    prop_assert_eq!(samples.len() as u64, report.samples);
                    prop_assert!(is_sound(samples, Kind::Events));
                }
                Err(error) => prop_assert!(error.to_string().len() < 600, "{error}"),
            }
        }
    }

    #[test]
    fn whatever_a_table_holds_it_becomes_rates_or_is_refused(
        text in changed(samples("../fuzz/corpus/csv"), WORDS),
    ) {
        let text = String::from_utf8_lossy(&text);
        let mut reader = CsvReader::new(CsvSpec::default());
        let read = text.lines().try_for_each(|line| reader.line(line));
        match read.and_then(|()| reader.finish()) {
            Ok((samples, _)) => prop_assert!(is_sound(samples, Kind::Rate)),
            Err(error) => prop_assert!(error.to_string().len() < 2_000, "{error}"),
        }
    }
}
