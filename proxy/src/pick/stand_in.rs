//! Who takes over what waits for a backend that has fallen.

use std::sync::Arc;

use foreshadow_control::InstanceId;
use rand::Rng;

use super::{Entry, Heat, Service};
use crate::backend::Backend;

impl Service {
    /// Claims a backend and a retry for a request that waits for backend `instance` and was at
    /// those `tried` before. None where either is missing: nothing is spent then, and the request is
    /// better off where it is, since what fails a check may still answer.
    ///
    /// Only a backend that is steady takes part, and none that has more to do than chance explains:
    /// what waited for one would fell the next. So a herd moves as fast as there is room for it.
    pub(crate) fn claim_stand_in(
        &self,
        rng: &mut impl Rng,
        instance: InstanceId,
        tried: &[InstanceId],
        now_ms: u64,
    ) -> Option<Arc<Backend>> {
        if !self.policy.retries.on.reset {
            return None;
        }
        let threshold = self.hot_threshold();
        let takes = |entry: &&Entry| {
            let id = entry.backend.id();
            id != instance
                && !tried.contains(&id)
                && entry.backend.is_steady(now_ms)
                && entry.heat(threshold, now_ms) < Heat::Swamped
        };
        // A steady backend is not on probation, so that no trial is lost where the budget is spent.
        let entry = self.any_usable(rng, takes, now_ms)?;
        self.state.budget.try_withdraw(now_ms).then(|| Arc::clone(&entry.backend))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Clock;
    use crate::backend::outcome::{Answer, Outcome};
    use crate::backend::registry::Registry;
    use crate::health::verdict::CheckFailure;
    use crate::meters::WorkerId;
    use crate::table::policy::UpstreamPolicy;
    use crate::table::{BackendSpec, UpstreamSpec};
    use crate::{CheckKind, HealthCheck, InFlightGuard};

    /// Backends 1 to 3, alike, of which the first has fallen.
    fn service() -> Service {
        let registry = Registry::new(1, Clock::start());
        let backend = |id: u16| BackendSpec {
            id: InstanceId(u64::from(id)),
            address: ([127, 0, 0, 1], id).into(),
            weight: 1,
            capacity_rps: 0.0,
        };
        let (name, policy) = ("shop".into(), Arc::new(UpstreamPolicy::default()));
        let backends = (1..=3).map(backend).collect();
        Service::build(&UpstreamSpec { name, backends, policy }, &registry, &[])
    }

    fn claims(service: &Service, tried: &[u64], now_ms: u64) -> Vec<u64> {
        let tried: Vec<_> = tried.iter().copied().map(InstanceId).collect();
        let mut ids: Vec<_> = (0..30)
            .filter_map(|_| service.claim_stand_in(&mut rand::rng(), InstanceId(1), &tried, now_ms))
            .map(|backend| backend.id().0)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn check(service: &Service, at: usize, passes: bool, now_ms: u64) {
        let backend = &service.backends()[at];
        let how = HealthCheck {
            kind: CheckKind::Tcp,
            interval: std::time::Duration::from_secs(1),
            timeout: std::time::Duration::from_secs(1),
            rise: 1,
            fall: 2,
        };
        let failure = CheckFailure { definitive: false, reason: "status 500".to_owned() };
        let result = if passes { Ok(()) } else { Err(failure) };
        backend.checked(backend.check_epoch(), result, &how, now_ms);
    }

    fn load(service: &Service, at: usize, requests: usize) -> Vec<InFlightGuard> {
        (0..requests).map(|_| service.backends()[at].begin(WorkerId(0), 0)).collect()
    }

    #[test]
    fn neither_those_tried_nor_an_empty_budget_cost_anything() {
        let service = service();
        let full = service.budget().available();
        assert_eq!(claims(&service, &[2, 3], 10), Vec::<u64>::new());
        assert_eq!(service.budget().available(), full);
        assert_eq!(claims(&service, &[2], 10), [3]);
        assert_eq!(service.budget().available(), full - 30);
        while service.budget().try_withdraw(10) {}
        assert_eq!(claims(&service, &[], 10), Vec::<u64>::new());
    }

    #[test]
    fn whoever_fails_a_check_or_has_just_come_back_takes_nothing() {
        let service = service();
        assert_eq!(claims(&service, &[], 10), [2, 3]);
        check(&service, 1, false, 20);
        assert_eq!(claims(&service, &[], 20), [3], "it may be about to fall, too");
        check(&service, 1, true, 30);
        assert_eq!(claims(&service, &[], 30), [2, 3]);
        check(&service, 1, false, 40);
        check(&service, 1, false, 50);
        check(&service, 1, true, 60);
        assert_eq!(claims(&service, &[], 5_059), [3]);
        assert_eq!(claims(&service, &[], 5_060), [2, 3]);
    }

    /// A request to the second backend, sent and ended at once.
    fn answered(service: &Service, answer: Answer, now_ms: u64) {
        answered_by(service, 1, answer, now_ms);
    }

    fn answered_by(service: &Service, at: usize, answer: Answer, now_ms: u64) {
        let latency = std::time::Duration::from_millis(1);
        let outcome = Outcome { answer, latency, bytes_in: 0, bytes_out: 0, retry: false };
        service.backends()[at].begin(WorkerId(0), now_ms).finish(&outcome, now_ms);
    }

    #[test]
    fn whoever_is_spared_for_want_of_others_takes_nothing() {
        let service = service();
        (0..5).for_each(|_| answered(&service, Answer::Status(503), 10));
        assert!(service.backends()[1].admit(20_000));
        (0..5).for_each(|_| answered_by(&service, 2, Answer::Status(503), 20_000));
        assert!(service.backends()[2].is_ejected());
        answered(&service, Answer::Status(503), 20_001);
        assert!(!service.backends()[1].is_ejected(), "one of three may be");
        assert_eq!(claims(&service, &[], 20_001), Vec::<u64>::new(), "its trial has just failed");
        assert_eq!(claims(&service, &[], 25_001), [2]);
    }

    #[test]
    fn whoever_has_just_been_taken_back_by_ejection_takes_nothing() {
        let service = service();
        (0..5).for_each(|_| answered(&service, Answer::Status(503), 10));
        assert!(service.backends()[1].is_ejected());
        // The first ejection lasts 5.5 s at most, and then trials decide.
        for _ in 0..3 {
            assert!(service.backends()[1].admit(20_000));
            answered(&service, Answer::Status(200), 20_000);
        }
        assert!(service.backends()[1].is_sound());
        assert_eq!(claims(&service, &[], 24_999), [3]);
        assert_eq!(claims(&service, &[], 25_000), [2, 3]);
    }

    #[test]
    fn whoever_has_just_stopped_to_refuse_takes_nothing() {
        let service = service();
        answered(&service, Answer::ConnectRefused, 10);
        service.backends()[1].tried_again(true, 1, 20_000);
        assert!(service.backends()[1].is_sound());
        assert_eq!(claims(&service, &[], 24_999), [3]);
        assert_eq!(claims(&service, &[], 25_000), [2, 3]);
    }

    #[test]
    fn whoever_has_its_hands_full_takes_nothing() {
        let service = service();
        let usual: Vec<_> = (0..3).map(|at| load(&service, at, 4)).collect();
        service.refresh();
        // Four deviations, of two each, above the four that are usual.
        let more = load(&service, 2, 8);
        assert_eq!(claims(&service, &[], 10), [2, 3]);
        let most = load(&service, 2, 1);
        assert_eq!(claims(&service, &[], 10), [2]);
        drop((usual, more));
        assert_eq!(claims(&service, &[], 10), [2, 3]);
        drop(most);
    }
}
