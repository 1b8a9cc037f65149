//! Comma-separated values, or those separated by semicolons or tabs.

use super::{ReadError, ReadReport, Reading, parse_time, shortened};
use crate::Sample;

/// Headings that are taken for a time.
const TIME_NAMES: [&str; 9] =
    ["time", "timestamp", "date", "datetime", "ds", "ts", "period", "at", "at_ms"];
/// A number from here on looks like a time: seconds since 1970, in 2001.
const TIMES_FROM: f64 = 1e9;
const REMEDY: &str = "name the columns with --time and --value, by heading or as #1, #2, ...";
/// The same where columns are there and what they hold cannot be read.
const UNREAD: &str = "name the columns with --time and --value, by heading or as #1, #2, ...; times are Unix times or as 2026-11-23T09:00:00Z, numbers have a point and no other mark; an access log is read with --format common";

/// Which column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its heading; letter case does not matter.
    Named(String),
    /// By its position, from 1.
    At(usize),
}

/// Whether the first line holds headings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It does if it does not read as data.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What a file of comma-separated values holds where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsvSpec {
    /// The time; found by its heading or looks if not given.
    pub time: Option<Column>,
    /// The values, summed; the first numbers beside the time if none is given.
    pub values: Vec<Column>,
    /// Where rows have no time, they follow each other so far apart.
    pub row_every_ms: Option<u64>,
    /// Every row counts as one request, whatever its values.
    pub rows_are_requests: bool,
    /// Whether the first line holds headings.
    pub header: Header,
}

/// Reads line by line.
#[derive(Clone, Debug)]
pub struct CsvReader {
    spec: CsvSpec,
    reading: Reading,
    layout: Option<Layout>,
    cells: Vec<String>,
    rows: u64,
}

/// Where things are.
#[derive(Clone, Debug)]
struct Layout {
    separator: char,
    time: Option<usize>,
    values: Vec<usize>,
}

impl std::str::FromStr for Column {
    type Err = std::convert::Infallible;

    /// `#2` is the second column, anything else a heading.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.strip_prefix('#').and_then(|at| at.parse().ok()).filter(|at| *at > 0);
        Ok(at.map_or_else(|| Self::Named(text.to_owned()), Self::At))
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => write!(f, "{name:?}"),
            Self::At(at) => write!(f, "#{at}"),
        }
    }
}

impl CsvReader {
    /// A reader that has read nothing.
    #[must_use]
    pub fn new(spec: CsvSpec) -> Self {
        Self { spec, reading: Reading::default(), layout: None, cells: Vec::new(), rows: 0 }
    }

    /// Takes one line, without its end.
    ///
    /// # Errors
    /// When the first line does not have the columns asked for.
    pub fn line(&mut self, line: &str) -> Result<(), ReadError> {
        let number = self.reading.next_line();
        let line = line.trim_start_matches('\u{feff}').trim_end();
        if line.is_empty() || line.starts_with("# ") {
            return Ok(());
        }
        if self.layout.is_none() && self.first_line(number, line)? {
            return Ok(());
        }
        let Some(layout) = &self.layout else { return Ok(()) };
        split(line, layout.separator, &mut self.cells);
        let sample = self.sample(layout);
        self.rows += 1;
        self.reading.take(sample);
        Ok(())
    }

    /// All samples, in the order read.
    ///
    /// # Errors
    /// When there are none, or more lines are unreadable than not.
    pub fn finish(self) -> Result<(Vec<Sample>, ReadReport), ReadError> {
        self.reading.finish(UNREAD)
    }

    fn sample(&self, layout: &Layout) -> Result<Sample, String> {
        let cell = |at: usize| {
            let count = self.cells.len();
            self.cells
                .get(at)
                .ok_or_else(|| format!("it has {count} columns, column #{} is wanted", at + 1))
        };
        let at_ms = match layout.time {
            None => self.rows.saturating_mul(self.spec.row_every_ms.unwrap_or(1)),
            Some(at) => {
                let text = cell(at)?;
                parse_time(text).ok_or_else(|| format!("{:?} is no time", shortened(text)))?
            }
        };
        if self.spec.rows_are_requests {
            return Ok(Sample { at_ms, value: 1.0 });
        }
        let mut value = 0.0;
        for at in &layout.values {
            let text = cell(*at)?;
            let number = parse_number(text);
            value += number.ok_or_else(|| format!("{:?} is no number", shortened(text)))?;
        }
        Ok(Sample { at_ms, value })
    }

    /// Finds out where things are; true if the line holds headings and no data.
    fn first_line(&mut self, number: u64, line: &str) -> Result<bool, ReadError> {
        let separator = separator(line);
        split(line, separator, &mut self.cells);
        let cells = &self.cells;
        let is_data = |at: usize| {
            cells.get(at).is_some_and(|cell| {
                cell.is_empty() || parse_time(cell).is_some() || parse_number(cell).is_some()
            })
        };
        let named = |column: &Column| matches!(column, Column::Named(_));
        let asks_names = self.spec.time.iter().chain(&self.spec.values).any(named);
        let is_header = match self.spec.header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => asks_names || !(0..cells.len()).all(is_data),
        };
        let layout =
            Layout { separator, time: self.time_column(number, is_header)?, values: Vec::new() };
        let values = self.value_columns(number, &layout, is_header)?;
        self.reading.report.reading = self.told(&layout, &values, is_header);
        self.layout = Some(Layout { values, ..layout });
        Ok(is_header)
    }

    fn time_column(&self, line: u64, is_header: bool) -> Result<Option<usize>, ReadError> {
        if let Some(column) = &self.spec.time {
            return self.find(line, "time", column).map(Some);
        }
        let by_name = |cell: &String| TIME_NAMES.contains(&cell.to_lowercase().as_str());
        let may_have_none = self.spec.row_every_ms.is_some();
        // Where there may be no time, a small number is a value.
        let is_time = |cell: &str| parse_number(cell).is_none_or(|number| number >= TIMES_FROM);
        let by_look =
            |cell: &String| parse_time(cell).is_some() && (!may_have_none || is_time(cell));
        let found = self
            .cells
            .iter()
            .position(|cell| if is_header { by_name(cell) } else { by_look(cell) });
        if found.is_none() && may_have_none {
            return Ok(None);
        }
        found.map(Some).ok_or_else(|| ReadError::NoColumn {
            line,
            what: "time",
            wanted: if is_header { "by any usual heading".to_owned() } else { String::new() },
            found: self.headings(),
            remedy: "name it with --time, by heading or as #1; for rows without a time give --step; times are Unix times or as 2026-11-23T09:00:00Z; an access log is read with --format common",
        })
    }

    fn value_columns(
        &self,
        line: u64,
        layout: &Layout,
        is_header: bool,
    ) -> Result<Vec<usize>, ReadError> {
        if self.spec.rows_are_requests {
            return Ok(Vec::new());
        }
        if !self.spec.values.is_empty() {
            let all = |column: &Column| *column == Column::Named("*".to_owned());
            if self.spec.values.iter().any(all) {
                return Ok((0..self.cells.len()).filter(|at| Some(*at) != layout.time).collect());
            }
            return self.spec.values.iter().map(|c| self.find(line, "value", c)).collect();
        }
        let number = |at: &usize| is_header || parse_number(&self.cells[*at]).is_some();
        let first = (0..self.cells.len()).filter(|at| Some(*at) != layout.time).find(number);
        first.map(|at| vec![at]).ok_or_else(|| ReadError::NoColumn {
            line,
            what: "value",
            wanted: "beside the time".to_owned(),
            found: self.headings(),
            remedy: "name it with --value, or count rows with --kind events",
        })
    }

    fn find(&self, line: u64, what: &'static str, column: &Column) -> Result<usize, ReadError> {
        let found = match column {
            Column::Named(name) => {
                self.cells.iter().position(|cell| cell.eq_ignore_ascii_case(name))
            }
            Column::At(at) => at.checked_sub(1).filter(|at| *at < self.cells.len()),
        };
        found.ok_or_else(|| ReadError::NoColumn {
            line,
            what,
            wanted: column.to_string(),
            found: self.headings(),
            remedy: REMEDY,
        })
    }

    fn headings(&self) -> String {
        const MOST: usize = 12;
        let named: Vec<String> =
            self.cells.iter().take(MOST).map(|cell| format!("{:?}", shortened(cell))).collect();
        let more = if self.cells.len() > MOST { ", ..." } else { "" };
        format!("{}{more}", named.join(", "))
    }

    fn told(&self, layout: &Layout, values: &[usize], is_header: bool) -> String {
        let name = |at: &usize| match self.cells.get(*at) {
            Some(cell) if is_header => format!("column {:?}", shortened(cell)),
            _ => format!("column #{}", at + 1),
        };
        let time = layout.time.as_ref().map_or_else(|| "the row".to_owned(), name);
        let value = match values {
            [] => "each row one request".to_owned(),
            [only] => format!("value from {}", name(only)),
            many => format!("values from {} columns, summed", many.len()),
        };
        format!("time from {time}, {value}")
    }
}

fn separator(line: &str) -> char {
    // A semicolon at the end only ends the line.
    let line = line.trim_end_matches(';');
    [',', ';', '\t'].into_iter().max_by_key(|c| line.matches(*c).count()).unwrap_or(',')
}

/// Splits a line into `cells`; separators in quotes are text, two quotes in quotes are one.
fn split(line: &str, separator: char, cells: &mut Vec<String>) {
    cells.clear();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                cells.push(cell.trim().to_owned());
                cell.clear();
            }
            c => cell.push(c),
        }
    }
    cells.push(cell.trim().to_owned());
}

fn parse_number(text: &str) -> Option<f64> {
    text.trim_end_matches(';').trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: CsvSpec, text: &str) -> Result<(Vec<(u64, f64)>, ReadReport), ReadError> {
        let mut reader = CsvReader::new(spec);
        text.lines().try_for_each(|line| reader.line(line))?;
        let (samples, report) = reader.finish()?;
        Ok((samples.iter().map(|s| (s.at_ms, s.value)).collect(), report))
    }

    #[test]
    fn columns_are_found_by_heading_by_looks_and_by_position() {
        let quoted =
            "\"TimeStamp\",\"Value\",\"Label\"\r\n\"1970-01-01T00:01:00Z\",\"6.5\",\"0\"\r\n";
        assert_eq!(read(CsvSpec::default(), quoted).unwrap().0, [(60_000, 6.5)]);
        assert_eq!(
            read(CsvSpec::default(), "60;5;\n120;7;\n").unwrap().0,
            [(60_000, 5.0), (120_000, 7.0)]
        );
        let spec = CsvSpec {
            time: Some(Column::At(3)),
            values: vec!["load".parse().unwrap(), "#2".parse().unwrap()],
            ..CsvSpec::default()
        };
        let (samples, report) = read(spec, "Load,b,when\n1,2,60\n").unwrap();
        assert_eq!(samples, [(60_000, 3.0)]);
        assert_eq!(report.reading, "time from column \"when\", values from 2 columns, summed");
    }

    #[test]
    fn rows_without_time_and_rows_that_are_requests() {
        let spec = CsvSpec {
            row_every_ms: Some(300_000),
            values: vec!["*".parse().unwrap()],
            header: Header::Yes,
            ..CsvSpec::default()
        };
        assert_eq!(read(spec, "17,18\n1,2\n3,4\n").unwrap().0, [(0, 3.0), (300_000, 7.0)]);
        let spec = CsvSpec { row_every_ms: Some(300_000), ..CsvSpec::default() };
        assert_eq!(read(spec.clone(), "7\n8\n").unwrap().0, [(0, 7.0), (300_000, 8.0)]);
        for text in ["time,v\n60,1\n180,2\n", "1970-01-01T00:01:00Z,1\n1970-01-01T00:03:00Z,2\n"] {
            assert_eq!(
                read(spec.clone(), text).unwrap().0,
                [(60_000, 1.0), (180_000, 2.0)],
                "{text}"
            );
        }
        let text = "1700000000,5\n1700000600,6\n";
        let times = [(1_700_000_000_000, 5.0), (1_700_000_600_000, 6.0)];
        assert_eq!(read(spec, text).unwrap().0, times);
        let spec = CsvSpec { rows_are_requests: true, ..CsvSpec::default() };
        let text = "TIMESTAMP,Tokens\n1970-01-01 00:00:01.5,x\n";
        assert_eq!(read(spec, text).unwrap().0, [(1_500, 1.0)]);
    }

    #[test]
    fn bad_rows_are_left_out_and_the_first_is_told() {
        let text = "time,v\n60,1\nnever,2\n120,many\n180,3\n240,\"4\"\n300\n";
        let (samples, report) = read(CsvSpec::default(), text).unwrap();
        assert_eq!(samples, [(60_000, 1.0), (180_000, 3.0), (240_000, 4.0)]);
        assert_eq!((report.lines, report.samples, report.skipped), (7, 3, 3));
        assert_eq!(report.first_skipped.as_deref(), Some("line 3: \"never\" is no time"));
    }

    #[test]
    fn errors_say_where_and_how_to_mend() {
        let spec = CsvSpec { values: vec!["rps".parse().unwrap()], ..CsvSpec::default() };
        let error = read(spec, "time,requests\n60,1\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 1: there is no value column \"rps\"; the columns are \"time\", \"requests\"; name \
             the columns with --time and --value, by heading or as #1, #2, ..."
        );
        let error = read(CsvSpec::default(), "a,b\n1,2\n").unwrap_err().to_string();
        assert!(error.starts_with("line 1: there is no time column"), "{error}");
        let error = read(CsvSpec::default(), "time,v\nx,1\ny,1\n60,1\n").unwrap_err().to_string();
        assert!(
            error.starts_with("2 of 4 lines cannot be read, the first of them line 2"),
            "{error}"
        );
        assert_eq!(read(CsvSpec::default(), "time,v\n"), Err(ReadError::Empty { lines: 1 }));
    }
}
