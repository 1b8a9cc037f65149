//! Who is told of alerts: headers that can be sent.

use std::collections::BTreeMap;

use super::admin;
use super::range::{self, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use crate::raw::{Map, RawAlertWebhook, RawAlerts, Text};
use crate::reader::{Field, Problem, Reader, quote};
use crate::{AlertWebhook, Alerts, Endpoint};

const MOST_HEADERS: usize = 16;
/// Headers that the request has anyway.
const OWN: [&str; 5] =
    ["host", "content-length", "content-type", "connection", "transfer-encoding"];

pub(super) fn alerts(raw: RawAlerts, r: &mut Reader<'_>) -> Alerts {
    Alerts { webhook: raw.webhook.value().map(|raw| webhook(raw, r)) }
}

fn webhook(raw: RawAlertWebhook, r: &mut Reader<'_>) -> AlertWebhook {
    let has_token = !raw.token.is_absent();
    AlertWebhook {
        url: raw.url.value().map_or_else(|| Endpoint::Unix("/".into()), |url| url.0),
        token: raw.token.given().and_then(|at| admin::token(at, r)),
        headers: headers(raw.headers, has_token, r),
        timeout: range::time(raw.timeout, 100..=MINUTE_MS, 5 * SECOND_MS, r),
        give_up: range::time(raw.give_up, SECOND_MS..=DAY_MS, HOUR_MS, r),
    }
}

fn headers(
    field: Field<Map<Text>>,
    has_token: bool,
    r: &mut Reader<'_>,
) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (at, value) in field.value().map(|map| map.0).unwrap_or_default() {
        let name = at.value.to_ascii_lowercase();
        let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_taken = headers.contains_key(&name) || (has_token && name == "authorization");
        if name.is_empty() || !name.bytes().all(in_name) || OWN.contains(&name.as_str()) || is_taken
        {
            let expected = "the name of a header that is sent once and not by itself";
            r.report(&at.place, Problem::new(format!("the name {}", quote(&at.value)), expected));
        }
        let Some(value) = value.given() else { continue };
        let in_value = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if !value.value.0.bytes().all(in_value) {
            // The value is not repeated: it may be a secret.
            let problem = Problem::new("a value with other characters", "printable ASCII");
            r.report(&value.place, problem);
        }
        if headers.len() == MOST_HEADERS {
            r.report(&at.place, Problem::new("one more header", format!("at most {MOST_HEADERS}")));
            break;
        }
        headers.insert(name, value.value.0);
    }
    headers
}
