//! Where history comes from, and what was read of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use foreshadow_backtest::read::{
    Column, CsvReader, CsvSpec, Header, LogFormat, LogReader, ReadReport,
};
use foreshadow_backtest::{Kind, MOST_RPS, Repairs, Sample, Series};
use serde::Serialize;

use super::args::{Args, ms};
use super::{prometheus, state_db};

/// No line may be longer; a longer one is no text.
const LONGEST_LINE: u64 = 1 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Found out by the first line.
    Auto,
    /// A table: comma, semicolon or tab between the columns.
    Csv,
    /// An access log in common or combined format.
    Common,
    /// JSON lines.
    Json,
}

/// What values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum KindArg {
    /// Requests per second.
    Rate,
    /// Requests per step.
    Count,
    /// Each row is one request.
    Events,
}

/// Demand as recorded, and how it was read.
#[derive(Debug)]
pub(super) struct History {
    pub(super) series: Series,
    pub(super) kind: Kind,
    pub(super) told: Told,
}

/// How the history was read.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    /// File, server or database.
    pub(super) source: String,
    pub(super) read: ReadReport,
    pub(super) repairs: Repairs,
}

/// Reads the history that the arguments name.
///
/// # Errors
/// When there is none, or none that can be understood.
pub(super) fn read(args: &Args) -> anyhow::Result<History> {
    let mut step_ms = args.step.map(ms);
    let (source, kind, samples, read) = if let Some(url) = &args.prometheus {
        let (samples, read) = prometheus::read(url, args)?;
        (url.clone(), Kind::Rate, samples, read)
    } else if let Some(path) = &args.state_db {
        let (kept_ms, samples, read) = state_db::read(path, args)?;
        step_ms = Some(kept_ms);
        (path.display().to_string(), Kind::Rate, samples, read)
    } else if let Some(path) = &args.file {
        let (kind, samples, read) = file(path, args)
            .with_context(|| format!("cannot use {} as a history", path.display()))?;
        (path.display().to_string(), kind, samples, read)
    } else {
        bail!("there is no history: give a file, --prometheus or --state-db")
    };
    ensure!(
        args.scale > 0.0 && args.scale.is_finite(),
        "--scale is {}, it must be above 0",
        args.scale
    );
    let (series, repairs) = Series::from_samples(samples, kind, step_ms)
        .with_context(|| format!("cannot use {source} as a history"))?;
    let peak_rps = series.rps.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
    ensure!(
        peak_rps * args.scale <= MOST_RPS,
        "--scale {:e} makes the highest demand {:e} rps, {MOST_RPS:e} are possible",
        args.scale,
        peak_rps * args.scale
    );
    let series = series.scaled(args.scale);
    let series = series.section(ms(args.skip), args.take.map_or(u64::MAX, ms));
    ensure!(
        !series.rps.is_empty(),
        "--skip and --take leave nothing of the {} s recorded",
        repairs.step_ms / 1_000
    );
    Ok(History { series, kind, told: Told { source, read, repairs } })
}

fn file(path: &Path, args: &Args) -> anyhow::Result<(Kind, Vec<Sample>, ReadReport)> {
    let raw: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path)?)
    };
    let mut raw = BufReader::new(raw);
    let is_gzip = raw.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let text: Box<dyn BufRead> =
        if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) };
    let mut lines = Lines { text, line: Vec::new(), number: 0 };
    let Some(first) = lines.next_line()? else { bail!("it is empty") };
    let first = first.into_owned();
    ensure!(
        args.format != Format::Auto || !first.starts_with('#'),
        "it begins with a comment, so that nobody can tell what it is; say --format common, json or csv"
    );
    let log = match args.format {
        Format::Auto => LogFormat::of(&first),
        Format::Csv => None,
        Format::Common => Some(LogFormat::Common),
        Format::Json => Some(LogFormat::Json),
    };
    match log {
        Some(format) => {
            let mut reader = LogReader::new(format, args.time.clone());
            reader.line(&first);
            while let Some(line) = lines.next_line()? {
                reader.line(&line);
            }
            let (samples, read) = reader.finish()?;
            Ok((Kind::Events, samples, read))
        }
        None => {
            let mut reader = CsvReader::new(csv_spec(args));
            reader.line(&first)?;
            while let Some(line) = lines.next_line()? {
                reader.line(&line)?;
            }
            let (samples, read) = reader.finish()?;
            Ok((args.kind.into(), samples, read))
        }
    }
}

fn csv_spec(args: &Args) -> CsvSpec {
    let column = |text: &String| match text.parse::<Column>() {
        Ok(column) => column,
        Err(never) => match never {},
    };
    CsvSpec {
        time: args.time.as_ref().map(column),
        values: args.value.iter().map(column).collect(),
        row_every_ms: args.step.filter(|_| args.time.is_none()).map(ms),
        rows_are_requests: args.kind == KindArg::Events,
        header: match args.header {
            None => Header::Auto,
            Some(true) => Header::Yes,
            Some(false) => Header::No,
        },
    }
}

impl KindArg {
    /// Whether something else was asked for than what is taken without.
    pub(super) fn is_given(self) -> bool {
        self != Self::Rate
    }
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Rate => Self::Rate,
            KindArg::Count => Self::Count,
            KindArg::Events => Self::Events,
        }
    }
}

/// Lines of what may be no text at all.
struct Lines {
    text: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn next_line(&mut self) -> anyhow::Result<Option<std::borrow::Cow<'_, str>>> {
        self.line.clear();
        self.number += 1;
        let number = self.number;
        let read = (&mut self.text)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut self.line)
            .with_context(|| format!("line {number} cannot be read"))?;
        if read == 0 {
            return Ok(None);
        }
        ensure!(
            self.line.last() == Some(&b'\n') || (read as u64) < LONGEST_LINE,
            "line {number} is longer than {LONGEST_LINE} bytes: this is no table and no log"
        );
        let end = self.line.len() - usize::from(self.line.last() == Some(&b'\n'));
        Ok(Some(String::from_utf8_lossy(&self.line[..end])))
    }
}
