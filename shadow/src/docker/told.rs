//! What engines say when they do not do as asked, in words an operator can act on.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bollard::errors::Error;

use crate::error::{Cause, ProviderError};
use crate::remote::shorten;

/// Characters of an engine's answer that are shown.
const QUOTED: usize = 400;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The time was up.
    Late(Duration),
    /// It cannot be spoken to as configured.
    Settings(Cause, String),
    /// What the client library made of it.
    Engine(Error),
}

impl Trouble {
    /// The status that the engine answered with.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Engine(Error::DockerResponseServerError { status_code, .. }) => {
                Some(*status_code)
            }
            _ => None,
        }
    }

    /// What the engine wrote, in lower case; empty where it answered nothing.
    fn message(&self) -> String {
        match self {
            Self::Engine(Error::DockerResponseServerError { message, .. }) => {
                message.to_lowercase()
            }
            Self::Engine(Error::DockerStreamError { error }) => error.to_lowercase(),
            _ => String::new(),
        }
    }

    /// Whether what was asked about is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the engine lacks the image that a container was to be made of.
    pub(super) fn is_missing_image(&self) -> bool {
        self.is_absent() && self.message().contains("no such image")
    }

    /// Whether a name is in use already.
    pub(super) fn is_name_taken(&self) -> bool {
        self.status() == Some(409) && self.message().contains("already in use")
    }

    /// Whether a container is not in a network that it was to leave.
    pub(super) fn is_not_in_network(&self) -> bool {
        self.is_absent() || self.message().contains("is not connected to")
    }

    /// Whether a network is still used.
    pub(super) fn has_endpoints(&self) -> bool {
        self.message().contains("active endpoints")
    }

    /// Whether somebody's order to remove it is under way.
    pub(super) fn is_being_removed(&self) -> bool {
        self.status() == Some(409) && self.message().contains("already in progress")
    }

    /// Whether a container is in a network that it was to join.
    pub(super) fn is_in_network(&self) -> bool {
        self.message().contains("already exists in network")
            || self.message().contains("already attached to network")
    }

    /// Whether the engine speaks no version that was agreed upon with it before.
    pub(super) fn is_version(&self) -> bool {
        self.status() == Some(400) && self.message().contains("client version")
    }

    /// Whether something may have been made of an order all the same.
    pub(super) fn may_have_acted(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Settings(..) | Self::Engine(Error::DockerResponseServerError { .. }) => false,
            Self::Engine(Error::HyperLegacyError { err }) => !err.is_connect(),
            Self::Engine(_) => true,
        }
    }

    /// With what was asked.
    pub(super) fn told(self, asked: String) -> ProviderError {
        let (cause, came_back) = match self {
            Self::Late(patience) => {
                (Cause::Late, format!("no answer within {} ms", patience.as_millis()))
            }
            Self::Settings(cause, text) => (cause, text),
            Self::Engine(error) => explained(&error),
        };
        ProviderError::Refused { cause, asked, came_back }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            // The library's own bound is never the tighter one; whoever waits longer is told so.
            Error::RequestTimeoutError => {
                Self::Settings(Cause::Late, "no answer in time".to_owned())
            }
            error => Self::Engine(error),
        }
    }
}

fn explained(error: &Error) -> (Cause, String) {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            let cause = cause(*status_code, &message.to_lowercase());
            let quote = shorten(message, QUOTED);
            let quote = if quote.is_empty() { "nothing more".to_owned() } else { quote };
            (cause, format!("{status_code}: {quote}"))
        }
        Error::DockerStreamError { error } => {
            (cause(500, &error.to_lowercase()), shorten(error, QUOTED))
        }
        Error::JsonDataError { message, .. } => {
            (Cause::Malformed, format!("an answer that is not the engine API's: {message}"))
        }
        Error::JsonSerdeError { err } => {
            (Cause::Malformed, format!("an answer that is not the engine API's: {err}"))
        }
        Error::APIVersionParseError {} => {
            (Cause::Malformed, "an answer without the version of its API".to_owned())
        }
        Error::SocketNotFoundError(path) => {
            (Cause::Unreachable, format!("no connection: there is no socket {path}"))
        }
        Error::CertPathError { path }
        | Error::CertMultipleKeys { path, .. }
        | Error::CertParseError { path } => {
            (Cause::Absent, format!("{} cannot be used: {error}", path.display()))
        }
        other => connection(other),
    }
}

/// Something went wrong below HTTP.
fn connection(error: &Error) -> (Cause, String) {
    // Its own source is what the error that it shows came from.
    let mut next: Option<&(dyn std::error::Error + 'static)> = match error {
        Error::IOError { err } => Some(err),
        other => other.source(),
    };
    let mut innermost = error.to_string();
    let mut cause = Cause::Unreachable;
    while let Some(inner) = next {
        innermost = inner.to_string();
        if let Some(http) = inner.downcast_ref::<hyper::Error>()
            && http.is_parse()
        {
            cause = Cause::Malformed;
        }
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            let text = "the socket may not be used by foreshadow's user; \
                        it must be in the socket's group (docker) or be root";
            return (Cause::Denied, format!("{text}: {io}"));
        }
        next = inner.source();
    }
    (cause, format!("no whole answer: {}", shorten(&innermost, QUOTED)))
}

/// What an engine's refusal comes to. Its kinds of errors are few; what it means stands in the text,
/// which has been the same for years (moby, `errdefs` and `daemon`).
fn cause(status: u16, message: &str) -> Cause {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["no space left on device", "disk quota exceeded"]) {
        return Cause::DiskFull;
    }
    if says(&["no such image", "manifest unknown", "repository does not exist"]) {
        return Cause::NoImage;
    }
    if says(&["toomanyrequests", "quota", "too many requests"]) {
        return Cause::Quota;
    }
    if says(&["client version"]) {
        return Cause::Version;
    }
    if says(&["already in use", "port is already allocated", "address already in use"]) {
        return Cause::Conflict;
    }
    // Whom the engine itself could not reach, such as a registry.
    if says(&["no such host", "i/o timeout", "connection refused"]) {
        return Cause::Unreachable;
    }
    if says(&[
        "executable file not found",
        "no such file or directory",
        "does not exist",
        "unable to find user",
        "cannot assign requested address",
    ]) {
        return Cause::Absent;
    }
    if says(&["permission denied", "unauthorized", "authorization denied", "access denied"]) {
        return Cause::Denied;
    }
    match status {
        400 | 404 => Cause::Absent,
        401 | 403 => Cause::Denied,
        409 => Cause::Conflict,
        429 | 503 => Cause::Busy,
        501 => Cause::Unsupported,
        _ => Cause::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> (Cause, String) {
        let error = Error::DockerResponseServerError { status_code, message: message.to_owned() };
        match Trouble::from(error).told("the engine to act".to_owned()) {
            ProviderError::Refused { cause, came_back, .. } => (cause, came_back),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_an_engine_says_is_sorted_by_what_can_be_done() {
        for (status, message, wanted) in [
            (404, "No such image: shop:1", Cause::NoImage),
            (500, "write /var/lib/docker/tmp/x: no space left on device", Cause::DiskFull),
            (500, "toomanyrequests: You have reached your pull rate limit", Cause::Quota),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container",
                Cause::Conflict,
            ),
            (
                500,
                "driver failed programming external connectivity: port is already allocated",
                Cause::Conflict,
            ),
            (
                400,
                "client version 1.53 is too new. Maximum supported API version is 1.41",
                Cause::Version,
            ),
            (404, "network shop not found", Cause::Absent),
            (
                400,
                "invalid mount config for type \"bind\": bind source path does not exist: /x",
                Cause::Absent,
            ),
            (
                400,
                "OCI runtime create failed: exec: \"/x\": executable file not found in $PATH",
                Cause::Absent,
            ),
            (403, "authorization denied by plugin", Cause::Denied),
            (503, "", Cause::Busy),
            (500, "something else", Cause::Failed),
        ] {
            let (cause, text) = answer(status, message);
            assert_eq!(cause, wanted, "{message}");
            assert!(text.starts_with(&format!("{status}: ")), "{text}");
            assert!(text.len() > 6, "{text}");
        }
    }

    #[test]
    fn what_an_engine_says_is_quoted_short_and_harmless() {
        let (_, text) = answer(500, &format!("\x1b[2J{}", "x".repeat(10_000)));
        assert!(text.chars().count() < QUOTED + 10 && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn a_socket_that_may_not_be_used_says_which_group_is_needed() {
        let io = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Trouble::from(Error::from(io)).told("x".to_owned()).to_string();
        assert!(error.contains("group (docker)"), "{error}");
    }
}
