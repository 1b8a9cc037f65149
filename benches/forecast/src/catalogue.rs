//! Which files hold which series.

use std::path::{Path, PathBuf};

use crate::parse::{Table, TraceError, moment_ms, read_table, read_text};
use crate::trace::Trace;

/// Names the folder of the traces; they are no part of the repository.
pub const TRACES_VARIABLE: &str = "FORESHADOW_TRACES";

const MINUTE_MS: u64 = 60_000;
/// One of so many machines of the file with a hundred of them.
const MACHINE_STRIDE: usize = 10;

/// Files of a moment and values in a first line's columns, and the columns that count.
const TABLES: [(&str, &[&str]); 10] = [
    ("worldcup98_1min", &["count"]),
    ("ms_ecommerce_api_rps_1h_labelled", &["Value"]),
    ("ms_mongodb-application-rps_mongo-01", &["Value"]),
    ("ms_mongodb-application-rps_mongo-02", &["Value"]),
    ("ms_mongodb-machine-rps_machine-01", &["Value"]),
    ("ms_data-ingress-rate_ingress-01", &["Value"]),
    ("ms_data-ingress-rate_ingress-04", &["Value"]),
    ("nab_elb_request_count_8c0756", &["value"]),
    ("prophet_example_pedestrians_multivariate", &["location_4", "location_41"]),
    ("prophet_example_wp_log_peyton_manning", &["y"]),
];
/// Files of `position,value;` lines, and the length of their steps.
const LIMBO: [(&str, u64); 2] =
    [("wikipedia_limbo_1h", 60 * MINUTE_MS), ("ibm_transactions_1week_15min", 15 * MINUTE_MS)];
/// Files of one request per line, and the steps in which they are counted.
const REQUESTS: [&str; 2] = ["azure_llm_2023_code", "azure_llm_2023_conv"];
const REQUEST_STEPS_MS: [u64; 2] = [100, 1_000];
const MACHINES: &str = "azure_v1_100vm_cpu_max_5min";

/// The folder of the traces that [`TRACES_VARIABLE`] names; none when it does not exist.
pub fn traces_dir() -> Option<PathBuf> {
    std::env::var_os(TRACES_VARIABLE).map(PathBuf::from).filter(|dir| dir.is_dir())
}

/// Every known trace that is in `dir`, in a fixed order; files that are not there are left out.
///
/// # Errors
///
/// [`TraceError`] when a file is there and cannot be read.
pub fn load_all(dir: &Path) -> Result<Vec<Trace>, TraceError> {
    let present = |name: &str, ending: &str| {
        Some(dir.join(format!("{name}.{ending}"))).filter(|path| path.is_file())
    };
    let mut traces = vec![];
    for (name, columns) in TABLES {
        if let Some(path) = present(name, "csv.gz") {
            traces.extend(columns_of(name, columns, &read_table(&path)?));
        }
    }
    for (name, step_ms) in LIMBO {
        if let Some(path) = present(name, "txt") {
            traces.push(limbo(name, step_ms, &path)?);
        }
    }
    if let Some(path) = present(MACHINES, "csv.gz") {
        traces.extend(machines(&path)?);
    }
    for name in REQUESTS {
        if let Some(path) = present(name, "csv.gz") {
            traces.extend(requests(name, &path)?);
        }
    }
    Ok(traces)
}

fn columns_of(name: &str, columns: &[&str], table: &Table) -> Vec<Trace> {
    let mut traces = vec![];
    for column in columns {
        let Some(index) = table.columns.iter().position(|known| known == column) else { continue };
        let value = |(at_ms, values): &(i64, Vec<Option<f64>>)| {
            values.get(index).copied().flatten().map(|value| (*at_ms, value))
        };
        let moments: Vec<(i64, f64)> = table.rows.iter().filter_map(value).collect();
        let name = match columns.len() {
            1 => name.to_owned(),
            _ => format!("{name}/{column}"),
        };
        traces.extend(Trace::from_moments(&name, &moments));
    }
    traces
}

fn limbo(name: &str, step_ms: u64, path: &Path) -> Result<Trace, TraceError> {
    let mut values = vec![];
    for (number, line) in read_text(path)?.lines().enumerate() {
        let field = line.trim().trim_end_matches(';').split_once(',');
        let value = field.and_then(|(_, value)| value.trim().parse().ok());
        let value: f64 = value.ok_or_else(|| TraceError::Line {
            path: path.to_owned(),
            line: number + 1,
            text: line.to_owned(),
            expected: "\"position,value;\"",
        })?;
        values.push(Some(value));
    }
    Ok(Trace { name: name.to_owned(), start_ms: 0, step_ms, values })
}

/// Every tenth machine, in percent of its processors.
fn machines(path: &Path) -> Result<Vec<Trace>, TraceError> {
    let text = read_text(path)?;
    let mut lines = text.lines();
    let ids: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let trace = |index: usize| Trace {
        name: format!("azure_v1_vm/{}", ids[index]),
        start_ms: 0,
        step_ms: 5 * MINUTE_MS,
        values: rows.iter().map(|row| row.get(index)?.trim().parse().ok()).collect(),
    };
    Ok((0..ids.len()).step_by(MACHINE_STRIDE).map(trace).collect())
}

fn requests(name: &str, path: &Path) -> Result<Vec<Trace>, TraceError> {
    let text = read_text(path)?;
    let mut moments_ms = vec![];
    for (number, line) in text.lines().enumerate().skip(1) {
        let at_ms = line.split(',').next().and_then(moment_ms);
        moments_ms.push(at_ms.ok_or_else(|| TraceError::Line {
            path: path.to_owned(),
            line: number + 1,
            text: line.to_owned(),
            expected: "a line that begins with a date and a time",
        })?);
    }
    let counts =
        |step_ms: &u64| Trace::from_events(&format!("{name}/{step_ms}ms"), &moments_ms, *step_ms);
    Ok(REQUEST_STEPS_MS.iter().filter_map(counts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_becomes_one_trace_per_column() {
        let row = |at_ms, a, b| (at_ms, vec![Some(a), Some(b)]);
        let table = Table {
            columns: vec!["a".to_owned(), "b".to_owned()],
            rows: vec![row(0, 1.0, 10.0), row(60_000, 2.0, 20.0), row(180_000, 3.0, 30.0)],
        };
        let traces = columns_of("t", &["b", "missing"], &table);
        assert_eq!(traces.len(), 1);
        assert_eq!((traces[0].name.as_str(), traces[0].step_ms), ("t/b", 120_000));
        let alone = columns_of("t", &["a"], &table);
        assert_eq!(alone[0].name, "t");
    }
}
