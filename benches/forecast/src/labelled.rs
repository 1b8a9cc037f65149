//! Series whose failures are labelled.

use std::path::{Path, PathBuf};

use crate::parse::{Table, TraceError, read_table, read_text};
use crate::trace::Trace;

/// Names a column of labels may have, in small letters; every other first one holds the values.
const LABELS: [&str; 4] = ["label", "is_anomaly", "anomaly", "is_failure"];
/// The first part of each series is learned from and not scored.
const WARM_UP_SHARE: usize = 10;

/// One series and the steps that are labelled as failures.
pub struct Labelled {
    /// Values.
    pub trace: Trace,
    /// Labelled spans of steps, first and one past the last.
    pub spans: Vec<(usize, usize)>,
    /// Steps from here on are scored.
    pub scored_from: usize,
}

/// All series in `dir` that have labels, by name: files ending in `.csv` or `.csv.gz` whose first
/// line names a column `Label`, `is_anomaly`, `anomaly` or `is_failure`.
///
/// # Errors
///
/// [`TraceError`] when the folder or such a file cannot be read.
pub fn load_labelled(dir: &Path) -> Result<Vec<Labelled>, TraceError> {
    let failed = |source| TraceError::Read { path: dir.to_owned(), source };
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failed)?;
    paths.sort();
    let mut series = vec![];
    for path in paths {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = file.strip_suffix(".csv.gz").or_else(|| file.strip_suffix(".csv"));
        let Some(name) = name.filter(|_| path.is_file()) else { continue };
        let names_labels = |line: &str| line.split(',').any(is_label);
        if read_text(&path)?.lines().next().is_some_and(names_labels) {
            series.extend(labelled(name, &read_table(&path)?));
        }
    }
    Ok(series)
}

fn is_label(column: &str) -> bool {
    LABELS.contains(&column.trim().trim_matches('"').to_lowercase().as_str())
}

fn labelled(name: &str, table: &Table) -> Option<Labelled> {
    let moments = |nth: usize| -> Vec<(i64, f64)> {
        table.rows.iter().filter_map(|(at_ms, row)| Some((*at_ms, (*row.get(nth)?)?))).collect()
    };
    let column = |wanted: bool| table.columns.iter().position(|name| is_label(name) == wanted);
    let trace = Trace::from_moments(name, &moments(column(false)?))?;
    let mut marked = vec![false; trace.values.len()];
    for (at_ms, label) in moments(column(true)?) {
        let at = (at_ms - trace.start_ms + trace.step_ms as i64 / 2) / trace.step_ms as i64;
        let at = usize::try_from(at).ok().and_then(|at| marked.get_mut(at));
        at.into_iter().for_each(|marked| *marked |= label > 0.0);
    }
    let mut spans: Vec<(usize, usize)> = vec![];
    for at in (0..marked.len()).filter(|at| marked[*at]) {
        match spans.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => spans.push((at, at + 1)),
        }
    }
    let scored_from = trace.values.len() / WARM_UP_SHARE;
    spans.retain(|(start, _)| *start >= scored_from);
    Some(Labelled { trace, spans, scored_from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_name_and_put_beside_their_values() {
        let row = |at: i64, label: f64| (at * 60_000, vec![Some(label), Some(5.0)]);
        let labels = (0..40).map(|at| row(at, f64::from(u8::from((20..23).contains(&at)))));
        let table =
            Table { columns: vec!["Label".to_owned(), "Value".to_owned()], rows: labels.collect() };
        let series = labelled("s", &table).unwrap();
        assert_eq!((series.spans, series.scored_from), (vec![(20, 23)], 4));
        assert!(series.trace.values.iter().all(|value| *value == Some(5.0)));
        assert!(is_label("\"Label\"") && is_label("is_anomaly") && !is_label("Value"));
    }
}
