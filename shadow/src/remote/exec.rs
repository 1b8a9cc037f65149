//! The command contract: one program, run once per operation, JSON in and out.

mod run;
mod tree;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::run::Commands;

use self::turns::Turns;

use super::contract::{Failure, Operation, Request, shorten};
use super::{QUOTED, Remote, Traits, Transport};
use crate::error::{Cause, ProviderError};
use crate::process::ProcessHost;
use crate::provider::Provider;

/// Exit codes that say why (sysexits.h), for commands that print no reason.
const EX_USAGE: i32 = 64;
const EX_UNAVAILABLE: i32 = 69;
const EX_TEMPFAIL: i32 = 75;
const EX_NOPERM: i32 = 77;

/// How a command is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments; the operation is added as the last one.
    pub command: Vec<String>,
    /// Added to Foreshadow's own environment.
    pub env: Vec<(String, String)>,
    /// Working directory; Foreshadow's own when absent.
    pub dir: Option<PathBuf>,
    /// What it can do, and times.
    pub traits: Traits,
}

/// Makes instances of one service by a command.
pub struct ExecProvider;

impl ExecProvider {
    /// A provider for one service; `host` is that of the process providers.
    #[must_use]
    #[expect(clippy::new_ret_no_self, reason = "what a command does is done behind the trait")]
    pub fn new(host: &Arc<ProcessHost>, spec: ExecSpec) -> Arc<dyn Provider> {
        let traits = spec.traits.clone();
        Arc::new(Remote::new(Exec::new(host, spec), traits, &host.marker, &host.places))
    }
}

pub(super) struct Exec {
    host: Arc<ProcessHost>,
    spec: ExecSpec,
    turns: Turns,
}

impl Exec {
    pub(super) fn new(host: &Arc<ProcessHost>, spec: ExecSpec) -> Self {
        Self { host: Arc::clone(host), spec, turns: Turns::new() }
    }
}

#[async_trait]
impl Transport for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn place(&self) -> String {
        format!("{:?}", (&self.spec.command, &self.spec.dir))
    }

    fn settings(&self) -> String {
        format!("{:?}", (&self.spec.command, &self.spec.dir, &self.spec.env))
    }

    fn can_wait(&self) -> bool {
        false
    }

    async fn settle(&self) -> Result<(), ProviderError> {
        self.host.commands.settle().await
    }

    async fn ask(
        &self,
        operation: Operation,
        request: &Request,
        patience: Duration,
    ) -> Result<serde_json::Value, ProviderError> {
        let program = self.spec.command.first().map_or("", String::as_str);
        let of_service = matches!(operation, Operation::Primaries | Operation::Scale);
        let service = request.service.as_ref().filter(|_| of_service);
        let subject = request.instance.as_ref().or(request.snapshot.as_ref()).or(service);
        let subject = subject.map_or_else(String::new, |name| format!(" {name}"));
        let asked = format!("command {program:?} to {}{subject}", operation.word());
        let refused = |(cause, came_back): (Cause, String)| ProviderError::Refused {
            cause,
            asked: asked.clone(),
            came_back,
        };
        let input = serde_json::to_vec(request).map_err(|e| ProviderError::Other(e.to_string()))?;
        let about = request.instance.as_deref().or(request.snapshot.as_deref());
        let run =
            run::Run { spec: &self.spec, operation: operation.word(), about, input, patience };
        let output = self.host.commands.run(&self.turns, run).await.map_err(refused)?;
        answer(&output).map_err(refused)
    }
}

/// What a command's end comes to.
fn answer(output: &run::Output) -> Result<serde_json::Value, (Cause, String)> {
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.trim();
    let took = output.took.as_millis();
    let complaint = if output.stderr.is_empty() {
        String::new()
    } else {
        format!("; its stderr ends: {}", output.stderr)
    };
    if output.code == Some(0) {
        if said.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        return serde_json::from_str(said).map_err(|error| {
            let quote = shorten(said, QUOTED);
            (Cause::Malformed, format!("{quote:?}, which is no JSON: {error}{complaint}"))
        });
    }
    let told = serde_json::from_str::<Failure>(said).ok().map(|failure| failure.error);
    let by_code = match output.code {
        Some(EX_USAGE) => Cause::Unsupported,
        Some(EX_UNAVAILABLE) => Cause::Unreachable,
        Some(EX_TEMPFAIL) => Cause::Busy,
        Some(EX_NOPERM) => Cause::Denied,
        // strerror(ENOSPC), as most programs end their complaint.
        _ if output.stderr.contains("No space left on device") => Cause::DiskFull,
        _ => Cause::Failed,
    };
    let cause = told.as_ref().and_then(|told| told.cause()).unwrap_or(by_code);
    let message = match &told {
        Some(told) => format!(": {}", shorten(&told.message, QUOTED)),
        None if said.is_empty() => String::new(),
        None => format!(", having printed {:?}", shorten(said, QUOTED)),
    };
    let was = if output.code.is_none() { "was " } else { "" };
    Err((cause, format!("it {was}{} after {took} ms{message}{complaint}", output.how)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> run::Output {
        run::Output {
            code: Some(code),
            how: format!("exited with code {code}"),
            stdout: stdout.into(),
            stderr: stderr.to_owned(),
            took: Duration::from_millis(7),
        }
    }

    #[test]
    fn what_came_back_is_told_with_its_reason() {
        assert_eq!(answer(&output(0, " {\"a\": 1}\n", "noise")).unwrap()["a"], 1);
        assert_eq!(answer(&output(0, "\n", "")).unwrap(), serde_json::Value::Null);
        let of = |code, stdout, stderr| answer(&output(code, stdout, stderr)).unwrap_err();
        let quota = r#"{"error": {"kind": "quota", "message": "4 of 4 used"}}"#;
        assert_eq!(
            of(1, quota, ""),
            (Cause::Quota, "it exited with code 1 after 7 ms: 4 of 4 used".to_owned())
        );
        assert_eq!(
            of(77, "", "no right\nto"),
            (
                Cause::Denied,
                "it exited with code 77 after 7 ms; its stderr ends: no right\nto".to_owned()
            )
        );
        assert_eq!(of(75, "", "").0, Cause::Busy);
        assert_eq!(of(64, "", "").0, Cause::Unsupported);
        assert_eq!(of(69, "", "").0, Cause::Unreachable);
        let (cause, text) = of(1, "oops", "");
        assert_eq!(cause, Cause::Failed);
        assert!(text.contains("having printed \"oops\""), "{text}");
        let (cause, text) = of(0, "oops", "");
        assert_eq!(cause, Cause::Malformed);
        assert!(text.starts_with("\"oops\", which is no JSON"), "{text}");
    }
}
