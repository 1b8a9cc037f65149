//! Who calls the admin interface, and what they may do there.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use foreshadow_config::{Admin, Role};
use ring::digest::{Digest, SHA256, digest};
use serde_json::json;

use super::error::ApiError;
use super::serve::Peer;
use crate::node::Shared;
use crate::node::audit::{Actor, Entry, Outcome, Rarely};

/// The tokens that callers may present; none lets everybody do everything.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<[Known]>);

struct Known {
    name: String,
    role: Role,
    digest: Digest,
    told: Rarely,
}

impl Tokens {
    /// Those of the configuration.
    pub(crate) fn of(admin: &Admin) -> Self {
        let known = admin.every_token().map(|(name, role, secret)| Known {
            name: name.to_owned(),
            role,
            digest: digest(&SHA256, secret.expose().as_bytes()),
            told: Rarely::default(),
        });
        Self(known.collect())
    }

    /// Whether nobody needs one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token was offered. All are compared, by digests and to the last byte, so that the time
    /// it takes tells nothing about any of them.
    fn owner(&self, offered: &str) -> Option<&Known> {
        let offered = digest(&SHA256, offered.as_bytes());
        let equal = |known: &&Known| {
            let pairs = known.digest.as_ref().iter().zip(offered.as_ref());
            std::hint::black_box(pairs.fold(0_u8, |diff, (a, b)| diff | (a ^ b))) == 0
        };
        self.0.iter().filter(equal).fold(None, |found, known| found.or(Some(known)))
    }
}

/// Who calls, as far as is known.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    name: String,
    role: Option<Role>,
    peer: String,
}

impl Caller {
    /// As others are told who it was.
    pub(super) fn shown(&self) -> &str {
        if self.name.is_empty() { "an operator" } else { &self.name }
    }

    /// As the actor of what is asked.
    pub(super) fn actor(&self) -> Actor {
        Actor::Caller { name: self.name.clone(), role: self.role, peer: self.peer.clone() }
    }
}

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Look,
    Report,
    Operate,
    Configure,
}

impl Need {
    /// Of a request to the route written as `path`. Whatever changes something and is not named
    /// here is an order.
    fn of(method: &Method, path: &str) -> Self {
        let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match path {
            "/api/v1/config" | "/api/v1/reload" => Self::Configure,
            _ if looks => Self::Look,
            "/api/v1/services/{service}/instances/{instance}/metrics"
            | "/api/v1/services/{service}/signals" => Self::Report,
            _ => Self::Operate,
        }
    }

    fn is_met_by(self, role: Role) -> bool {
        match role {
            Role::Admin => true,
            Role::Operate => self != Self::Configure,
            Role::Read => self == Self::Look,
            Role::Report => self == Self::Report,
        }
    }

    /// The least role that meets it.
    fn least(self) -> Role {
        match self {
            Self::Look => Role::Read,
            Self::Report => Role::Report,
            Self::Operate => Role::Operate,
            Self::Configure => Role::Admin,
        }
    }
}

/// What the check of tokens works with.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) shared: Arc<Shared>,
    pub(super) tokens: Tokens,
    /// What callers without a token did: anybody can make as much of it as they like. Each token has an
    /// allowance of its own, so that nobody hides what others do.
    pub(super) told: Arc<Rarely>,
}

impl Gate {
    fn tell(&self, caller: &Caller, action: &'static str, request: &Request, outcome: Outcome) {
        let asked = format!("{} {}", request.method(), request.uri().path());
        let entry = Entry::new(self.shared.clock.now_ms(), caller.actor(), action)
            .changed(serde_json::Value::Null, json!({ "asked": asked }))
            .came_to(outcome, "");
        let mut known = self.tokens.0.iter();
        let own = known.find(|known| caller.role.is_some() && known.name == caller.name);
        if let Some(entry) = own.map_or(&*self.told, |known| &known.told).pass(entry) {
            self.shared.audit.record(entry);
        }
    }
}

/// Lets a request through when no token is set, or one is presented whose role allows it; notes who
/// calls.
pub(super) async fn require(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.clone()).unwrap_or_default();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let need = Need::of(request.method(), path.unwrap_or_default());
    let mut caller = Caller { name: String::new(), role: None, peer };
    if !gate.tokens.is_empty() {
        let Some(known) = offered(&request).and_then(|offered| gate.tokens.owner(offered)) else {
            gate.tell(&caller, "access.unknown", &request, Outcome::Denied);
            let error = ApiError::new(
                StatusCode::UNAUTHORIZED,
                "a token is required: send the header `Authorization: Bearer TOKEN`, with one that \
                 the configuration knows (`admin.token`, `admin.tokens`)",
            );
            return ([(WWW_AUTHENTICATE, "Bearer")], error).into_response();
        };
        known.name.clone_into(&mut caller.name);
        caller.role = Some(known.role);
        if !need.is_met_by(known.role) {
            gate.tell(&caller, "access.role", &request, Outcome::Denied);
            let why = format!(
                "the token {:?} has the role {}; {} {} needs {}",
                known.name,
                known.role.as_str(),
                request.method(),
                request.uri().path(),
                need.least().as_str()
            );
            return ApiError::new(StatusCode::FORBIDDEN, why).into_response();
        }
    }
    if path == Some("/api/v1/config") {
        gate.tell(&caller, "config.read", &request, Outcome::Done);
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn offered(request: &Request) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let text = "listeners: [{ address: 127.0.0.1:1, routes: [{ service: s }] }]\n\
            services: { s: { primaries: [127.0.0.1:2] } }\n\
            admin: { token: s3cret-s3cret, tokens: [{ name: a, role: read, token: readers-own }] }";
        let format = foreshadow_config::Format::Yaml;
        Tokens::of(&foreshadow_config::parse(text, format, "test", &|_| None).unwrap().admin)
    }

    #[test]
    fn only_the_whole_secret_matches_and_says_whose_it_is() {
        let tokens = tokens();
        let owner = |offered: &str| tokens.owner(offered).map(|known| known.name.as_str());
        assert_eq!(owner("s3cret-s3cret"), Some(Admin::OWNER));
        assert_eq!(owner("readers-own"), Some("a"));
        for wrong in ["", "s3cret-s3cre", "s3cret-s3crets", "S3cret-s3cret", "a", "readers-owm"] {
            assert_eq!(owner(wrong), None, "{wrong:?} was taken");
        }
    }

    #[test]
    fn roles_allow_what_the_documentation_says() {
        let of = |line: &str| {
            let (method, path) = line.split_once(' ').unwrap();
            let need = Need::of(&method.parse().unwrap(), path);
            let may = [Role::Report, Role::Read, Role::Operate, Role::Admin];
            may.map(|role| need.is_met_by(role))
        };
        let service = "/api/v1/services/{service}";
        for (line, allowed) in [
            ("GET /metrics".to_owned(), [false, true, true, true]),
            (format!("GET {service}"), [false, true, true, true]),
            ("GET /api/v1/audit".to_owned(), [false, true, true, true]),
            (format!("GET {service}/metrics"), [false, true, true, true]),
            (format!("POST {service}/signals"), [true, false, true, true]),
            (format!("POST {service}/instances/{{instance}}/metrics"), [true, false, true, true]),
            ("POST /api/v1/kill-switch".to_owned(), [false, false, true, true]),
            ("POST /api/v1/something-new".to_owned(), [false, false, true, true]),
            ("POST /api/v1/rules/check".to_owned(), [false, false, true, true]),
            ("GET /api/v1/config".to_owned(), [false, false, false, true]),
            ("HEAD /api/v1/config".to_owned(), [false, false, false, true]),
            ("POST /api/v1/reload".to_owned(), [false, false, false, true]),
        ] {
            assert_eq!(of(&line), allowed, "{line}");
        }
    }
}
