//! What emulators say when they do not do as asked, in words an operator can act on.

use std::time::Duration;

use foreshadow_control::InstanceId;
use serde_json::Value;

use super::spec::{Accel, VmSpec};
use crate::error::{Cause, ProviderError};
use crate::remote::shorten;

/// Characters of an emulator's answer that are shown.
const QUOTED: usize = 400;

/// Why an order came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The time was up; what was last wrong with the connection.
    Late(Duration, Option<String>),
    /// It hung up, or has ended; what was last wrong with the connection.
    Gone(Option<String>),
    /// It answered that it would not.
    Refused(String),
}

impl Trouble {
    /// The error of an answer.
    pub(super) fn refused(error: &Value) -> Self {
        let said = error["desc"].as_str().map(str::to_owned);
        Self::Refused(said.unwrap_or_else(|| error.to_string()))
    }

    /// With what was asked of which instance.
    pub(super) fn told(self, id: InstanceId, what: &str) -> ProviderError {
        let because = |why: Option<String>| why.map_or_else(String::new, |why| format!(" ({why})"));
        let (cause, came_back) = match self {
            Self::Late(patience, why) => {
                let why = because(why);
                (Cause::Late, format!("no answer within {} ms{why}", patience.as_millis()))
            }
            Self::Gone(why) => (Cause::Failed, format!("it hung up{}", because(why))),
            Self::Refused(text) => (cause(&text.to_lowercase()), shorten(&text, QUOTED)),
        };
        ProviderError::Refused {
            cause,
            asked: format!("the emulator of {id} to {what}"),
            came_back,
        }
    }
}

/// An emulator that ended before it took orders: what it wrote says why.
pub(super) fn not_begun(
    id: InstanceId,
    spec: &VmSpec,
    how: &str,
    words: &[String],
) -> ProviderError {
    let said = match words.is_empty() {
        true => "nothing".to_owned(),
        false => shorten(&words.join(" | "), QUOTED),
    };
    let mut cause = cause(&said.to_lowercase());
    if spec.accel == Accel::Kvm && said.to_lowercase().contains("kvm") {
        cause = Cause::NoKvm;
    }
    ProviderError::Refused {
        cause,
        asked: format!("{} to start {id}", spec.binary),
        came_back: format!("it {how} at once; it wrote: {said}"),
    }
}

/// A program that cannot be run, in terms of these settings.
pub(super) fn explained(error: ProviderError, spec: &VmSpec) -> ProviderError {
    match error {
        ProviderError::Spawn { searched, source, .. }
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            ProviderError::Refused {
                cause: Cause::NoEmulator,
                asked: format!("to run {}{searched}", spec.binary),
                came_back: source.to_string(),
            }
        }
        other => other,
    }
}

/// What a refusal comes to. QEMU's errors have no kinds to speak of; what they mean is in the text.
fn cause(text: &str) -> Cause {
    let says = |texts: &[&str]| texts.iter().any(|part| text.contains(part));
    if says(&["no space left on device", "disk quota exceeded"]) {
        return Cause::DiskFull;
    }
    if says(&[
        "could not set up host forwarding rule",
        "address already in use",
        "get \"write\" lock",
    ]) {
        return Cause::Conflict;
    }
    if says(&[
        "/dev/kvm",
        "could not access kvm",
        "failed to initialize kvm",
        "invalid accelerator kvm",
    ]) {
        return Cause::NoKvm;
    }
    if says(&["permission denied"]) {
        return Cause::Denied;
    }
    if says(&[
        "no such file",
        "could not open",
        "unsupported machine type",
        "invalid option",
        "sandbox support is not enabled",
        "invalid parameter",
        "invalid accelerator",
        "is not a valid device model",
        "image is not in",
        "cannot allocate memory",
        "cannot set up guest memory",
    ]) {
        return Cause::Absent;
    }
    Cause::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_emulator_writes_is_sorted_by_what_can_be_done() {
        let kvm = VmSpec { accel: Accel::Kvm, ..VmSpec::default() };
        for (text, wanted) in [
            ("qemu: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:80'", Cause::Conflict),
            ("Could not access KVM kernel module: Permission denied", Cause::NoKvm),
            ("kvm run failed Bad address", Cause::NoKvm),
            ("-machine nope: unsupported machine type", Cause::Absent),
            ("Could not open '/x': Permission denied", Cause::Denied),
            ("write: No space left on device", Cause::DiskFull),
            ("something else", Cause::Failed),
        ] {
            let error = not_begun(InstanceId(7), &kvm, "exited with code 1", &[text.to_owned()]);
            let ProviderError::Refused { cause, .. } = &error else { panic!("{error}") };
            assert_eq!(*cause, wanted, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn an_order_without_answer_says_what_was_asked_and_what_happens_next() {
        let late = Trouble::Late(Duration::from_millis(50), Some("it does not greet".to_owned()));
        let text = late.told(InstanceId(7), "stop").to_string();
        let wanted = "asked the emulator of i7 to stop: no answer within 50 ms (it does not greet); \
                      see why it takes so long, or raise `timeout`; it is asked again after a pause";
        assert_eq!(text, wanted);
    }
}
