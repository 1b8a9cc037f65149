//! How often it is said that a primary joined or left: each one as a rule, and their number where what scales
//! them flaps.

use std::time::Duration;

use super::ScaleEvent;

/// So many are told one by one at once, and one more after each of these times.
const MOST: u32 = 120;
const REFILL: Duration = Duration::from_secs(5);
/// The others are told by their number, not more often than this.
const SUMMARY: Duration = Duration::from_secs(60);

/// What has been told of one service, and what has not.
#[derive(Debug)]
pub(super) struct Turnover {
    left: u32,
    refilled: Duration,
    /// Joined and gone since then without a word.
    unsaid: Option<(Duration, u64, u64)>,
}

impl Default for Turnover {
    fn default() -> Self {
        Self { left: MOST, refilled: Duration::ZERO, unsaid: None }
    }
}

impl Turnover {
    /// What of `events` is told at `now`, a time since any fixed moment.
    pub(super) fn tell(&mut self, events: Vec<ScaleEvent>, now: Duration) -> Vec<ScaleEvent> {
        let steps = now.saturating_sub(self.refilled).as_secs() / REFILL.as_secs();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.refilled = self.refilled.saturating_add(REFILL.saturating_mul(steps));
        self.left = self.left.saturating_add(steps).min(MOST);
        let mut told = Vec::new();
        for event in events {
            let (joined, left) = match event {
                ScaleEvent::Joined(..) => (1, 0),
                ScaleEvent::Left(..) => (0, 1),
                _ => {
                    told.push(event);
                    continue;
                }
            };
            if self.left > 0 {
                self.left -= 1;
                told.push(event);
                continue;
            }
            let unsaid = self.unsaid.get_or_insert((now, 0, 0));
            (unsaid.1, unsaid.2) = (unsaid.1.saturating_add(joined), unsaid.2.saturating_add(left));
        }
        let due = |unsaid: &mut (Duration, u64, u64)| now.saturating_sub(unsaid.0) >= SUMMARY;
        if let Some((_, joined, left)) = self.unsaid.take_if(due) {
            told.push(ScaleEvent::Turnover { joined, left });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use foreshadow_control::InstanceId;

    use super::*;

    fn joined(id: u64) -> ScaleEvent {
        ScaleEvent::Joined(InstanceId(id), "10.0.0.1:80".parse().unwrap())
    }

    fn left(id: u64) -> ScaleEvent {
        ScaleEvent::Left(InstanceId(id), "10.0.0.1:80".parse().unwrap())
    }

    #[test]
    fn each_one_is_told_until_there_are_too_many_and_then_their_number() {
        let mut turnover = Turnover::default();
        let (mut each, mut summaries, mut counted) = (0, 0, 0);
        // A pair every second for an hour.
        for second in 0..3_600 {
            let events = vec![joined(second), left(second)];
            for event in turnover.tell(events, Duration::from_secs(second)) {
                match event {
                    ScaleEvent::Turnover { joined, left } => {
                        summaries += 1;
                        counted += joined + left;
                    }
                    _ => each += 1,
                }
            }
        }
        assert!(each <= 120 + 3_600 / 5, "{each}");
        assert!((50..=60).contains(&summaries), "{summaries}");
        // None is lost but those of the last minute.
        assert!(each + counted >= 7_200 - 120, "{each} and {counted}");
        // After a rest each is told again.
        let told = turnover.tell(vec![joined(1), left(1)], Duration::from_secs(5_000));
        assert_eq!(told[..2], [joined(1), left(1)]);
    }

    #[test]
    fn what_else_is_told_is_told_always() {
        let mut turnover = Turnover::default();
        let many = (0..1_000).map(joined).chain([ScaleEvent::Recovered { failures: 2 }]).collect();
        let told = turnover.tell(many, Duration::ZERO);
        assert_eq!(told.len(), 121);
        assert_eq!(told.last(), Some(&ScaleEvent::Recovered { failures: 2 }));
    }
}
