//! The public traces, and how each is read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use foreshadow_backtest::read::{Column, CsvReader, CsvSpec, Header};
use foreshadow_backtest::{Kind, Series};

/// One trace of the bench.
pub(crate) struct Source {
    /// What it is called in the output.
    pub(crate) name: &'static str,
    file: &'static str,
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
}

const MINUTE_MS: u64 = 60_000;

/// A trace with a time and a rate in each row.
const fn rates(name: &'static str, file: &'static str) -> Source {
    let value = "Value";
    let kind = Kind::Rate;
    Source {
        name,
        file,
        value,
        kind,
        row_every_ms: None,
        step_ms: None,
        scale: 1.0,
        wait_ms: 1_000,
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

pub(crate) const SOURCES: [Source; 11] = [
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
];

impl Source {
    /// Reads it; none when the file is not there.
    pub(crate) fn read(&self, folder: &Path) -> anyhow::Result<Option<Series>> {
        let path = folder.join(self.file);
        if !path.exists() {
            return Ok(None);
        }
        let series = self.parse(&path).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Some(series.scaled(self.scale)))
    }

    fn parse(&self, path: &Path) -> anyhow::Result<Series> {
        let file = File::open(path)?;
        let text: Box<dyn Read> = if self.file.ends_with(".gz") {
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
