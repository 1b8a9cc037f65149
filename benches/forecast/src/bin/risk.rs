//! How many labelled failures are told, and how long before, at given rates of false alarms: the
//! risk model's detector beside simple ones. JSON on standard output; `--table` prints tables
//! instead.
#![expect(clippy::print_stdout, reason = "the figures are the purpose of this program")]

use foreshadow_bench_forecast::{
    Detector, Figures, HeldOut, Labelled, Matching, PetshopFigures, Reliability, Scored,
    TRACES_VARIABLE, TraceError, at_rate, held_out, load_labelled, petshop, quartiles, reliability,
    thread_cpu_ms, traces_dir,
};
use foreshadow_control::risk::Surprise;
use serde::Serialize;
use serde_json::json;

/// False alarms per series and day.
const RATES: [f64; 5] = [0.1, 0.2, 0.5, 1.0, 2.0];
const HOUR_MS: u64 = 3_600_000;

/// One detector on one series, at the threshold that finds most there.
#[derive(Serialize)]
struct Row {
    series: String,
    detector: &'static str,
    wanted_false_per_day: f64,
    #[serde(flatten)]
    figures: Figures,
}

/// One detector on all series.
#[derive(Serialize)]
struct Total {
    detector: &'static str,
    wanted_false_per_day: f64,
    found: usize,
    labels: usize,
    found_before: usize,
    /// Quartiles of first step of the label minus first step of the alarm.
    lead_s: Option<[f64; 3]>,
}

/// All of it.
#[derive(Serialize)]
struct Report {
    bench: &'static str,
    totals: Vec<Total>,
    held_out: Vec<(&'static str, Vec<HeldOut>)>,
    reliability: Reliability,
    petshop: Vec<PetshopFigures>,
    nanoseconds_per_value: f64,
    series: Vec<Row>,
}

fn main() -> Result<(), TraceError> {
    let Some(dir) = traces_dir() else {
        let why = format!("no traces; set {TRACES_VARIABLE} to the folder that holds them");
        println!("{}", json!({ "bench": "risk", "skipped": why }));
        return Ok(());
    };
    let labelled = load_labelled(&dir)?;
    let detectors: Vec<Vec<Detector>> = labelled.iter().map(Labelled::detectors).collect();
    let rows: Vec<Row> = labelled.iter().zip(&detectors).flat_map(|(l, d)| rows(l, d)).collect();
    let surprises: Vec<_> = labelled.iter().map(|l| (l, l.surprises(true))).collect();
    let report = Report {
        bench: "risk",
        totals: totals(&rows),
        held_out: all_held_out(&labelled, &detectors),
        reliability: reliability(&surprises),
        petshop: petshop(&dir, &RATES)?,
        nanoseconds_per_value: nanoseconds_per_value(&labelled),
        series: rows,
    };
    match std::env::args().any(|argument| argument == "--table") {
        true => print_tables(&report),
        false => println!("{:#}", json!(report)),
    }
    Ok(())
}

/// An alarm within the half hour before a failure is a warning of it; of hourly steps, six.
fn matching(labelled: &Labelled) -> Matching {
    match labelled.trace.step_ms < HOUR_MS {
        true => Matching { merge: 15, lead: 30, after: 2 },
        false => Matching { merge: 2, lead: 6, after: 1 },
    }
}

fn rows(labelled: &Labelled, detectors: &[Detector]) -> Vec<Row> {
    let (step_ms, matching) = (labelled.trace.step_ms, matching(labelled));
    let mut rows = vec![];
    for detector in detectors {
        for rate in RATES {
            rows.push(Row {
                series: labelled.trace.name.clone(),
                detector: detector.name,
                wanted_false_per_day: rate,
                figures: at_rate(&detector.scores, &labelled.spans, step_ms, matching, rate),
            });
        }
    }
    rows
}

fn names(rows: &[Row]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = vec![];
    for row in rows.iter().filter(|row| row.series == rows[0].series) {
        if !names.contains(&row.detector) {
            names.push(row.detector);
        }
    }
    names
}

fn totals(rows: &[Row]) -> Vec<Total> {
    let mut totals = vec![];
    for detector in names(rows) {
        for rate in RATES {
            let of: Vec<&Figures> = rows
                .iter()
                .filter(|row| row.detector == detector && row.wanted_false_per_day == rate)
                .map(|row| &row.figures)
                .collect();
            let mut leads_s: Vec<f64> = of.iter().flat_map(|f| f.leads_s.clone()).collect();
            leads_s.sort_by(f64::total_cmp);
            totals.push(Total {
                detector,
                wanted_false_per_day: rate,
                found: of.iter().map(|f| f.found).sum(),
                labels: of.iter().map(|f| f.labels).sum(),
                found_before: of.iter().map(|f| f.found_before).sum(),
                lead_s: quartiles(&leads_s),
            });
        }
    }
    totals
}

fn all_held_out(
    labelled: &[Labelled],
    detectors: &[Vec<Detector>],
) -> Vec<(&'static str, Vec<HeldOut>)> {
    let count = detectors.first().map_or(0, Vec::len);
    let one = |nth: usize| {
        let scored: Vec<Scored<'_>> = labelled
            .iter()
            .zip(detectors)
            .map(|(labelled, detectors)| Scored {
                scores: &detectors[nth].scores,
                spans: &labelled.spans,
                step_ms: labelled.trace.step_ms,
                matching: matching(labelled),
            })
            .collect();
        (detectors[0][nth].name, held_out(&scored, &RATES))
    };
    (0..count).map(one).collect()
}

/// Processor time of one value, forecasts left out.
fn nanoseconds_per_value(labelled: &[Labelled]) -> f64 {
    let (mut values, mut heard) = (0_usize, 0.0);
    let began_ms = thread_cpu_ms();
    for series in labelled {
        let mut surprise = Surprise::default();
        for value in series.trace.values.iter().flatten() {
            surprise.observe(*value, None);
            heard += std::hint::black_box(surprise.now()).map_or(0.0, |now| now.spreads);
            values += 1;
        }
    }
    std::hint::black_box(heard);
    (thread_cpu_ms() - began_ms) * 1e6 / values.max(1) as f64
}

fn print_tables(report: &Report) {
    for row in &report.series {
        let f = &row.figures;
        println!(
            "{:<38} {:<15} at {:<4} found {:>3} of {:<3} before {:>3}, {:.2} false/day, {}",
            row.series,
            row.detector,
            row.wanted_false_per_day,
            f.found,
            f.labels,
            f.found_before,
            f.false_per_day,
            leads(f.lead_s)
        );
    }
    for total in &report.totals {
        println!(
            "all series: {:<15} at {:<4} found {:>3} of {:<3} before {:>3}, {}",
            total.detector,
            total.wanted_false_per_day,
            total.found,
            total.labels,
            total.found_before,
            leads(total.lead_s)
        );
    }
    for (detector, rates) in &report.held_out {
        for held in rates {
            for (what, found) in [("kept", &held.kept), ("steered", &held.steered)] {
                println!(
                    "held out: {detector:<15} at {:<4} {what:<7} found {:>3} of {:<3} {:?}, \
                     {:.2} false/day {:.1?}, {}",
                    held.wanted_false_per_day,
                    found.found,
                    held.labels,
                    found.by_series,
                    found.false_per_day,
                    found.false_per_day_by_series,
                    leads(found.lead_s)
                );
            }
        }
    }
    println!("fitted to the others {:.2?}", report.reliability.fitted);
    let bins = [&report.reliability.by_others, &report.reliability.corrected];
    for (what, bins) in ["by others", "corrected"].iter().zip(bins) {
        for bin in bins {
            println!(
                "{what:<20} up to {:<4}: {:>6} steps, predicted {:.3}, observed {:.3}",
                bin.up_to, bin.steps, bin.predicted, bin.observed
            );
        }
    }
    println!("Brier by others, corrected, constant: {:.4?}", report.reliability.brier);
    report.petshop.iter().for_each(|figures| println!("petshop {figures:?}"));
    println!("{:.0} ns per value", report.nanoseconds_per_value);
}

fn leads(quartiles: Option<[f64; 3]>) -> String {
    quartiles.map_or("-".to_owned(), |q| format!("lead {:.0} / {:.0} / {:.0} s", q[0], q[1], q[2]))
}
