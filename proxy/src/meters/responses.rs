//! What clients were answered, by status class and by who answered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::taken;

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A backend; the proxy passed it on.
    Backend,
    /// The proxy, for want of an answer from a backend.
    Proxy,
}

/// Status classes, from 1xx to 5xx.
pub const CLASSES: usize = 5;

/// Answers that clients were sent, the last one of each request: by class, 1xx first.
///
/// An answer counts by its head, also where the rest of it could not be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Responses {
    /// Those of backends.
    pub backend: [u64; CLASSES],
    /// The proxy's own.
    pub proxy: [u64; CLASSES],
}

impl Responses {
    pub(crate) fn add(&mut self, more: &Self) {
        let sums = self.backend.iter_mut().chain(&mut self.proxy);
        for (sum, more) in sums.zip(more.backend.iter().chain(&more.proxy)) {
            *sum += more;
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub(super) struct ResponseCell {
    backend: [AtomicU64; CLASSES],
    proxy: [AtomicU64; CLASSES],
}

impl ResponseCell {
    pub(super) fn count(&self, origin: Origin, status: u16) {
        let classes = match origin {
            Origin::Backend => &self.backend,
            Origin::Proxy => &self.proxy,
        };
        // What HTTP has no class for counts as the nearest.
        classes[usize::from(status / 100).clamp(1, CLASSES) - 1].fetch_add(1, Relaxed);
    }

    pub(super) fn drain(&self) -> Responses {
        Responses {
            backend: std::array::from_fn(|class| taken(&self.backend[class])),
            proxy: std::array::from_fn(|class| taken(&self.proxy[class])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_class_and_origin_and_taken_once() {
        let cell = ResponseCell::default();
        for status in [101, 200, 204, 304, 404, 500, 599, 999] {
            cell.count(Origin::Backend, status);
        }
        cell.count(Origin::Proxy, 503);
        let taken = Responses { backend: [1, 2, 1, 1, 3], proxy: [0, 0, 0, 0, 1] };
        assert_eq!(cell.drain(), taken);
        assert_eq!(cell.drain(), Responses::default());
        let mut sum = taken;
        sum.add(&taken);
        assert_eq!(sum, Responses { backend: [2, 4, 2, 2, 6], proxy: [0, 0, 0, 0, 2] });
    }
}
