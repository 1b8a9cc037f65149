//! Names: values that are one of a few.

use foreshadow_control::{Mode, Pace};

use super::Read;
use crate::reader::{Problem, Reader};
use crate::tree::Node;
use crate::{
    Accel, Environment, LogFormat, LogLevel, Network, OnExit, Protocol, Pull, RetryOn, Role, Step,
};

/// A value that is one of a few names.
#[derive(Debug)]
pub(crate) struct OneOf<T>(pub(crate) T);

/// The names that a [`OneOf`] may have.
pub(crate) trait Choice: Copy + 'static {
    const NAME: &'static str;
    const NAMES: &'static [(&'static str, Self)];
    /// What is said of names that mean something, but not here.
    const REFUSED: &'static [(&'static str, &'static str)] = &[];
}

impl<T: Choice> Read for OneOf<T> {
    fn form() -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        if let [name] = names[..] {
            name.to_owned()
        } else {
            format!("one of {}", names.join(", "))
        }
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let scalar = r.scalar(node, &Self::form())?;
        let text = scalar.text().unwrap_or_default();
        if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| *name == text) {
            return Some(Self(*value));
        }
        let mut problem = Problem::new(scalar.describe(), Self::form());
        problem = match T::REFUSED.iter().find(|(name, _)| *name == text) {
            Some((_, help)) => problem.help(*help),
            None => problem.nearest(text, T::NAMES.iter().map(|(name, _)| *name)),
        };
        r.fault(&node.span, problem);
        None
    }
}

impl<T: Choice> schemars::JsonSchema for OneOf<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        schemars::json_schema!({
            "anyOf": [{ "enum": names }, { "type": "string", "pattern": "\\$\\{" }],
        })
    }
}

impl Choice for Mode {
    const NAME: &'static str = "Mode";
    const NAMES: &'static [(&'static str, Self)] =
        &[("observe", Self::Observe), ("advise", Self::Advise), ("act", Self::Act)];
}

impl Choice for Pace {
    const NAME: &'static str = "Pace";
    const NAMES: &'static [(&'static str, Self)] =
        &[("careful", Self::Careful), ("normal", Self::Normal), ("brisk", Self::Brisk)];
}

impl Choice for LogLevel {
    const NAME: &'static str = "LogLevel";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Choice for LogFormat {
    const NAME: &'static str = "LogFormat";
    const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

impl Choice for Role {
    const NAME: &'static str = "Role";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("report", Self::Report),
        ("read", Self::Read),
        ("operate", Self::Operate),
        ("admin", Self::Admin),
    ];
    const REFUSED: &'static [(&'static str, &'static str)] =
        &[("write", "write operate, or admin for the configuration as well")];
}

impl Choice for OnExit {
    const NAME: &'static str = "OnExit";
    const NAMES: &'static [(&'static str, Self)] =
        &[("destroy", Self::Destroy), ("keep", Self::Keep)];
}

impl Choice for Environment {
    const NAME: &'static str = "Environment";
    const NAMES: &'static [(&'static str, Self)] =
        &[("inherit", Self::Inherit), ("clean", Self::Clean)];
}

impl Choice for Network {
    const NAME: &'static str = "Network";
    const NAMES: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("private", Self::Private)];
}

impl Choice for Pull {
    const NAME: &'static str = "Pull";
    const NAMES: &'static [(&'static str, Self)] =
        &[("never", Self::Never), ("missing", Self::Missing), ("always", Self::Always)];
}

impl Choice for Accel {
    const NAME: &'static str = "Accel";
    const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("kvm", Self::Kvm), ("tcg", Self::Tcg)];
}

impl Choice for Step {
    const NAME: &'static str = "Step";
    const NAMES: &'static [(&'static str, Self)] =
        &[("freeze", Self::Freeze), ("resize", Self::Resize), ("snapshot", Self::Snapshot)];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("thaw", "whoever can freeze can thaw; write freeze"),
        ("create", "every provider can"),
        ("list", "every provider can"),
        ("destroy", "every provider can"),
    ];
}

impl Choice for RetryOn {
    const NAME: &'static str = "RetryOn";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("connect_failure", Self::ConnectFailure),
        ("reset", Self::Reset),
        ("gateway_error", Self::GatewayError),
        ("timeout", Self::Timeout),
    ];
    const REFUSED: &'static [(&'static str, &'static str)] =
        &[("5xx", "use gateway_error for answers of 502, 503 and 504")];
}

impl Choice for Protocol {
    const NAME: &'static str = "Protocol";
    const NAMES: &'static [(&'static str, Self)] = &[("http", Self::Http)];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("tcp", "tcp is not available in this version"),
        ("udp", "udp is not available in this version"),
        ("https", "tls is not available in this version"),
    ];
}

/// The kinds of health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckKind {
    Http,
    Tcp,
}

impl Choice for CheckKind {
    const NAME: &'static str = "HealthCheckType";
    const NAMES: &'static [(&'static str, Self)] = &[("http", Self::Http), ("tcp", Self::Tcp)];
}
