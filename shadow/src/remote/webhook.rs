//! The HTTP contract: JSON documents on the paths of docs/provider.openapi.json.

mod endpoint;
mod exchange;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::{Method, StatusCode};

pub use self::endpoint::Endpoint;

use self::exchange::{Answer, Ask, Trouble};
use super::clean::Place;
use super::contract::{Failure, Operation, Request, shorten};
use super::{QUOTED, Remote, Traits, Transport};
use crate::error::{Cause, ProviderError};
use crate::hash::fnv1a;
use crate::process::ProcessHost;
use crate::provider::Provider;

/// How often something that may pass is asked in a row.
const ATTEMPTS: u32 = 4;
/// Pause after the first try, doubled after each further one; the upper half is drawn.
const PAUSE: Duration = Duration::from_millis(250);
/// A longer `Retry-After` is not waited for here: the step fails and is repeated by its law.
const LONGEST: Duration = Duration::from_secs(30);

/// How an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSpec {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Sent as bearer token, by all providers that lead to this endpoint.
    pub token: Option<BearerToken>,
    /// What it can do, and times.
    pub traits: Traits,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(pub String);

impl std::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Makes instances of one service by asking an HTTP endpoint.
pub struct WebhookProvider;

impl WebhookProvider {
    /// A provider for one service; `host` is that of the process providers.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "what an endpoint does is done behind the trait")]
    pub fn new(host: &Arc<ProcessHost>, spec: WebhookSpec) -> Arc<dyn Provider> {
        let traits = spec.traits.clone();
        let name = fnv1a(spec.endpoint.to_string().into_bytes());
        let place = host.places.at(KIND, &name);
        place.set_token(spec.token);
        let webhook = Webhook { endpoint: spec.endpoint, place };
        Arc::new(Remote::new(webhook, traits, &host.marker, &host.places))
    }
}

pub(super) struct Webhook {
    endpoint: Endpoint,
    place: Arc<Place>,
}

const KIND: &str = "webhook";

/// The method of an operation and its path below the endpoint, with names to be filled in.
pub(crate) fn route(operation: Operation) -> (Method, &'static str) {
    match operation {
        Operation::Create => (Method::PUT, "/v1/owners/{owner}/instances/{instance}"),
        Operation::List => (Method::GET, "/v1/owners/{owner}/instances"),
        Operation::Freeze => (Method::POST, "/v1/owners/{owner}/instances/{instance}/freeze"),
        Operation::Thaw => (Method::POST, "/v1/owners/{owner}/instances/{instance}/thaw"),
        Operation::Resize => (Method::PUT, "/v1/owners/{owner}/instances/{instance}/size"),
        Operation::Destroy => (Method::DELETE, "/v1/owners/{owner}/instances/{instance}"),
        Operation::Snapshot => (Method::PUT, "/v1/owners/{owner}/snapshots/{snapshot}"),
        Operation::Primaries => (Method::GET, "/v1/owners/{owner}/services/{service}/primaries"),
        Operation::Scale => (Method::PUT, "/v1/owners/{owner}/services/{service}/primaries"),
        Operation::Discard => (Method::DELETE, "/v1/owners/{owner}/snapshots/{snapshot}"),
    }
}

/// What stands in the query rather than in a body.
fn query(request: &Request) -> String {
    let mut parts = Vec::new();
    parts.extend(request.known.as_ref().map(|known| format!("known={}", escaped(known))));
    parts.extend(request.wait_ms.map(|wait_ms| format!("wait_ms={wait_ms}")));
    parts.extend(request.grace_ms.map(|grace_ms| format!("grace_ms={grace_ms}")));
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// Percent-encoded (RFC 3986, section 2.3): a version is the other side's own text.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

impl Webhook {
    /// One that has nothing to do with the shadows that are made at the same endpoint.
    pub(super) fn apart(endpoint: Endpoint, token: Option<BearerToken>) -> Self {
        let place = Arc::new(Place::default());
        place.set_token(token);
        Self { endpoint, place }
    }

    fn ask_of(&self, operation: Operation, request: &Request) -> Result<Ask, ProviderError> {
        let (method, template) = route(operation);
        let name = |name: &Option<String>| escaped(name.as_deref().unwrap_or_default());
        let path = template
            .replace("{owner}", &escaped(&request.owner))
            .replace("{instance}", &name(&request.instance))
            .replace("{service}", &name(&request.service))
            .replace("{snapshot}", &name(&request.snapshot));
        let body = if matches!(method, Method::PUT | Method::POST) {
            serde_json::to_vec(request).map_err(|e| ProviderError::Other(e.to_string()))?
        } else {
            Vec::new()
        };
        // An instance is made once in its life, so even a later process may repeat that order.
        let key = match operation {
            Operation::List | Operation::Primaries => None,
            Operation::Create => {
                Some(format!("{}-{}-create", request.owner, name(&request.instance)))
            }
            other => {
                Some(format!("{}-{}-{:016x}", request.owner, other.word(), rand::random::<u64>()))
            }
        };
        let token = self.place.token().map(|token| token.0);
        Ok(Ask { method, target: format!("{path}{}", query(request)), body, key, token })
    }
}

#[async_trait]
impl Transport for Webhook {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn place(&self) -> String {
        self.endpoint.to_string()
    }

    fn settings(&self) -> String {
        self.endpoint.to_string()
    }

    fn can_wait(&self) -> bool {
        true
    }

    async fn settle(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn ask(
        &self,
        operation: Operation,
        request: &Request,
        patience: Duration,
    ) -> Result<serde_json::Value, ProviderError> {
        let ask = self.ask_of(operation, request)?;
        let looks = matches!(operation, Operation::List | Operation::Primaries);
        let attempts = if looks { 1 } else { ATTEMPTS };
        let (mut attempt, mut heard) = (1, false);
        loop {
            let outcome = match exchange::once(&self.endpoint, &ask, patience).await {
                Ok(answer) => judged(operation, &answer),
                Err(trouble) => Err(lost(trouble, patience)),
            };
            heard |= !matches!(&outcome, Err(refusal) if refusal.cause == Cause::NotAsked);
            let refusal = match outcome {
                Ok(value) => return Ok(value),
                Err(refusal) => refusal,
            };
            let half = PAUSE * 2_u32.pow(attempt - 1) / 2;
            let pause = refusal.after.unwrap_or(half + half.mul_f64(rand::random()));
            if !refusal.passes || attempt >= attempts || pause > LONGEST {
                let path = ask.target.split('?').next().unwrap_or_default();
                let tries = if attempt == 1 { String::new() } else { format!(" {attempt} times") };
                let unheard_now = refusal.cause == Cause::NotAsked;
                return Err(ProviderError::Refused {
                    cause: if heard && unheard_now { Cause::Unreachable } else { refusal.cause },
                    asked: format!(
                        "{} to {}: {} {path}{tries}",
                        self.endpoint,
                        operation.word(),
                        ask.method
                    ),
                    came_back: refusal.came_back,
                });
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }
}

/// Why an attempt came to nothing.
struct Refusal {
    cause: Cause,
    came_back: String,
    /// Whether the same may work a little later.
    passes: bool,
    /// How much later, where that was said.
    after: Option<Duration>,
}

fn lost(trouble: Trouble, patience: Duration) -> Refusal {
    let (cause, came_back, passes) = match trouble {
        Trouble::Connect(why) => (Cause::NotAsked, format!("no connection: {why}"), true),
        Trouble::Broken(why) => (Cause::Unreachable, format!("no whole answer: {why}"), true),
        Trouble::Late => {
            (Cause::Late, format!("no answer within {} ms", patience.as_millis()), false)
        }
        Trouble::TooMuch(most) => (Cause::Malformed, format!("more than {most} bytes"), false),
        Trouble::Invalid(why) => (Cause::Failed, why, false),
    };
    Refusal { cause, came_back, passes, after: None }
}

/// What an answer comes to.
fn judged(operation: Operation, answer: &Answer) -> Result<serde_json::Value, Refusal> {
    let status = answer.status;
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.trim();
    let gone = matches!(operation, Operation::Destroy | Operation::Discard)
        && matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    if gone || status.is_success() && text.is_empty() {
        return Ok(serde_json::Value::Null);
    }
    let quote = shorten(text, QUOTED);
    if status.is_success() {
        return serde_json::from_str(text).map_err(|error| Refusal {
            cause: Cause::Malformed,
            came_back: format!("{status} with {quote:?}, which is no JSON: {error}"),
            passes: false,
            after: None,
        });
    }
    let told = serde_json::from_str::<Failure>(text).ok().map(|failure| failure.error);
    let by_status = match status.as_u16() {
        401 | 403 => Cause::Denied,
        402 => Cause::Quota,
        429 | 503 => Cause::Busy,
        501 | 405 => Cause::Unsupported,
        507 => Cause::DiskFull,
        502 | 504 => Cause::Unreachable,
        _ => Cause::Failed,
    };
    let cause = told.as_ref().and_then(|told| told.cause()).unwrap_or(by_status);
    let message = match &told {
        Some(told) => format!(": {}", shorten(&told.message, QUOTED)),
        None if text.is_empty() => String::new(),
        None => format!(" with {quote:?}"),
    };
    let later = answer.retry_after.map_or_else(String::new, |after| {
        format!(", to be asked again after {} s", after.as_secs())
    });
    Err(Refusal {
        cause,
        came_back: format!("{status}{message}{later}"),
        passes: matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504) && !is_lasting(cause),
        after: answer.retry_after,
    })
}

/// Whether asking again within seconds is of no use.
fn is_lasting(cause: Cause) -> bool {
    matches!(cause, Cause::Quota | Cause::Denied | Cause::DiskFull | Cause::Unsupported)
}

#[cfg(test)]
mod tests;
