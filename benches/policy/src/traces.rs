//! The public traces and how each is read, and curves that are made here.

use std::f64::consts::TAU;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use foreshadow_backtest::read::{Column, CsvReader, CsvSpec, Header};
use foreshadow_backtest::{Kind, Sample, Series};

/// One trace of the bench.
pub(crate) struct Source {
    /// What it is called in the output.
    pub(crate) name: &'static str,
    /// None where it is a curve made here: see [`curve`].
    file: Option<&'static str>,
    value: &'static str,
    kind: Kind,
    /// Time between rows that have none.
    row_every_ms: Option<u64>,
    step_ms: Option<u64>,
    /// Requests per second that a value of one stands for.
    scale: f64,
    /// How long a request may wait within its objective: a second where answers take
    /// milliseconds, ten where they take several seconds themselves.
    pub(crate) wait_ms: u64,
    /// Instances that mean demand asks for.
    pub(crate) instances: f64,
}

const MINUTE_MS: u64 = 60_000;

/// A trace with a time and a rate in each row.
const fn rates(name: &'static str, file: &'static str) -> Source {
    let value = "Value";
    let kind = Kind::Rate;
    Source {
        name,
        file: Some(file),
        value,
        kind,
        row_every_ms: None,
        step_ms: None,
        scale: 1.0,
        wait_ms: 1_000,
        instances: 6.0,
    }
}

/// Column of a table of processor shares of 100 virtual machines: 1 % stands for 10 requests per
/// second.
const fn machine(name: &'static str, column: &'static str) -> Source {
    let file = "azure_v1_100vm_cpu_max_5min.csv.gz";
    Source { value: column, row_every_ms: Some(5 * MINUTE_MS), scale: 10.0, ..rates(name, file) }
}

/// Requests of a language model, one row each.
const fn llm(name: &'static str, file: &'static str) -> Source {
    Source {
        value: "",
        kind: Kind::Events,
        step_ms: Some(1_000),
        wait_ms: 10_000,
        ..rates(name, file)
    }
}

/// A smooth curve with this mean in requests per second, seldom as they are on internal services and in
/// front of language models.
const fn curve(name: &'static str, scale: f64) -> Source {
    Source { file: None, scale, instances: 2.0, ..rates(name, "") }
}

/// A curve rises and falls by this part of its mean, in this time.
const SWING: f64 = 0.6;
const CURVE_MS: u64 = 36_000_000;
const CURVES: u64 = 30;

pub(crate) const SOURCES: [Source; 13] = [
    Source { value: "count", kind: Kind::Count, ..rates("worldcup98", "worldcup98_1min.csv.gz") },
    rates("mongo-01", "ms_mongodb-application-rps_mongo-01.csv.gz"),
    rates("mongo-02", "ms_mongodb-application-rps_mongo-02.csv.gz"),
    rates("ecommerce", "ms_ecommerce_api_rps_1h_labelled.csv.gz"),
    machine("azure-vm-all", "*"),
    machine("azure-vm-1", "#1"),
    machine("azure-vm-21", "#21"),
    machine("azure-vm-41", "#41"),
    machine("azure-vm-81", "#81"),
    llm("azure-llm-code", "azure_llm_2023_code.csv.gz"),
    llm("azure-llm-conv", "azure_llm_2023_conv.csv.gz"),
    curve("curve-1-rps", 1.0),
    curve("curve-0.1-rps", 0.1),
];

impl Source {
    /// Reads or makes it; none when its file is not there.
    pub(crate) fn read(&self, folder: Option<&Path>) -> anyhow::Result<Option<Series>> {
        let Some(file) = self.file else { return Ok(Some(made()?.scaled(self.scale))) };
        let Some(path) = folder.map(|folder| folder.join(file)).filter(|path| path.exists()) else {
            return Ok(None);
        };
        let series = self.parse(&path).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Some(series.scaled(self.scale)))
    }

    /// How many times demand grows within this time, where the curve says it: what few requests show of
    /// that is chance.
    pub(crate) fn growth_within(&self, lead_ms: u64) -> Option<f64> {
        let steepest = SWING / (1.0 - SWING * SWING).sqrt() * TAU / CURVE_MS as f64;
        self.file.is_none().then(|| 1.0 + steepest * lead_ms.max(MINUTE_MS) as f64)
    }

    fn parse(&self, path: &Path) -> anyhow::Result<Series> {
        let file = File::open(path)?;
        let text: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        let events = self.kind == Kind::Events;
        let value = |text: &str| text.parse::<Column>().unwrap_or(Column::At(1));
        let mut reader = CsvReader::new(CsvSpec {
            values: if events { Vec::new() } else { vec![value(self.value)] },
            row_every_ms: self.row_every_ms,
            rows_are_requests: events,
            header: Header::Yes,
            ..CsvSpec::default()
        });
        for line in BufReader::new(text).lines() {
            reader.line(&line?)?;
        }
        let (samples, _) = reader.finish()?;
        let (series, _) =
            Series::from_samples(samples, self.kind, self.step_ms.or(self.row_every_ms))?;
        Ok(series)
    }
}

/// A curve with a mean of one, by the minute.
fn made() -> anyhow::Result<Series> {
    let at = |at_ms: u64| 1.0 + SWING * (TAU * at_ms as f64 / CURVE_MS as f64).sin();
    let minutes = 0..CURVES * CURVE_MS / MINUTE_MS;
    let sample = |at_ms| Sample { at_ms, value: at(at_ms) };
    let samples = minutes.map(|minute| sample(minute * MINUTE_MS)).collect();
    let (series, _) = Series::from_samples(samples, Kind::Rate, Some(MINUTE_MS))?;
    Ok(series)
}
