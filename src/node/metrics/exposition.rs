//! The text format of Prometheus, as far as single values are looked for in it.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>; OpenMetrics differs in what comes
//! after a value, which is not looked at.

use std::borrow::Cow;
use std::collections::BTreeMap;

use foreshadow_config::ScrapedSeries;

/// Longer lines are left out.
const LONGEST_LINE: usize = 16 << 10;
/// Lines beyond these are not looked at.
const MOST_LINES: usize = 200_000;

/// Of each metric the sum of the series that are meant by it; those without any are left out.
pub(super) fn sums<'a>(
    text: &str,
    wanted: &'a BTreeMap<String, ScrapedSeries>,
) -> BTreeMap<&'a str, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().take(MOST_LINES) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') || line.len() > LONGEST_LINE {
            continue;
        }
        let name = &line[..line.find(['{', ' ', '\t']).unwrap_or(line.len())];
        if !wanted.values().any(|scraped| scraped.series.name == name) {
            continue;
        }
        let Some((labels, value)) = rest(&line[name.len()..]) else { continue };
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, &**v)).collect();
        for (metric, scraped) in wanted {
            if scraped.series.selects(name, &labels) {
                *sums.entry(metric.as_str()).or_default() += value;
            }
        }
    }
    sums
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Labels and value of what follows a name; nothing where it is malformed or no number.
fn rest(text: &str) -> Option<(Labels<'_>, f64)> {
    let mut labels = Vec::new();
    let mut text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        text = inner.trim_start();
        loop {
            if let Some(after) = text.strip_prefix('}') {
                text = after;
                break;
            }
            let (label, after) = text.split_once('=')?;
            let (value, after) = quoted(after.trim_start())?;
            labels.push((label.trim(), value));
            text = after.trim_start();
            text = text.strip_prefix(',').map_or(text, str::trim_start);
        }
    }
    let value: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((labels, value))
}

/// The text in quotes that `text` begins with, and what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (value, after) = (&inner[..end], &inner[end + 1..]);
    if !value.contains('\\') {
        return Some((Cow::Borrowed(value), after));
    }
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'n' => plain.push('\n'),
                other => plain.push(other),
            },
            c => plain.push(c),
        }
    }
    Some((Cow::Owned(plain), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(all: &[(&str, &str)]) -> BTreeMap<String, ScrapedSeries> {
        let series =
            |text: &str| ScrapedSeries { series: text.parse().unwrap(), rate: false, scale: 1.0 };
        all.iter().map(|(name, text)| ((*name).to_owned(), series(text))).collect()
    }

    const TEXT: &str = r#"# HELP jobs Waiting jobs.
# TYPE jobs gauge
jobs{queue="mail",host="a"} 3
jobs{queue="mail",host="b",} 4 1395066363000
jobs{queue="with \"quotes\", } and \\"} 5e2
jobs_total 7 # {trace_id="x"} 0.67
  process_cpu_seconds_total	12.5
nan NaN
inf +Inf
jobs{queue="mail" 9
jobs{queue=mail} 9
jobs
up 1"#;

    #[test]
    fn series_are_found_by_name_and_labels_and_summed() {
        let wanted = wanted(&[
            ("mail", "jobs{queue=\"mail\"}"),
            ("b", "jobs{host=\"b\"}"),
            ("odd", "jobs{queue=\"with \\\"quotes\\\", } and \\\\\"}"),
            ("all", "jobs"),
            ("total", "jobs_total"),
            ("cpu", "process_cpu_seconds_total"),
            ("up", "up"),
            ("nan", "nan"),
            ("inf", "inf"),
            ("none", "job"),
        ]);
        let expected = [
            ("all", 507.0),
            ("b", 4.0),
            ("cpu", 12.5),
            ("mail", 7.0),
            ("odd", 500.0),
            ("total", 7.0),
            ("up", 1.0),
        ];
        assert_eq!(sums(TEXT, &wanted), BTreeMap::from(expected));
    }

    #[test]
    fn cut_off_anywhere_or_garbled_it_is_harmless() {
        let wanted = wanted(&[("all", "jobs"), ("mail", "jobs{queue=\"mail\"}")]);
        for end in 0..TEXT.len() {
            let sums = sums(&TEXT[..end], &wanted);
            assert!(sums.values().all(|sum| sum.is_finite()), "{end}: {sums:?}");
        }
        for text in ["jobs{", "jobs{a=\"", "jobs{a=\"\\", "jobs{a=\"\\\\\"", "jobs{}", "jobs{,}1"] {
            assert_eq!(sums(text, &wanted), BTreeMap::new(), "{text}");
        }
        let long = format!("jobs{{a=\"{}\"}} 1", "x".repeat(LONGEST_LINE));
        assert_eq!(sums(&long, &wanted), BTreeMap::new());
    }
}
