//! Processor time of pods, at full size and at less.

use serde_json::{Map, Value, json};

use super::seen;
use crate::provider::CpuShare;

/// Processor time of a container at full size, in thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Size {
    pub(super) request: u32,
    pub(super) limit: u32,
}

impl Size {
    /// What it is at a share of one core. The two keep their proportion: a pod may not change into
    /// another class of service (Kubernetes, `pkg/apis/core/validation`).
    pub(super) fn at(self, share: CpuShare) -> Self {
        let limit = match share {
            CpuShare::Percent(percent) => percent.saturating_mul(10).clamp(2, self.limit.max(2)),
            CpuShare::Unlimited => return self,
        };
        if self.request == self.limit {
            return Self { request: limit, limit };
        }
        let request = u64::from(limit) * u64::from(self.request) / u64::from(self.limit.max(1));
        // Below the limit, as it was.
        let request = u32::try_from(request).unwrap_or(u32::MAX).min(limit - 1);
        Self { request: if self.request == 0 { 0 } else { request.max(1) }, limit }
    }

    /// The body that gives a container this size.
    pub(super) fn patch(self, container: &str) -> Value {
        let mut resources = json!({ "limits": { "cpu": format!("{}m", self.limit) } });
        if self.request > 0 {
            resources["requests"] = json!({ "cpu": format!("{}m", self.request) });
        }
        json!({ "spec": { "containers": [{ "name": container, "resources": resources }] } })
    }
}

/// The processor time of a container; absent where nothing limits it: then there is no size to go
/// back to, since a limit that was added cannot be taken away again.
pub(super) fn of(container: &Map<String, Value>) -> Option<Size> {
    let resources = container.get("resources")?;
    let amount = |kind: &str| match &resources[kind]["cpu"] {
        Value::String(text) => seen::millis(text),
        Value::Number(number) => seen::millis(&number.to_string()),
        _ => None,
    };
    let limit = amount("limits").filter(|limit| *limit > 0)?;
    // What is not asked for is taken to be the limit (Kubernetes, `pkg/apis/core/v1/defaults`).
    Some(Size { request: amount("requests").unwrap_or(limit), limit })
}

/// The same of a container of a pod's `spec`.
pub(super) fn within(spec: &Value, container: &str) -> Option<Size> {
    let mut all = spec.get("containers")?.as_array()?.iter();
    of(all.find(|one| one["name"] == container)?.as_object()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_keeps_the_class_of_service() {
        let equal = Size { request: 2_000, limit: 2_000 };
        assert_eq!(equal.at(CpuShare::Percent(20)), Size { request: 200, limit: 200 });
        assert_eq!(equal.at(CpuShare::Unlimited), equal);
        let less = Size { request: 500, limit: 2_000 };
        assert_eq!(less.at(CpuShare::Percent(20)), Size { request: 50, limit: 200 });
        assert_eq!(less.at(CpuShare::Percent(900)).limit, 2_000, "never above full size");
        let close = Size { request: 1_999, limit: 2_000 };
        let small = close.at(CpuShare::Percent(1));
        assert!(small.request < small.limit && small.request > 0, "{small:?}");
        let none = Size { request: 0, limit: 2_000 };
        assert_eq!(none.at(CpuShare::Percent(20)), Size { request: 0, limit: 200 });
    }
}
