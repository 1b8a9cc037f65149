//! `foreshadow reservations`: what will be needed of each place, and when it must be ordered.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::client::Admin;
use crate::fitness::path_segment;

/// Arguments of `foreshadow reservations`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this service.
    service: Option<String>,
    /// How far ahead, at most 7d.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    within: String,
    #[command(flatten)]
    admin: Admin,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Listing {
    services: Vec<Service>,
    places: Vec<Row>,
}

#[derive(Deserialize)]
struct Service {
    service: String,
    reservations: Vec<Row>,
    unplaced: Vec<Row>,
    missing: Vec<Missing>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    place: String,
    #[serde(default)]
    tier: String,
    count: u32,
    from_ms: u64,
    until_ms: u64,
    #[serde(default)]
    order_by_ms: Option<u64>,
    #[serde(default)]
    open: bool,
    /// An object with a sentence, or the sentence.
    #[serde(default)]
    why: Value,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
struct Missing {
    #[serde(default)]
    curve: Option<String>,
    why: String,
    #[serde(default)]
    known_at_ms: Option<u64>,
}

/// Asks a running node and prints what it says.
///
/// # Errors
/// When the node does not answer or refuses, and when the output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut client = args.admin.client();
    let mut path = format!("/api/v1/reservations?within={}", path_segment(&args.within));
    if let Some(service) = &args.service {
        path += &format!("&service={}", path_segment(service));
    }
    let answer: Value = runtime.block_on(client.get(&path))?;
    let mut out = crate::out::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let listing: Listing = serde_json::from_value(answer)?;
    write!(out, "{}", table(&listing))?;
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 7] = ["SERVICE", "PLACE", "TIER", "COUNT", "FROM", "UNTIL", "ORDER BY"];

fn table(listing: &Listing) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for service in &listing.services {
        rows.extend(service.reservations.iter().map(|row| cells(&service.service, row)));
        let nowhere = |row: &Row| {
            let mut cells = cells(&service.service, row);
            (cells[1], cells[2]) = ("NOWHERE".to_owned(), "-".to_owned());
            cells
        };
        rows.extend(service.unplaced.iter().map(nowhere));
    }
    if listing.services.len() > 1 {
        rows.extend(listing.places.iter().map(|row| cells("all", row)));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for service in &listing.services {
        let name = &service.service;
        for row in service.reservations.iter().chain(&service.unplaced) {
            let why = row.why["text"].as_str().or(row.why.as_str()).unwrap_or_default();
            let events = match row.events.join(", ") {
                names if names.is_empty() => names,
                names => format!("; announced: {names}"),
            };
            text += &format!("{name}, {} from {}: {why}{events}\n", row.count, time(row.from_ms));
        }
        for missing in &service.missing {
            let curve =
                missing.curve.as_ref().map_or_else(String::new, |c| format!("beyond curve {c}, "));
            let when = missing
                .known_at_ms
                .map_or_else(String::new, |at| format!("; it can be known from {} on", time(at)));
            text += &format!("{name}, not known: {curve}{}{when}\n", missing.why);
        }
    }
    text
}

fn cells(service: &str, row: &Row) -> [String; 7] {
    let until = if row.open { "-".to_owned() } else { time(row.until_ms) };
    [
        service.to_owned(),
        row.place.clone(),
        row.tier.clone(),
        row.count.to_string(),
        time(row.from_ms),
        until,
        row.order_by_ms.map_or_else(|| "-".to_owned(), time),
    ]
}

/// UTC, to the second.
fn time(ms: u64) -> String {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(ms))
        .map_or_else(|| ms.to_string(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_say_where_and_until_when_and_what_is_not_known() {
        let row = |place: &str, open| {
            json!({ "place": place, "tier": "full", "count": 3, "from_ms": 28_800_000, "open": open,
                "until_ms": 72_000_000, "order_by_ms": 28_620_000, "why": { "text": "figures" },
                "events": ["sale"] })
        };
        let listing = json!({
            "services": [{ "service": "shop", "reservations": [row("near", false), row("far", true)],
                "unplaced": [{ "count": 1, "from_ms": 0, "until_ms": 900_000, "why": "no room" }],
                "missing": [{ "curve": "1w", "why": "3 of 24 spans", "known_at_ms": 86_400_000 }] }],
            "places": [],
        });
        let text = table(&serde_json::from_value(listing).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "shop     near     full  3      1970-01-01T08:00:00Z  1970-01-01T20:00:00Z  1970-01-01T07:57:00Z"
        );
        assert!(lines[2].contains("far      full  3      1970-01-01T08:00:00Z  -  "), "{text}");
        assert!(lines[3].contains("NOWHERE  -     1"), "{text}");
        assert_eq!(lines[4], "shop, 3 from 1970-01-01T08:00:00Z: figures; announced: sale");
        let last = "shop, not known: beyond curve 1w, 3 of 24 spans; it can be known from 1970-01-02T00:00:00Z on";
        assert_eq!(lines[7], last);
    }
}
