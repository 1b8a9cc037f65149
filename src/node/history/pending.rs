//! What was seen and is not written yet, by resolution; bounded, whatever the disk does.

use std::collections::BTreeMap;

use super::bucket::{Bucket, Resolution, SeriesKey};
use crate::node::view::View;

/// Spans that may wait for the disk, over all resolutions: about half a minute of a thousand
/// series, some 50 MB.
const MOST_WAITING: usize = 200_000;
/// Beyond so many series the seconds of single instances are not kept, only their minutes.
const MOST_FINE_SERIES: usize = 1_000;

/// Spans by resolution, series and start.
type Spans = BTreeMap<(SeriesKey, u64), Bucket>;

/// Gathers ticks to seconds, and closed seconds to what is to be written.
pub(super) struct Pending {
    most_waiting: usize,
    /// The second being observed, and its series.
    open_ms: u64,
    open: BTreeMap<SeriesKey, Bucket>,
    waiting: [Spans; 4],
    /// Spans given up since the disk took none.
    pub(super) lost: u64,
    coarse_only: bool,
}

impl Default for Pending {
    fn default() -> Self {
        Self::bounded(MOST_WAITING)
    }
}

impl Pending {
    fn bounded(most_waiting: usize) -> Self {
        Self {
            most_waiting,
            open_ms: 0,
            open: BTreeMap::new(),
            waiting: Default::default(),
            lost: 0,
            coarse_only: false,
        }
    }

    /// Takes one tick.
    pub(super) fn observe(&mut self, view: &View) {
        let at_ms = Resolution::Second.start_ms(view.now_ms);
        if at_ms != self.open_ms {
            self.close_second();
            self.open_ms = at_ms;
        }
        let interval_ms = view.observation.interval_ms;
        for (seen, plan) in view.observation.services.iter().zip(&view.plan.services) {
            let service = &seen.service;
            let of_service = SeriesKey { service: service.clone(), instance: 0 };
            let bucket = Bucket::of_service(seen, plan, interval_ms);
            self.open.entry(of_service).or_default().add_tick(&bucket);
            for instance in &seen.instances {
                let key = SeriesKey { service: service.clone(), instance: instance.instance.0 };
                let bucket = Bucket::of_instance(instance, plan, interval_ms);
                self.open.entry(key).or_default().add_tick(&bucket);
            }
        }
    }

    /// Makes what was observed of the current second ready to be written. Ticks of the same second
    /// that come later are added to what was written.
    pub(super) fn close_second(&mut self) {
        let coarse_only = self.open.len() > MOST_FINE_SERIES;
        if coarse_only && !self.coarse_only {
            tracing::warn!(
                series = self.open.len(),
                "history: seconds are kept of services only, of instances minutes and longer"
            );
        }
        self.coarse_only = coarse_only;
        for (key, bucket) in std::mem::take(&mut self.open) {
            for (resolution, spans) in Resolution::ALL.into_iter().zip(&mut self.waiting) {
                if coarse_only && resolution == Resolution::Second && key.instance != 0 {
                    continue;
                }
                let start_ms = resolution.start_ms(self.open_ms);
                spans.entry((key.clone(), start_ms)).or_default().merge(&bucket);
            }
        }
        self.shed();
    }

    /// Gives up the finest where too much waits: the longer spans hold the same, summed up.
    fn shed(&mut self) {
        while self.len() > self.most_waiting {
            let Some(finest) = self.waiting.iter_mut().find(|spans| !spans.is_empty()) else {
                return;
            };
            self.lost = self.lost.saturating_add(finest.len() as u64);
            finest.clear();
        }
    }

    /// Spans that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.iter().map(BTreeMap::len).sum()
    }

    /// What waits, by resolution.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Resolution, &Spans)> {
        Resolution::ALL.into_iter().zip(&self.waiting)
    }

    /// All that waited is written.
    pub(super) fn written(&mut self) {
        self.waiting.iter_mut().for_each(BTreeMap::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::view;
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_costs_the_finest_first_and_bounded_memory() {
        let mut pending = Pending::bounded(500);
        for second in 0..2_000 {
            pending.observe(&view(1_000_000_000 + second * 1_000, 1_000, 10));
            pending.close_second();
            assert!(pending.len() <= 500);
        }
        assert!(pending.lost > 0);
        let covered_ms = |nth| -> u64 {
            pending.waiting().nth(nth).unwrap().1.values().map(|b| b.covered_ms).sum()
        };
        assert!(covered_ms(0) < 2_000 * 1_000 * 11);
        assert_eq!(covered_ms(3), 2_000 * 1_000 * 11, "nothing is lost of the hours");
    }

    #[test]
    fn of_very_many_instances_only_minutes_are_kept() {
        let mut pending = Pending::default();
        pending.observe(&view(1_000_000_000, 1_000, 1_500));
        pending.close_second();
        let waiting: Vec<usize> = pending.waiting().map(|(_, spans)| spans.len()).collect();
        assert_eq!(waiting, [1, 1_501, 1_501, 1_501]);
    }
}
