//! Predictive rules: how they stand, adding and taking back, trying them on what was recorded.

use std::fs::File;
use std::io::BufReader;
use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use foreshadow_control::{
    DryRun, MAX_RULES, MAX_SIGHTS, Rule, RuleError, RuleSpec, RuleView, ServiceName, dry_run,
    is_rule_name, sights,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Path;
use super::operate::{Body, body, standing};
use super::read::{Answer, OnlyQuery, known_service, pairs, view};
use crate::node::Shared;
use crate::node::operator::Order;

/// Going through a recording keeps a core busy for seconds: one at a time.
static TRYING: Semaphore = Semaphore::const_new(1);
/// Where a rule that has no name yet stands while it is tried.
const TRIED: &str = "tried";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    rule: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    service: String,
    rule: String,
    /// Whether it is tried on the recording, where there is one.
    #[serde(default = "yes")]
    replay: bool,
}

fn yes() -> bool {
    true
}

/// Why a rule was not taken.
pub(super) enum Refusal {
    /// Its text is wrong.
    Text(Box<RuleError>),
    Other(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Text(error) => {
                let mut answer = json!(error);
                answer["error"] = json!(error.to_string());
                answer["excerpt"] = json!(error.excerpt());
                (StatusCode::UNPROCESSABLE_ENTITY, Json(answer)).into_response()
            }
            Self::Other(error) => error.into_response(),
        }
    }
}

fn unprocessable(why: impl Into<String>) -> Refusal {
    Refusal::Other(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}

/// The rule of `service` that `text` says.
fn parse(shared: &Shared, service: &ServiceName, text: &str) -> Result<Rule, Refusal> {
    let rule: Rule = text.parse().map_err(|error| Refusal::Text(Box::new(error)))?;
    match &shared.config.load().impossible(service, &rule)[..] {
        [] => Ok(rule),
        problems => Err(unprocessable(problems.join("; "))),
    }
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, only: OnlyQuery) -> Answer {
    let view = view(&shared)?;
    let rules: Vec<Value> = pairs(&shared, &view, only)?
        .into_iter()
        .flat_map(|(_, plan)| plan.rules.iter().map(|rule| rule_json(&shared, &plan.service, rule)))
        .collect();
    Ok(Json(json!({ "at_ms": view.now_ms, "rules": rules })))
}

fn rule_json(shared: &Shared, service: &ServiceName, rule: &RuleView) -> Value {
    let orders = shared.orders.load();
    let ordered = orders.rules.get(service).is_some_and(|rules| rules.contains_key(&rule.name));
    let mut answer = json!(rule);
    answer["service"] = json!(service);
    answer["origin"] = json!(if ordered { "operator" } else { "config" });
    answer["configured"] = json!(is_configured(shared, service, &rule.name));
    // A reload may have taken away what a rule of an operator asks for.
    let parsed = rule.rule.parse::<Rule>();
    let config = shared.config.load();
    let impossible = parsed.map_or_else(|_| Vec::new(), |rule| config.impossible(service, &rule));
    answer["impossible"] = json!(impossible);
    let parsed = rule.rule.parse::<Rule>();
    let now_ms = shared.clock.now_ms();
    answer["unforeseen"] =
        json!(parsed.ok().and_then(|rule| shared.long.unforeseen(service, &rule, now_ms)));
    answer
}

fn is_configured(shared: &Shared, service: &ServiceName, name: &str) -> bool {
    let config = shared.config.load();
    config.services.get(service).is_some_and(|s| s.rules.iter().any(|rule| rule.name == name))
}

pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((service, name)): Path<(String, String)>,
    text: Body<Text>,
) -> Result<Json<Value>, Refusal> {
    let text = body(text)?.rule;
    let service = known_service(&shared, &service)?;
    if !is_rule_name(&name) {
        let right = "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit";
        return Err(unprocessable(format!("the name is {name:?}; it must be {right}")));
    }
    let rule = parse(&shared, &service, &text)?;
    let configured = is_configured(&shared, &service, &name);
    let (names, asked) = {
        let (config, orders) = (shared.config.load(), shared.orders.load());
        let configured = config.services.get(&service).into_iter().flat_map(|s| &s.rules);
        let own = configured.clone().filter(|rule| rule.name != name).map(|rule| &rule.rule);
        let added = orders.rules.get(&service).into_iter().flatten();
        let added = added.filter(|(known, _)| **known != name).map(|(_, rule)| rule);
        let asked = sights(own.chain(added).chain([&rule])).len();
        let ordered = orders.rules.get(&service).into_iter().flat_map(|rules| rules.keys());
        let mut names: Vec<String> = configured.map(|rule| rule.name.clone()).collect();
        names.extend(ordered.filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        (names, asked)
    };
    if names.len() >= MAX_RULES && !names.contains(&name) {
        return Err(unprocessable(format!("{service} has {MAX_RULES} rules already: remove one")));
    }
    if asked > MAX_SIGHTS {
        return Err(unprocessable(format!(
            "the rules of {service} would ask about {asked} different times and quantiles beyond \
             10 minutes ahead, {MAX_SIGHTS} at most: let them ask about the same"
        )));
    }
    let order = Order::Rule(service.clone(), name.clone(), Some(Box::new(rule.clone())));
    let (_, kept) = standing(&shared, &caller, order).await?;
    Ok(Json(json!({
        "service": service,
        "name": name,
        "rule": rule,
        "replaces_configured": configured,
        "kept": kept,
    })))
}

pub(super) async fn take_back(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path((service, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let service = known_service(&shared, &service)?;
    let orders = shared.orders.load_full();
    let ordered = orders.rules.get(&service);
    if !ordered.is_some_and(|rules| rules.contains_key(&name)) {
        if is_configured(&shared, &service, &name) {
            let why = format!(
                "rule {name} of {service} is in the configuration: remove it there, or replace it \
                 by PUT"
            );
            return Err(ApiError::new(StatusCode::CONFLICT, why));
        }
        let known = ordered.into_iter().flat_map(|rules| rules.keys());
        return Err(ApiError::unknown("rule added at run time", &name, known));
    }
    standing(&shared, &caller, Order::Rule(service, name, None)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    wanted: Body<Check>,
) -> Result<Json<Value>, Refusal> {
    let Check { service, rule, replay } = body(wanted)?;
    let service = known_service(&shared, &service)?;
    let rule = parse(&shared, &service, &rule)?;
    let recording = shared.config.load().recording.clone().filter(|_| replay);
    let mut answer = json!({ "service": service, "rule": rule, "dry_run": null });
    let Some(recording) = recording else { return Ok(Json(answer)) };
    let spec = RuleSpec { name: TRIED.to_owned(), rule };
    let run = alone(&TRYING, move || try_on(&recording.path, &service, &[spec])).await?;
    answer["dry_run"] = json!(run);
    Ok(Json(answer))
}

/// Does work that only one may do at a time, which goes on when nobody waits for it any more.
async fn alone<T: Send + 'static>(
    gate: &'static Semaphore,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let Ok(permit) = gate.try_acquire() else {
        let why = "another rule is being tried; try again in a few seconds";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, why));
    };
    let work = move || {
        let _permit = permit;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| ApiError::internal(&error)),
        Err(error) => Err(ApiError::internal(&error.into())),
    }
}

/// Goes through the recording at `path`, with nothing carried out.
///
/// # Errors
/// When it cannot be read, or a line of it is damaged.
pub(crate) fn try_on(
    path: &FilePath,
    service: &ServiceName,
    rules: &[RuleSpec],
) -> anyhow::Result<DryRun> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut failure = None;
    let entries = crate::explain::entries(BufReader::new(file), &mut failure);
    let run = dry_run(entries, service, rules);
    match failure {
        Some(error) => {
            Err(error).with_context(|| format!("{} cannot be gone through", path.display()))
        }
        None => Ok(run),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_keeps_others_out_until_it_is_done() {
        static GATE: Semaphore = Semaphore::const_new(1);
        let (began, begins) = tokio::sync::oneshot::channel();
        let (release, held) = channel::<()>();
        let work = move || {
            began.send(()).expect("it is waited for");
            Ok(held.recv().is_err())
        };
        let caller = tokio::spawn(alone(&GATE, work));
        begins.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert!(alone(&GATE, || Ok(())).await.is_err(), "it is still at it");
        drop(release);
        drop(GATE.acquire().await.unwrap());
        assert!(alone(&GATE, || Ok(())).await.is_ok());
    }
}
