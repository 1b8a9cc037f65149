//! Signals: their names, and that each comes from one place.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshadow_control::{MAX_DEMAND_SIGNALS, MAX_METRICS};

use super::metrics::{check_name, within_age};
use super::range::SECOND_MS;
use super::service::at_most;
use crate::raw::{List, Map, RawSignal, Text};
use crate::reader::{At, Field, Place, Problem, Reader};
use crate::{Signal, SignalSource};

pub(super) fn signals(
    field: Field<Map<RawSignal>>,
    max_age: Duration,
    r: &mut Reader<'_>,
) -> BTreeMap<String, Signal> {
    let Some(At { value: written, place }) = field.given() else { return BTreeMap::new() };
    if written.0.len() > MAX_METRICS {
        let found = format!("{} signals", written.0.len());
        r.report(&place, Problem::new(found, format!("at most {MAX_METRICS}")));
    }
    let mut signals = BTreeMap::new();
    for (name, raw) in written.0 {
        check_name(&name, r);
        let Some(At { value: mut raw, .. }) = raw.given() else { continue };
        let (interval, timeout) =
            (std::mem::take(&mut raw.interval), std::mem::take(&mut raw.timeout));
        let interval = within_age(interval, SECOND_MS, 15 * SECOND_MS, max_age, r);
        let timeout = match timeout.given() {
            None => interval.min(Duration::from_secs(5)),
            Some(timeout) => at_most(timeout, interval, "the interval", r),
        };
        if let Some(source) = source(raw, &name.place, r) {
            signals.insert(name.value, Signal { source, interval, timeout });
        }
    }
    signals
}

/// The signals that demand is forecast with: those listed, or the first of those looked up.
pub(super) fn forecast_with(
    field: Field<List<Text>>,
    signals: &BTreeMap<String, Signal>,
    r: &mut Reader<'_>,
) -> Vec<String> {
    let Some(At { value: list, place }) = field.given() else {
        return signals.keys().take(MAX_DEMAND_SIGNALS).cloned().collect();
    };
    if list.0.len() > MAX_DEMAND_SIGNALS {
        let found = format!("{} signals", list.0.len());
        r.report(&place, Problem::new(found, format!("at most {MAX_DEMAND_SIGNALS}")));
    }
    let mut names = Vec::new();
    for At { value: Text(name), place } in list.0 {
        let name = At { value: name, place };
        check_name(&name, r);
        if !names.contains(&name.value) {
            names.push(name.value);
        }
    }
    names
}

fn source(raw: RawSignal, place: &Place, r: &mut Reader<'_>) -> Option<SignalSource> {
    let given = (!raw.file.is_absent(), !raw.prometheus.is_absent(), !raw.query.is_absent());
    match given {
        (true, false, false) => Some(SignalSource::File { file: raw.file.value()?.0 }),
        (false, true, true) => {
            let url = raw.prometheus.given()?;
            let rest = url.value.0.strip_prefix("http://");
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains([' ', '#', '?'])) {
                let expected = "a URL such as http://127.0.0.1:9090";
                let problem = Problem::new(url.value.0, expected);
                r.report(&url.place, problem.help("https is not spoken: forward a local port"));
                return None;
            }
            Some(SignalSource::Prometheus { prometheus: url.value.0, query: raw.query.value()?.0 })
        }
        (file, prometheus, query) => {
            let all = [("file", file), ("prometheus", prometheus), ("query", query)];
            let found: Vec<_> = all.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
            let found = if found.is_empty() { "no source".to_owned() } else { found.join(", ") };
            r.report(place, Problem::new(found, "either file, or prometheus and query"));
            None
        }
    }
}
