//! What a pod's status says: where it is, whether it runs, how it ended, what holds it up.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::body;
use crate::error::Cause;
use crate::remote::shorten;

/// Characters of a message that are shown.
const QUOTED: usize = 300;

/// A pod as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The cluster's own name for it, never given twice; empty before it was seen.
    pub(super) uid: String,
    pub(super) ip: Option<IpAddr>,
    /// Whether the container that serves runs.
    pub(super) runs: bool,
    /// How it ended, in words.
    pub(super) ended: Option<String>,
    pub(super) held_up: Option<HeldUp>,
    /// The limit of processor time that it really has, in thousandths of a core.
    pub(super) cpu_millis: Option<u32>,
    /// Why its node does not give it the size asked for.
    pub(super) refused_size: Option<String>,
}

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldUp {
    pub(super) cause: Cause,
    pub(super) text: String,
    /// Whether waiting longer is of no use.
    pub(super) for_good: bool,
}

/// The container of a pod that serves.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    pub(super) container: String,
    /// How often it had been started again when it became an instance. One that was started again
    /// since is another one, which does not know of its tier.
    pub(super) restarts: i32,
}

/// How often a container has been started again.
pub(super) fn restarts(pod: &Pod, container: &str) -> i32 {
    serving(pod, container).map_or(0, |one| one.restart_count)
}

/// Reads a pod.
pub(super) fn view(pod: &Pod, of: &Serving) -> View {
    let status = pod.status.as_ref();
    let serving = serving(pod, &of.container);
    let running = serving.and_then(|one| one.state.as_ref()).is_some_and(|s| s.running.is_some());
    let limits = serving.and_then(|one| one.resources.as_ref()?.limits.as_ref());
    View {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.as_ref()?.parse().ok()),
        runs: running,
        ended: ended(pod, serving, of.restarts),
        held_up: held_up(pod),
        cpu_millis: limits.and_then(|limits| millis(&limits.get("cpu")?.0)),
        refused_size: condition(pod, "PodResizePending").map(words),
    }
}

fn serving<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|one| one.name == container)
}

/// A condition that holds.
fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|one| one.type_ == kind && one.status == "True")
}

/// Whether its readiness says that it can take requests.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some()
}

fn words(condition: &PodCondition) -> String {
    said(condition.reason.as_deref(), condition.message.as_deref())
}

/// A reason with its message, of which either may be absent.
fn said(reason: Option<&str>, message: Option<&str>) -> String {
    let reason = reason.filter(|text| !text.is_empty());
    let message = message.filter(|text| !text.is_empty()).map(|text| shorten(text, QUOTED));
    match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(reason), None) => reason.to_owned(),
        (None, Some(message)) => message,
        (None, None) => "no reason is given".to_owned(),
    }
}

fn ended(pod: &Pod, serving: Option<&ContainerStatus>, restarts: i32) -> Option<String> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let again = serving.filter(|one| one.restart_count > restarts);
    let last = again.and_then(|one| one.last_state.as_ref()?.terminated.as_ref());
    let state = serving.and_then(|one| one.state.as_ref()?.terminated.as_ref()).or(last);
    let of_container = state.map(|state| {
        let how = said(state.reason.as_deref(), state.message.as_deref());
        format!("its container ended with status {}: {how}", state.exit_code)
    });
    let of_pod = status.and_then(|status| {
        let (reason, message) = (status.reason.as_deref(), status.message.as_deref());
        (reason.is_some() || message.is_some()).then(|| said(reason, message))
    });
    let is_over = matches!(phase, "Failed" | "Succeeded");
    if is_over || of_container.is_some() {
        // An eviction says more than the signal that came of it.
        let how = of_pod.or(of_container).unwrap_or_else(|| "no reason is given".to_owned());
        return Some(if is_over {
            format!("its pod {}: {how}", phase.to_lowercase())
        } else {
            how
        });
    }
    if again.is_some() {
        return Some("its container was started again".to_owned());
    }
    if status.is_some_and(|status| status.reason.as_deref() == Some("NodeLost")) {
        return Some(format!("its node is lost: {}", of_pod.unwrap_or_default()));
    }
    pod.metadata.deletion_timestamp.as_ref()?;
    let by = condition(pod, "DisruptionTarget").map(words);
    Some(by.map_or_else(
        || "its pod is being deleted".to_owned(),
        |by| format!("its pod is being deleted: {by}"),
    ))
}

/// What keeps it from running; what a scheduler or a node says of it, not what an API server does.
pub(super) fn held_up(pod: &Pod) -> Option<HeldUp> {
    let status = pod.status.as_ref()?;
    let unplaced = status
        .conditions
        .iter()
        .flatten()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(unplaced) = unplaced {
        let text = words(unplaced);
        return Some(HeldUp { cause: Cause::NoRoom, text, for_good: false });
    }
    let first = status.init_container_statuses.iter().flatten();
    first.chain(status.container_statuses.iter().flatten()).find_map(of_container)
}

fn of_container(one: &ContainerStatus) -> Option<HeldUp> {
    let waiting = one.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let (cause, for_good) = match reason {
        "ErrImagePull" | "RegistryUnavailable" => (Cause::NotPulled, false),
        "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            (Cause::NotPulled, true)
        }
        "CreateContainerConfigError" | "CreateContainerError" => (Cause::Absent, true),
        "CrashLoopBackOff" | "RunContainerError" | "StartError" => (Cause::Failed, true),
        _ => return None,
    };
    let mut text = format!(
        "container {} of image {} waits: {}",
        one.name,
        one.image,
        said(Some(reason), waiting.message.as_deref())
    );
    if let Some(last) = one.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
        let how = said(last.reason.as_deref(), last.message.as_deref());
        text += &format!(
            "; it ended {} times, last with status {}: {how}",
            one.restart_count, last.exit_code
        );
    }
    Some(HeldUp { cause, text, for_good })
}

/// Whose a pod is, where it says so.
pub(super) fn owner(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(body::OWNER).map(String::as_str)
}

/// The instance that a pod is of.
pub(super) fn instance(pod: &Pod) -> Option<foreshadow_control::InstanceId> {
    let name = pod.metadata.labels.as_ref()?.get(body::INSTANCE)?;
    name.strip_prefix('i')?.parse().ok().map(foreshadow_control::InstanceId)
}

/// A quantity of processor time in thousandths of a core, rounded up.
pub(super) fn millis(text: &str) -> Option<u32> {
    let cores = number(text)?;
    let millis = (cores * 1_000.0).ceil();
    (0.0..=1e9).contains(&millis).then_some({
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the bounds checked"
        )]
        let millis = millis as u32;
        millis
    })
}

/// A quantity of bytes.
pub(super) fn bytes(quantity: &Quantity) -> Option<u64> {
    let bytes = number(&quantity.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds checked"
    )]
    (0.0..=1e18).contains(&bytes).then_some(bytes as u64)
}

/// A quantity as the API writes it (Kubernetes, `apimachinery/pkg/api/resource`): a decimal number
/// with a suffix or an exponent.
pub(super) fn number(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let found = SUFFIXES.iter().find_map(|(name, times)| Some((text.strip_suffix(name)?, times)));
    let (digits, times) = found.unwrap_or((text, &1.0));
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '+');
    let value: f64 = digits.parse().ok().filter(|_| plain)?;
    let value = value * times;
    value.is_finite().then_some(value)
}
