//! Scaling primaries by the contracts: a command or an HTTP endpoint that others write
//! (docs/scaling.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreshadow_control::ServiceName;
use serde::Deserialize;

use super::contract::{Operation, Request, shorten};
use super::exec::Exec;
use super::webhook::Webhook;
use super::{BearerToken, Endpoint, ExecSpec, QUOTED, Transport};
use crate::error::{Cause, ProviderError};
use crate::process::ProcessHost;
use crate::scaling::{Primaries, Scaler};

/// Asks a scaler that others wrote.
pub struct RemoteScaler {
    transport: Box<dyn Transport>,
    owner: String,
    service: ServiceName,
    timeout: Duration,
}

impl RemoteScaler {
    /// One that is asked over HTTP, each time within `timeout`; `host` is that of the process
    /// providers.
    #[must_use]
    pub fn webhook(
        host: &Arc<ProcessHost>,
        service: ServiceName,
        endpoint: Endpoint,
        token: Option<BearerToken>,
        timeout: Duration,
    ) -> Self {
        let transport = Box::new(Webhook::apart(endpoint, token));
        Self { transport, owner: host.marker.clone(), service, timeout }
    }

    /// One that is a command, which is run for each question and ended after its time; of `spec` only
    /// how it is run counts, and how long.
    #[must_use]
    pub fn exec(host: &Arc<ProcessHost>, service: ServiceName, spec: ExecSpec) -> Self {
        let timeout = spec.traits.timeout;
        let transport = Box::new(Exec::new(host, spec));
        Self { transport, owner: host.marker.clone(), service, timeout }
    }

    async fn ask(
        &self,
        operation: Operation,
        primaries: Option<u32>,
    ) -> Result<Primaries, ProviderError> {
        self.transport.settle().await?;
        let request = Request {
            owner: self.owner.clone(),
            service: Some(self.service.as_str().to_owned()),
            primaries,
            ..Request::default()
        };
        let answer = self.transport.ask(operation, &request, self.timeout).await?;
        let text = shorten(&answer.to_string(), QUOTED);
        let answer: Answer =
            serde_json::from_value(answer).map_err(|error| ProviderError::Refused {
                cause: Cause::Malformed,
                asked: format!(
                    "the {} scaler for the primaries of {}",
                    self.transport.kind(),
                    self.service
                ),
                came_back: format!("{text}, in which {error}"),
            })?;
        Ok(Primaries { wanted: answer.wanted, ready: answer.ready, leaving: answer.leaving })
    }
}

/// What a scaler answers; unknown fields are left alone.
#[derive(Deserialize)]
struct Answer {
    wanted: u32,
    ready: Vec<SocketAddr>,
    #[serde(default)]
    leaving: Vec<SocketAddr>,
}

#[async_trait]
impl Scaler for RemoteScaler {
    fn name(&self) -> &'static str {
        self.transport.kind()
    }

    fn place(&self) -> String {
        self.transport.place()
    }

    async fn look(&self) -> Result<Primaries, ProviderError> {
        self.ask(Operation::Primaries, None).await
    }

    async fn scale(&self, primaries: u32) -> Result<Primaries, ProviderError> {
        self.ask(Operation::Scale, Some(primaries)).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::webhook::route;
    use super::*;

    #[test]
    fn the_description_has_what_is_asked_and_read() {
        let text = include_str!("../../../docs/scaling.openapi.json");
        let document: Value = serde_json::from_str(text).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 1);
        for operation in [Operation::Primaries, Operation::Scale] {
            let (method, path) = route(operation);
            let described = &paths[path][method.as_str().to_lowercase()];
            assert_eq!(described["operationId"], operation.word());
        }
        let schemas = &document["components"]["schemas"];
        let request = Request {
            owner: "o".to_owned(),
            service: Some("s".to_owned()),
            primaries: Some(3),
            ..Request::default()
        };
        let sent = serde_json::to_value(request).unwrap();
        let names = |value: &Value| {
            let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&schemas["Request"]["properties"]), names(&sent));
        let answer = &schemas["Primaries"];
        assert_eq!(names(&answer["properties"]), ["leaving", "ready", "wanted"]);
        assert_eq!(answer["required"], json!(["wanted", "ready"]));
        let example: Answer = serde_json::from_value(answer["example"].clone()).unwrap();
        assert_eq!((example.wanted, example.ready.len(), example.leaving.len()), (3, 2, 1));
        let few: Answer = serde_json::from_value(json!({ "wanted": 0, "ready": [] })).unwrap();
        assert_eq!((few.wanted, few.leaving), (0, Vec::new()));
        for wrong in
            [json!({ "wanted": 1 }), json!({ "ready": [] }), json!({ "wanted": -1, "ready": [] })]
        {
            assert!(serde_json::from_value::<Answer>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
