//! Load reports of backends in the heads of their answers (ORCA).
//!
//! What is reported is `xds.data.orca.v3.OrcaLoadReport`; how it stands in a header field follows
//! Envoy and gRPC (proposal A51): `endpoint-load-metrics` with `TEXT`, `JSON` or `BIN` before the
//! report, or one field of a format: `endpoint-load-metrics-json`, `endpoint-load-metrics-bin`.

mod json;
mod proto;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use foreshadow_control::{is_metric_name, is_metric_value, most_believed};
use http::{HeaderMap, HeaderName};

const ANY: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const JSON: HeaderName = HeaderName::from_static("endpoint-load-metrics-json");
const BIN: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");
/// Every field that may hold a report.
pub(crate) const FIELDS: [HeaderName; 3] = [ANY, JSON, BIN];

/// Values beyond what is believed, since the process began: seen where nothing else is shared.
static NOT_BELIEVED: AtomicU64 = AtomicU64::new(0);

/// Values of load reports that were left out since the process began, since nobody believes them:
/// a processor used a hundredfold is a percentage that was meant as a fraction.
pub fn not_believed() -> u64 {
    NOT_BELIEVED.load(Ordering::Relaxed)
}

/// Longer reports are not read.
const LONGEST: usize = 8 << 10;

/// gRPC leaves the padding away, Envoy does not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The name of a metric: a constant part and one that the backend chose; either may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a>(pub(crate) &'static str, pub(crate) &'a str);

impl Name<'_> {
    /// Whether it is `name`.
    pub(crate) fn is(self, name: &str) -> bool {
        name.strip_prefix(self.0) == Some(self.1)
    }

    /// The whole of it.
    pub(crate) fn to_text(self) -> Box<str> {
        [self.0, self.1].concat().into_boxed_str()
    }
}

/// What becomes of what a report says; values that cannot be are kept from it.
struct Sink<'f>(&'f mut dyn FnMut(Name<'_>, f64));

impl Sink<'_> {
    /// A value under its name in the report; `map` is empty for its plain fields.
    fn take(&mut self, map: &str, name: &str, value: f64) {
        let name = match (map, name) {
            ("", "cpu_utilization") => Name("cpu", ""),
            ("", "mem_utilization") => Name("memory", ""),
            ("", "application_utilization") => Name("application_utilization", ""),
            // The former is the older one, in whole requests.
            ("", "rps" | "rps_fractional") => Name("rps_fractional", ""),
            ("", "eps") => Name("eps", ""),
            ("named_metrics" | "utilization", name) => Name("", name),
            ("request_cost", name) => Name("request_cost.", name),
            _ => return,
        };
        let Name(constant, chosen) = name;
        let fits = constant.len() + chosen.len() <= foreshadow_control::MAX_METRIC_NAME;
        let named = if constant.is_empty() || constant.ends_with('.') {
            is_metric_name(chosen)
        } else {
            true
        };
        if !(fits && named && is_metric_value(value)) {
            return;
        }
        if value > most_believed(if constant.is_empty() { chosen } else { constant }) {
            NOT_BELIEVED.fetch_add(1, Ordering::Relaxed);
        } else {
            (self.0)(name, value);
        }
    }
}

/// Whether there is anything to read; most answers have nothing.
pub(crate) fn is_reported(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(ANY.as_str()))
}

/// Reads every report in `headers`. What is malformed is left out, from where it is.
pub(crate) fn read(headers: &HeaderMap, mut each: impl FnMut(Name<'_>, f64)) {
    let mut sink = Sink(&mut each);
    let field = |name: &HeaderName| {
        let value = headers.get(name).map(|value| value.as_bytes().trim_ascii());
        value.filter(|value| value.len() <= LONGEST)
    };
    if let Some(report) = field(&ANY) {
        let (format, rest) = match report.iter().position(u8::is_ascii_whitespace) {
            Some(end) => (&report[..end], report[end..].trim_ascii()),
            None => (report, &[][..]),
        };
        match format {
            b"TEXT" => text::read(rest, &mut sink),
            b"JSON" => json::read(rest, &mut sink),
            b"BIN" => binary(rest, &mut sink),
            // Before there were formats in it, it was text.
            _ => text::read(report, &mut sink),
        }
    }
    if let Some(report) = field(&JSON) {
        json::read(report, &mut sink);
    }
    if let Some(report) = field(&BIN) {
        binary(report, &mut sink);
    }
}

fn binary(report: &[u8], sink: &mut Sink<'_>) {
    match BASE64.decode(report) {
        Ok(report) => proto::read(&report, sink),
        Err(error) => tracing::debug!(%error, "a load report is no base64"),
    }
}

#[cfg(test)]
mod tests;
