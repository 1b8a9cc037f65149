//! How many labelled failures are told, and how long before, at given rates of false alarms:
//! the detector of the risk model beside a fixed threshold. JSON on standard output; `--table`
//! prints a table instead.
#![expect(clippy::print_stdout, reason = "the figures are the purpose of this program")]

use foreshadow_bench_forecast::{
    Figures, Labelled, Matching, TRACES_VARIABLE, TraceError, at_rate, figures, load_labelled,
    petshop, traces_dir,
};
use serde::Serialize;
use serde_json::json;

/// False alarms per series and day.
const RATES: [f64; 5] = [0.1, 0.2, 0.5, 1.0, 2.0];
/// The threshold the live model begins to count from.
const LIVE: f64 = 4.0;
const HOUR_MS: u64 = 3_600_000;

#[derive(Serialize)]
struct Row {
    series: String,
    detector: &'static str,
    /// None: at the live model's own threshold.
    wanted_false_per_day: Option<f64>,
    #[serde(flatten)]
    figures: Figures,
}

fn main() -> Result<(), TraceError> {
    let Some(dir) = traces_dir() else {
        let why = format!("no traces; set {TRACES_VARIABLE} to the folder that holds them");
        println!("{}", json!({ "bench": "risk", "skipped": why }));
        return Ok(());
    };
    let rows: Vec<Row> = load_labelled(&dir)?.iter().flat_map(rows).collect();
    let petshop = petshop(&dir, &RATES)?;
    if std::env::args().any(|argument| argument == "--table") {
        for row in &rows {
            let wanted = row.wanted_false_per_day.map_or("live".to_owned(), |w| w.to_string());
            println!(
                "{:<38} {:<17} at {:<4} found {:>3} of {:<3} before {:>3} lead {:>7} s, {:.2} false/day",
                row.series,
                row.detector,
                wanted,
                row.figures.found,
                row.figures.labels,
                row.figures.found_before,
                row.figures.median_lead_s.map_or("-".to_owned(), |s| format!("{s:.0}")),
                row.figures.false_per_day
            );
        }
        petshop.iter().for_each(|figures| println!("petshop {figures:?}"));
    } else {
        println!("{:#}", json!({ "bench": "risk", "series": rows, "petshop": petshop }));
    }
    Ok(())
}

fn rows(labelled: &Labelled) -> Vec<Row> {
    let step_ms = labelled.trace.step_ms;
    // An alarm within the half hour before a failure is a warning of it; of hourly steps, six.
    let matching = match step_ms < HOUR_MS {
        true => Matching { merge: 15, lead: 30, after: 2 },
        false => Matching { merge: 2, lead: 6, after: 1 },
    };
    let mut rows = vec![];
    for detector in labelled.detectors() {
        let scores = masked(&detector.scores, labelled.scored_from);
        let row = |wanted: Option<f64>, figures: Figures| Row {
            series: labelled.trace.name.clone(),
            detector: detector.name,
            wanted_false_per_day: wanted,
            figures,
        };
        for rate in RATES {
            let figures = at_rate(&scores, &labelled.spans, step_ms, matching, rate);
            rows.push(row(Some(rate), figures));
        }
        if detector.name.starts_with("drift") || detector.name.starts_with("surprise") {
            let live = figures(&scores, &labelled.spans, step_ms, matching, Some(LIVE));
            rows.push(row(None, live));
        }
    }
    rows
}

fn masked(scores: &[Option<f64>], from: usize) -> Vec<Option<f64>> {
    scores.iter().enumerate().map(|(at, score)| score.filter(|_| at >= from)).collect()
}
