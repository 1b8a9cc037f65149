//! Whatever a log or a table holds, it becomes a series of rates or is refused.
#![no_main]

use foreshadow_backtest::read::{CsvReader, CsvSpec, LogFormat, LogReader};
use foreshadow_backtest::{Kind, Series};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for format in [LogFormat::Common, LogFormat::Json] {
        let mut reader = LogReader::new(format, None);
        text.lines().for_each(|line| reader.line(line));
        if let Ok((samples, _)) = reader.finish() {
            Series::from_samples(samples, Kind::Events, Some(3_600_000)).ok();
        }
    }
    let mut reader = CsvReader::new(CsvSpec::default());
    if text.lines().try_for_each(|line| reader.line(line)).is_ok()
        && let Ok((samples, _)) = reader.finish()
        && let Ok((series, _)) = Series::from_samples(samples, Kind::Rate, Some(3_600_000))
    {
        assert!(series.rps.iter().flatten().all(|rps| rps.is_finite() && *rps >= 0.0));
    }
});
