//! Options that would be ignored, or bent to something else, are refused instead.

use std::time::Duration;

use anyhow::{bail, ensure};
use foreshadow_backtest::Kind;

use super::args::{Args, ms};
use super::input::{Format, History};
use crate::explain::utc;

/// No part of a start, and no wait, takes longer.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Periods of demand, as in the configuration.
const SEASONS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(366 * 86_400);
/// Steps without a record that are no sign of a wrong time, however little else there is.
const USUAL_GAP_STEPS: usize = 1_000;
/// A log that is silent so many times as long as it is not holds a line with a wrong time.
const SILENT_TIMES: usize = 10;

/// Refuses options that do not belong to where the history comes from, and values that mean nothing.
///
/// # Errors
/// The first of them, with what to do.
pub(super) fn options(args: &Args) -> anyhow::Result<()> {
    let of_file = args.file.is_some();
    let kept = args.state_db.is_some();
    let refused = [
        (
            of_file && (args.from.is_some() || args.to.is_some()),
            "--from and --to",
            "a file: \
          give --skip and --take",
        ),
        (of_file && args.service.is_some(), "--service", "a file: it belongs to --state-db"),
        (of_file && args.query.is_some(), "--query", "a file: it belongs to --prometheus"),
        (!of_file && args.format != Format::Auto, "--format", "anything but a file"),
        (!of_file && args.header.is_some(), "--header", "anything but a file"),
        (!of_file && args.time.is_some(), "--time", "anything but a file"),
        (!of_file && !args.value.is_empty(), "--value", "anything but a file"),
        (!of_file && args.kind.is_given(), "--kind", "anything but a file: values are rates"),
        (kept && args.query.is_some(), "--query", "--state-db: it belongs to --prometheus"),
    ];
    if let Some((_, option, what)) = refused.into_iter().find(|(is_so, _, _)| *is_so) {
        bail!("{option} says nothing of {what}");
    }
    let whole = |time: &Duration| time.as_millis() > 0;
    ensure!(args.step.as_ref().is_none_or(whole), "--step is 0, it must be 1ms or more");
    let season = args.season.iter().find(|season| !SEASONS.contains(season));
    if let Some(season) = season {
        bail!("--season is {season:?}, a period of demand is from 1m to 366d");
    }
    let starts = args.start_up.iter().map(|time| ("--start-up", time));
    let others = [
        ("--wake", &args.wake),
        ("--serve", &args.serve),
        ("--warm-up", &args.warm_up),
        ("--wait", &args.wait),
        ("--false-window", &args.false_window),
    ];
    if let Some((option, _)) = starts.chain(others).find(|(_, time)| **time > LONGEST) {
        bail!("{option} is longer than 30d, which is the most");
    }
    let least = args.primaries.max(1);
    match args.max_instances {
        Some(most) if most < least => bail!(
            "--max-instances is {most}, fewer than the {least} that are always there (--primaries)"
        ),
        _ => Ok(()),
    }
}

/// Refuses a history of which next to nothing would count.
///
/// # Errors
/// That nothing counts, or where the time lies that next to nothing is recorded of.
pub(super) fn history(args: &Args, history: &History) -> anyhow::Result<()> {
    let series = &history.series;
    if let Some(learn) = args.learn {
        ensure!(
            ms(learn) < series.span_ms(),
            "--learn is {learn:?}, as long as the whole history or longer: nothing would count"
        );
    }
    let is_log = history.kind == Kind::Events;
    let silent = |rps: &Option<f64>| if is_log { *rps == Some(0.0) } else { rps.is_none() };
    let (mut at, mut longest) = (0, (0, 0));
    for run in series.rps.chunk_by(|a, b| silent(a) == silent(b)) {
        if silent(&run[0]) && run.len() > longest.1 {
            longest = (at, run.len());
        }
        at += run.len();
    }
    let (first, steps) = longest;
    let rest = series.rps.len() - steps;
    let most = USUAL_GAP_STEPS.max(if is_log { SILENT_TIMES * rest } else { rest });
    let at = |step: usize| series.start_ms + step as u64 * series.step_ms;
    ensure!(
        steps <= most,
        "nothing is recorded from {} to {}, {steps} steps beside {rest} with records: has a row \
         a wrong time? --take leaves out what comes after, --skip what comes before",
        utc(at(first)),
        utc(at(first + steps))
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use foreshadow_backtest::{Repairs, Series, read::ReadReport};

    use super::super::input::Told;
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(text: &str) -> Args {
        Line::try_parse_from(["backtest"].into_iter().chain(text.split(' '))).unwrap().args
    }

    #[test]
    fn options_that_would_be_ignored_or_bent_are_refused() {
        for (text, said) in [
            ("a.csv --from 7d", "--from and --to says nothing of a file: give --skip"),
            ("a.csv --to 1d", "--from and --to"),
            (
                "--prometheus http://h:1 --query up --format csv",
                "--format says nothing of anything",
            ),
            ("--prometheus http://h:1 --query up --value x", "--value says nothing"),
            ("--state-db x --service a --kind count", "--kind says nothing"),
            ("a.csv --step 0s", "--step is 0"),
            ("a.csv --season 1ms", "--season is 1ms"),
            ("a.csv --season 0s", "from 1m to 366d"),
            ("a.csv --start-up 100y", "--start-up is longer than 30d"),
            ("a.csv --wait 31d", "--wait is longer"),
            ("a.csv --max-instances 0", "fewer than the 1 that are always there"),
            ("a.csv --max-instances 1 --primaries 5", "fewer than the 5"),
        ] {
            let error = options(&args(text)).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in ["a.csv", "--prometheus http://h:1 --query up --from 3d", "a.log --season 1w"] {
            options(&args(text)).unwrap();
        }
    }

    fn recorded(kind: Kind, rps: Vec<Option<f64>>) -> History {
        let series = Series { start_ms: 1_700_000_000_000, step_ms: 60_000, rps };
        let (read, repairs) = (ReadReport::default(), Repairs::default());
        History { series, kind, told: Told { source: "a.csv".to_owned(), read, repairs } }
    }

    #[test]
    fn a_row_of_another_year_is_named_by_its_time_and_a_night_is_no_such_row() {
        let far =
            |gap, silence| [vec![Some(5.0); 600], vec![silence; gap], vec![Some(5.0)]].concat();
        let judged = |kind, rps| history(&args("a.csv"), &recorded(kind, rps));
        let error = judged(Kind::Rate, far(525_000, None)).unwrap_err().to_string();
        assert!(error.contains("from 2023-11-15T08:13:20"), "{error}");
        assert!(error.contains("525000 steps beside 601 with records"), "{error}");
        judged(Kind::Rate, far(900, None)).unwrap();
        assert!(judged(Kind::Events, far(525_000, Some(0.0))).is_err());
        judged(Kind::Events, far(5_000, Some(0.0))).unwrap();
        let learn = args("a.csv --learn 300d");
        let error = history(&learn, &recorded(Kind::Rate, far(0, None))).unwrap_err().to_string();
        assert!(error.contains("nothing would count"), "{error}");
    }
}
