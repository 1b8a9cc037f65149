//! Who is told of alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Endpoint, Token};
use crate::units;

/// Who is told of alerts besides the log, the metrics and the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// An endpoint that is told when an alert begins and when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<AlertWebhook>,
}

/// An endpoint for alerts.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AlertWebhook {
    /// Where it is.
    pub url: Endpoint,
    /// The bearer token that is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Further headers; names are valid, in lower case and distinct, values are valid.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Longest time for one answer.
    #[serde(serialize_with = "units::duration::serialize")]
    pub timeout: Duration,
    /// For how long it is tried again to tell of an alert.
    #[serde(serialize_with = "units::duration::serialize")]
    pub give_up: Duration,
}

/// Values of headers may be secrets.
impl std::fmt::Debug for AlertWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.keys().map(String::as_str).collect();
        f.debug_struct("AlertWebhook")
            .field("url", &self.url)
            .field("token", &self.token)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("give_up", &self.give_up)
            .finish()
    }
}
