//! History from a Prometheus server, by its HTTP API (`/api/v1/query_range`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use foreshadow_backtest::Sample;
use foreshadow_backtest::read::{ReadReport, parse_time};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::args::{Args, USUAL_FROM, ms};

/// Points a server gives per series and answer; Prometheus refuses more than 11,000.
const POINTS: u64 = 10_000;
const USUAL_STEP_MS: u64 = 15_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long it is said what is waited for.
const SILENT: Duration = Duration::from_secs(2);
/// No answer of so few points is longer, unless the query forgets to sum.
const LONGEST_ANSWER: usize = 256 << 20;

/// Reads `--from` to `--to` in as many parts as the server's limit asks for. Values of several
/// series at one time are summed.
///
/// # Errors
/// When the server cannot be reached, refuses the query, or has no data for it.
pub(super) fn read(url: &str, args: &Args) -> anyhow::Result<(Vec<Sample>, ReadReport)> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms);
    let to_ms = args.to.as_deref().map_or(Ok(now_ms), |text| moment(text, now_ms, "--to"))?;
    let from_ms = moment(args.from.as_deref().unwrap_or(USUAL_FROM), to_ms, "--from")?;
    ensure!(from_ms < to_ms, "--from lies after --to: there is nothing between them");
    let query = args.query.as_deref().unwrap_or_default();
    let step_ms = args.step.map_or(USUAL_STEP_MS, ms).max(1);
    let server = Server::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
    let (mut skipped, mut series) = (0, 0);
    let mut first_ms = from_ms;
    while first_ms <= to_ms {
        let last_ms = first_ms.saturating_add((POINTS - 1) * step_ms).min(to_ms);
        let target = server.target(query, first_ms, last_ms, step_ms);
        let answer = runtime.block_on(server.ask(&target))?;
        let found = understood(&answer, query)?;
        series = series.max(found.len());
        for (at_s, text) in found.iter().flat_map(|series| &series.values) {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            match value {
                Some(value) => *sums.entry((at_s * 1e3).round() as u64).or_default() += value,
                None => skipped += 1,
            }
        }
        first_ms = last_ms.saturating_add(step_ms);
    }
    ensure!(
        !sums.is_empty(),
        "{url} has no data for {query:?} in that time; try it in its own interface, or another --from"
    );
    let samples = sums.into_iter().map(|(at_ms, value)| Sample { at_ms, value });
    let samples: Vec<Sample> = samples.collect();
    let report = ReadReport {
        samples: samples.len() as u64,
        skipped,
        reading: format!("{query} in steps of {} s, {series} series summed", step_ms as f64 / 1e3),
        ..ReadReport::default()
    };
    Ok((samples, report))
}

/// A time, or how long before `reference_ms`.
pub(super) fn moment(text: &str, reference_ms: u64, option: &str) -> anyhow::Result<u64> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(reference_ms.saturating_sub(ms(ago)));
    }
    parse_time(text).with_context(|| {
        format!("{option} is {text:?}; give a time such as 2024-05-01T12:00:00Z, or how long ago, such as 7d")
    })
}

/// Where the server is.
#[derive(Debug, PartialEq)]
pub(crate) struct Server {
    url: String,
    /// Host and port to connect to.
    pub(crate) authority: String,
    /// What stands before `/api`.
    prefix: String,
}

impl Server {
    /// Reads `http://HOST[:PORT][/PREFIX]`.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        if url.starts_with("https://") {
            bail!(
                "{url}: https is not spoken here; forward a local port to the server and give http://localhost:PORT"
            );
        }
        let rest = url.strip_prefix("http://").with_context(|| {
            format!("{url:?} is no address of a server; give one such as http://localhost:9090")
        })?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!authority.is_empty(), "{url:?} names no host");
        let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        Ok(Self { url: url.to_owned(), authority, prefix })
    }

    /// Path and query that ask for `query` from `from_ms` to `to_ms`, both included.
    pub(crate) fn target(&self, query: &str, from_ms: u64, to_ms: u64, step_ms: u64) -> String {
        let s = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        format!(
            "{}/api/v1/query_range?query={}&start={}&end={}&step={}",
            self.prefix,
            escaped(query),
            s(from_ms),
            s(to_ms),
            s(step_ms)
        )
    }

    async fn ask(&self, target: &str) -> anyhow::Result<Bytes> {
        let waiting = async {
            tokio::time::sleep(SILENT).await;
            let url = crate::out::printable(&self.url);
            // Whoever does not read this waits all the same.
            writeln!(std::io::stderr(), "waiting for {url}, {} s at most", PATIENCE.as_secs()).ok();
            std::future::pending().await
        };
        let answer = async {
            tokio::select! {
                answer = self.exchange(target) => answer,
                never = waiting => never,
            }
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.with_context(|| format!("cannot read from {}", self.url)),
            Err(_) => bail!(
                "{} did not answer within {PATIENCE:?}; ask for less, or with a longer --step",
                self.url
            ),
        }
    }

    async fn exchange(&self, target: &str) -> anyhow::Result<Bytes> {
        let stream = tokio::net::TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // The sender sees the same error.
            connection.await.ok();
        });
        let request = hyper::Request::get(target)
            .header(hyper::header::HOST, &self.authority)
            .header(hyper::header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        let body = body
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("the answer broke off or is too long; sum the series in the query")?
            .to_bytes();
        // Prometheus explains itself in the body, also of a refusal.
        let explains = body.starts_with(b"{");
        ensure!(status.is_success() || explains, "it answered {status}");
        Ok(body)
    }
}

/// Everything but what is never misunderstood in a query string.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

/// One series: times in seconds, values as text.
#[derive(Deserialize)]
pub(crate) struct Found {
    pub(crate) values: Vec<(f64, String)>,
}

/// The series of an answer.
///
/// # Errors
/// When the server refused the query, or the answer is not that of a Prometheus server.
pub(crate) fn understood(body: &[u8], query: &str) -> anyhow::Result<Vec<Found>> {
    let answer: Answer =
        serde_json::from_slice(body).context("the answer is not that of a Prometheus server")?;
    ensure!(answer.status == "success", "the server refuses {query:?}: {}", answer.error);
    let data = answer.data.context("the answer holds no data")?;
    ensure!(
        data.result_type == "matrix",
        "the answer is a {}, not a matrix; is this /api/v1/query_range of a Prometheus server?",
        data.result_type
    );
    serde_json::from_value(data.result).context("the answer's values are not as expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let server = Server::parse("http://prom.local/prefix/").unwrap();
        assert_eq!(
            (server.authority.as_str(), server.prefix.as_str()),
            ("prom.local:80", "/prefix")
        );
        let server = Server::parse("http://[::1]:9090").unwrap();
        assert_eq!((server.authority.as_str(), server.prefix.as_str()), ("[::1]:9090", ""));
        assert!(
            Server::parse("https://x").unwrap_err().to_string().contains("forward a local port")
        );
        assert!(
            Server::parse("prom:9090").unwrap_err().to_string().contains("http://localhost:9090")
        );
    }

    #[test]
    fn queries_are_escaped_and_times_keep_their_milliseconds() {
        let server = Server::parse("http://h:1").unwrap();
        assert_eq!(
            server.target("sum(rate(a{b=\"c\"}[1m]))", 1_500, 61_000, 15_000),
            "/api/v1/query_range?query=sum%28rate%28a%7Bb%3D%22c%22%7D%5B1m%5D%29%29&start=1.500&end=61.000&step=15.000"
        );
    }

    #[test]
    fn refusals_are_told_in_the_servers_words() {
        let refusal =
            br#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
        let error = understood(refusal, "sum(").err().unwrap().to_string();
        assert_eq!(error, "the server refuses \"sum(\": parse error: unexpected end");
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert!(understood(vector, "x").err().unwrap().to_string().contains("is a vector"));
        assert!(understood(b"<html>", "x").err().unwrap().to_string().contains("Prometheus"));
    }

    #[test]
    fn moments_are_times_or_how_long_ago() {
        assert_eq!(moment("1h", 7_200_000, "--from").unwrap(), 3_600_000);
        assert_eq!(moment("1970-01-01T00:01:00Z", 0, "--from").unwrap(), 60_000);
        assert!(
            moment("soon", 0, "--from").unwrap_err().to_string().contains("--from is \"soon\"")
        );
    }
}
