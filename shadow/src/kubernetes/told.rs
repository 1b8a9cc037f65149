//! What API servers say when they do not do as asked, in words an operator can act on.

use std::time::Duration;

use kube::Error;
use kube::client::AuthError;
use kube::core::Status;

use crate::error::{Cause, ProviderError};
use crate::remote::shorten;

/// Characters of an API server's answer that are shown.
pub(super) const QUOTED: usize = 400;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The time was up.
    Late(Duration),
    /// It cannot be spoken to as configured, or what was seen of a pod.
    Told(Cause, String),
    /// What the API server answered.
    Api(Box<Status>),
    /// What the client library made of it.
    Client(Error),
}

impl Trouble {
    fn code(&self) -> u16 {
        match self {
            Self::Api(status) => status.code,
            _ => 0,
        }
    }

    /// Whether what was asked about is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 404)
    }

    /// Whether the API server has no such path at all; of what it has, it names what is not there.
    pub(super) fn is_unknown_path(&self) -> bool {
        let names_one = |status: &Status| {
            status.details.as_ref().is_some_and(|details| !details.name.is_empty())
                || status.message.starts_with("pods \"")
        };
        matches!(self, Self::Api(status) if status.code == 404 && !names_one(status))
    }

    /// Whether the name is in use already.
    pub(super) fn is_name_taken(&self) -> bool {
        matches!(self, Self::Api(status) if status.is_already_exists())
    }

    /// Whether what was to be changed or ended is another one by now, or was changed meanwhile.
    pub(super) fn is_another(&self) -> bool {
        self.code() == 409 && !self.is_name_taken()
    }

    /// Whether the version of a list is too old to go on from.
    pub(super) fn is_expired(&self) -> bool {
        self.code() == 410
    }

    /// Whether the API server does not know who asks.
    pub(super) fn is_unknown_account(&self) -> bool {
        self.code() == 401
    }

    /// Whether the API does not answer, or not as one that works: nothing is known to be wrong with what
    /// was asked.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Late(_) | Self::Client(_) => true,
            Self::Told(..) => false,
            Self::Api(status) => status.code >= 500 || status.code == 429,
        }
    }

    /// Whether nobody was spoken to.
    pub(super) fn is_unreached(&self) -> bool {
        matches!(self, Self::Client(error) if is_connect(error))
    }

    /// Whether something may have been made of an order all the same.
    pub(super) fn may_have_acted(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Told(..) => false,
            // What admission refuses, or cannot be asked about, does not get as far as to be done.
            Self::Api(status) => status.code >= 500 && !is_of_admission(&status.message),
            Self::Client(error) => !is_connect(error),
        }
    }

    /// With what was asked.
    pub(super) fn told(self, asked: String) -> ProviderError {
        let (cause, came_back) = match self {
            Self::Late(patience) => {
                (Cause::Late, format!("no answer within {} ms", patience.as_millis()))
            }
            Self::Told(cause, text) => (cause, text),
            Self::Api(status) => refused(&status),
            Self::Client(error) => explained(&error),
        };
        ProviderError::Refused { cause, asked, came_back }
    }
}

/// Whether admission said so (Kubernetes, `apiserver/pkg/admission/plugin/webhook`).
fn is_of_admission(message: &str) -> bool {
    ["failed calling webhook", "failed calling admission webhook", "admission webhook"]
        .iter()
        .any(|text| message.contains(text))
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::Api(status),
            error => Self::Client(error),
        }
    }
}

fn refused(status: &Status) -> (Cause, String) {
    let quote = shorten(&status.message, QUOTED);
    let quote = if quote.is_empty() { "nothing more".to_owned() } else { quote };
    (cause(status.code, &status.message.to_lowercase()), format!("{}: {quote}", status.code))
}

/// What a refusal comes to. The codes are few; which of its meanings a 403 has stands in the text
/// (Kubernetes, `plugin/pkg/admission/resourcequota` and `apiserver/pkg/endpoints/handlers/responsewriters`).
fn cause(code: u16, message: &str) -> Cause {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["exceeded quota", "maximum cpu usage", "maximum memory usage"]) {
        return Cause::Quota;
    }
    if says(&["database space exceeded", "no space left on device"]) {
        return Cause::DiskFull;
    }
    match code {
        400 | 404 | 415 | 422 => Cause::Absent,
        401 => Cause::Denied,
        // Authorization says what somebody cannot do; admission, what is wrong with the thing.
        403 if message.is_empty() || says(&["cannot "]) => Cause::Denied,
        403 => Cause::Absent,
        405 => Cause::Version,
        409 => Cause::Conflict,
        429 | 503 => Cause::Busy,
        504 => Cause::Late,
        _ => Cause::Failed,
    }
}

/// Something went wrong below the API.
fn explained(error: &Error) -> (Cause, String) {
    let cause = match error {
        Error::SerdeError(_) | Error::FromUtf8(_) => Cause::Malformed,
        Error::InferKubeconfig(_) | Error::InferConfig(_) | Error::RustlsTls(_) => Cause::Absent,
        _ => Cause::Unreachable,
    };
    let mut innermost = String::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = next {
        if let Some(account) = inner.downcast_ref::<AuthError>() {
            return (Cause::Denied, of_account(account));
        }
        innermost = inner.to_string();
        next = inner.source();
    }
    match cause {
        Cause::Malformed => (cause, format!("an answer that is not the API's: {innermost}")),
        Cause::Unreachable => (cause, format!("no whole answer: {}", shorten(&innermost, QUOTED))),
        _ => (cause, shorten(&innermost, QUOTED)),
    }
}

/// What keeps from having credentials. A command for them is not quoted, nor what it put out: both may
/// hold secrets, and this goes to logs and records.
fn of_account(error: &AuthError) -> String {
    const WHAT: &str = "the command that its kubeconfig has for credentials";
    match error {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let before = said.trim().chars().count().saturating_sub(QUOTED);
            let end: String = said.trim().chars().skip(before).collect();
            let end = if end.is_empty() { "nothing".to_owned() } else { shorten(&end, QUOTED) };
            format!("{WHAT} ended with {}; it complained of: {end}", out.status)
        }
        AuthError::AuthExecStart(error) => format!("{WHAT} cannot be run: {error}"),
        AuthError::ReadTokenFile(..)
        | AuthError::MissingCommand
        | AuthError::ExecPluginFailed
        | AuthError::ExecMissingClusterInfo
        | AuthError::UnrefreshableTokenResponse
        | AuthError::NoValidNativeRootCA(_) => shorten(&error.to_string(), QUOTED),
        _ => format!("{WHAT}, or what else it has for them, gives none that can be used"),
    }
}

/// Whether there was no connection over which it could have heard.
fn is_connect(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = next {
        if let Some(client) = inner.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        if inner.is::<AuthError>() {
            return true;
        }
        next = inner.source();
    }
    matches!(error, Error::BuildRequest(_) | Error::RustlsTls(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> (Cause, String) {
        let status = Status::failure(message, "").with_code(code);
        match Trouble::Api(status.boxed()).told("the cluster to act".to_owned()) {
            ProviderError::Refused { cause, came_back, .. } => (cause, came_back),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_an_api_server_says_is_sorted_by_what_can_be_done() {
        for (code, message, wanted) in [
            (403, "pods \"x\" is forbidden: exceeded quota: pods, requested: pods=1", Cause::Quota),
            (
                403,
                "pods is forbidden: User \"u\" cannot create resource \"pods\" in API group \"\"",
                Cause::Denied,
            ),
            (401, "Unauthorized", Cause::Denied),
            (
                403,
                "pods \"x\" is forbidden: unable to create new content in namespace shop because it is \
                 being terminated",
                Cause::Absent,
            ),
            (
                403,
                "pods \"x\" is forbidden: violates PodSecurity \"restricted:v1.24\"",
                Cause::Absent,
            ),
            (403, "admission webhook \"policy\" denied the request: no team label", Cause::Absent),
            (404, "namespaces \"shop\" not found", Cause::Absent),
            (409, "pods \"x\" already exists", Cause::Conflict),
            (422, "Pod \"x\" is invalid: spec.containers: Required value", Cause::Absent),
            (429, "too many requests", Cause::Busy),
            (500, "etcdserver: mvcc: database space exceeded", Cause::DiskFull),
            (500, "something else", Cause::Failed),
            (504, "the server was unable to return a response in the time allotted", Cause::Late),
        ] {
            let (cause, text) = answer(code, message);
            assert_eq!(cause, wanted, "{message}");
            assert!(text.starts_with(&format!("{code}: ")), "{text}");
        }
    }

    #[test]
    fn what_an_api_server_says_is_quoted_short_and_harmless() {
        let (_, text) = answer(500, &format!("\x1b[2J{}", "x".repeat(10_000)));
        assert!(text.chars().count() < QUOTED + 10 && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn only_what_could_be_heard_may_have_been_done() {
        let of = |code| Trouble::Api(Status::failure("x", "").with_code(code).boxed());
        assert!(!of(403).may_have_acted());
        assert!(of(500).may_have_acted());
        let hook = "Internal error occurred: failed calling webhook \"x\": connection refused";
        let hook = Trouble::Api(Status::failure(hook, "").with_code(500).boxed());
        assert!(!hook.may_have_acted());
        assert!(Trouble::Late(Duration::ZERO).may_have_acted());
    }
}
