//! What is said between Foreshadow and providers that others write: the documents of
//! docs/providers.md, the same for commands and for HTTP.

use std::net::SocketAddr;

use foreshadow_control::InstanceId;
use serde::{Deserialize, Serialize};

use crate::error::Cause;

/// Lines and characters quoted of what an instance said.
const QUOTED_LINES: usize = 10;
const QUOTED_CHARS: usize = 400;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    List,
    Freeze,
    Thaw,
    Resize,
    Snapshot,
    Discard,
    Destroy,
    /// What primaries there are.
    Primaries,
    /// How many there should be.
    Scale,
}

impl Operation {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Resize => "resize",
            Self::Snapshot => "snapshot",
            Self::Discard => "discard",
            Self::Destroy => "destroy",
            Self::Primaries => "primaries",
            Self::Scale => "scale",
        }
    }
}

/// Everything an operation may carry; what it does not use is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Request {
    /// Which Foreshadow asks: the same text for the life of its state directory.
    pub(crate) owner: String,
    /// As `i7`; never used for two instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// The tier that a new instance is made for: a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<String>,
    /// The snapshot that is made or removed, or that a new instance begins from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<String>,
    /// Of one core; absent for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<u32>,
    /// How many primaries there should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) primaries: Option<u32>,
    /// Requests at once that a function is kept warm for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<u32>,
    /// Time to end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace_ms: Option<u64>,
    /// What the answer to the last list said; an answer may wait until there is news.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) known: Option<String>,
    /// How long it may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait_ms: Option<u64>,
}

/// One instance in an answer; unknown fields are left alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Listed {
    pub(crate) instance: String,
    #[serde(default)]
    pub(crate) service: Option<String>,
    /// IP address and port; may be absent until it is known, in lists only.
    #[serde(default)]
    pub(crate) address: Option<SocketAddr>,
    #[serde(default)]
    pub(crate) state: Condition,
    /// Its process, where that is on this machine.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    /// In words, such as how it ended.
    #[serde(default)]
    pub(crate) detail: Option<String>,
    /// The last lines it wrote, oldest first.
    #[serde(default)]
    pub(crate) log: Vec<String>,
}

/// Where a listed instance stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    Starting,
    #[default]
    Running,
    Frozen,
    Ended,
}

impl Listed {
    /// The id, if this is the name of an instance of ours.
    pub(crate) fn id(&self) -> Option<InstanceId> {
        self.instance.strip_prefix('i')?.parse().ok().map(InstanceId)
    }

    /// What it wrote last, within bounds.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let skip = self.log.len().saturating_sub(QUOTED_LINES);
        self.log.iter().skip(skip).map(|line| shorten(line, QUOTED_CHARS)).collect()
    }
}

/// The answer to `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct List {
    pub(crate) instances: Vec<Listed>,
    /// Changes whenever anything in the list does; absent where lists cannot wait for news.
    #[serde(default)]
    pub(crate) version: Option<String>,
}

/// How a failure is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: FailureDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct FailureDetail {
    /// `quota`, `denied`, `disk_full`, `busy`, `unsupported` or `failed`.
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) message: String,
}

impl FailureDetail {
    pub(crate) fn cause(&self) -> Option<Cause> {
        Some(match self.kind.as_deref()? {
            "quota" => Cause::Quota,
            "denied" => Cause::Denied,
            "disk_full" => Cause::DiskFull,
            "busy" => Cause::Busy,
            "unsupported" => Cause::Unsupported,
            "failed" => Cause::Failed,
            _ => return None,
        })
    }
}

/// The beginning of a text on one line, free of control characters.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().take(chars).map(clean).collect();
    if text.trim().chars().nth(chars).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_say_little_or_more_than_is_known() {
        let list: List = serde_json::from_str(
            r#"{"instances": [
                {"instance": "i7", "address": "127.0.0.1:80", "colour": "blue"},
                {"instance": "other", "state": "ended", "detail": "spot reclaimed"}
            ], "more": 1}"#,
        )
        .unwrap();
        assert_eq!(list.version, None);
        assert_eq!(list.instances[0].id(), Some(InstanceId(7)));
        assert_eq!(list.instances[0].state, Condition::Running);
        assert_eq!((list.instances[1].id(), list.instances[1].state), (None, Condition::Ended));
        assert!(serde_json::from_str::<List>("{}").is_err(), "a list must be there");
        assert!(serde_json::from_str::<List>(r#"{"instances": [{}]}"#).is_err());
    }

    #[test]
    fn requests_carry_only_what_they_use() {
        let request = Request {
            owner: "o".to_owned(),
            instance: Some("i1".to_owned()),
            ..Request::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"owner":"o","instance":"i1"}"#);
    }

    #[test]
    fn quotes_are_short_and_harmless() {
        assert_eq!(shorten(" a\x1b[1m\nb ", 9), "a [1m b");
        assert_eq!(shorten(&"x".repeat(30), 5), "xxxxx…");
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let listed: Listed =
            serde_json::from_value(serde_json::json!({ "instance": "i1", "log": lines })).unwrap();
        assert_eq!(listed.last_lines().len(), QUOTED_LINES);
        assert_eq!(listed.last_lines()[9], "29");
    }
}
