//! Who is told next: news that wait their turn, so that none holds up others for longer than one try takes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{FIRST_PAUSE, LONGEST_PAUSE, News};

/// News that wait, the oldest first.
#[derive(Debug)]
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    most: usize,
    /// Nothing is sent before: the endpoint did not answer.
    silent_until: Option<Instant>,
    silence: Duration,
}

/// News with what came of the tries so far.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) news: News,
    /// When it came.
    pub(super) since: Instant,
    next: Instant,
    pause: Duration,
}

impl Lane {
    pub(super) fn new(most: usize) -> Self {
        let silence = FIRST_PAUSE;
        Self { waiting: VecDeque::new(), most: most.max(1), silent_until: None, silence }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes one more; gives the oldest up where there are too many.
    pub(super) fn push(&mut self, news: News, now: Instant) -> Option<News> {
        let oldest = (self.waiting.len() >= self.most).then(|| self.waiting.pop_front()).flatten();
        self.waiting.push_back(Waiting { news, since: now, next: now, pause: FIRST_PAUSE });
        oldest.map(|waiting| waiting.news)
    }

    /// When something may be sent next; nothing while nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.may_go().map(|(_, waiting)| waiting.next).min()?;
        Some(self.silent_until.map_or(due, |until| until.max(due)))
    }

    /// What is due, the oldest first. It comes back by [`Lane::failed`] or not at all.
    pub(super) fn take(&mut self, now: Instant) -> Option<Waiting> {
        if self.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        let nth = self.may_go().find(|(_, waiting)| waiting.next <= now).map(|(nth, _)| nth)?;
        self.waiting.remove(nth)
    }

    /// Of one alert what happened first is told first.
    fn may_go(&self) -> impl Iterator<Item = (usize, &Waiting)> {
        self.waiting.iter().enumerate().filter(|(nth, waiting)| {
            self.waiting.iter().take(*nth).all(|older| older.news.id != waiting.news.id)
        })
    }

    /// The endpoint answered: what waits for it may go.
    pub(super) fn answered(&mut self) {
        (self.silent_until, self.silence) = (None, FIRST_PAUSE);
    }

    /// It was not told: it waits, with those of the same alert behind it, and the others go on. Where nobody
    /// answered all wait, and another one is tried next.
    pub(super) fn failed(
        &mut self,
        mut waiting: Waiting,
        is_silent: bool,
        now: Instant,
    ) -> Duration {
        let pause = waiting.pause;
        if is_silent {
            self.silent_until = Some(now + self.silence);
            let silence = self.silence;
            self.silence = (self.silence * 2).min(LONGEST_PAUSE);
            waiting.next = now + silence;
            self.put_back(waiting);
            return silence;
        }
        waiting.next = now + pause;
        waiting.pause = (pause * 2).min(LONGEST_PAUSE);
        self.put_back(waiting);
        pause
    }

    /// It is given up.
    pub(super) fn forget(&mut self, id: &str, since: Instant) {
        if let Some(nth) = self.waiting.iter().position(|w| w.news.id == id && w.since == since) {
            self.waiting.remove(nth);
        }
    }

    /// Behind all others, but before those of the same alert.
    fn put_back(&mut self, waiting: Waiting) {
        let same = |other: &Waiting| other.news.id == waiting.news.id;
        let nth = self.waiting.iter().position(same).unwrap_or(self.waiting.len());
        self.waiting.insert(nth, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn news(id: &str, state: State) -> News {
        News {
            id: id.to_owned(),
            alert: foreshadow_control::AlertKind::Shortage,
            state,
            service: "shop".to_owned(),
            rule: None,
            text: String::new(),
            since_ms: 0,
            at_ms: 0,
        }
    }

    fn taken(lane: &mut Lane, now: Instant) -> Option<(String, State)> {
        lane.take(now).map(|waiting| (waiting.news.id, waiting.news.state))
    }

    #[test]
    fn what_is_not_taken_waits_alone_and_its_end_behind_it() {
        let (mut lane, now) = (Lane::new(9), Instant::now());
        for (id, state) in [("a", State::Begins), ("a", State::Ends), ("b", State::Begins)] {
            assert!(lane.push(news(id, state), now).is_none());
        }
        let first = lane.take(now).unwrap();
        assert_eq!(lane.failed(first, false, now), FIRST_PAUSE);
        assert_eq!(taken(&mut lane, now), Some(("b".to_owned(), State::Begins)));
        assert_eq!(taken(&mut lane, now), None, "the end of a is told after its beginning");
        assert_eq!(lane.due(), Some(now + FIRST_PAUSE));
        let later = now + FIRST_PAUSE;
        assert_eq!(taken(&mut lane, later), Some(("a".to_owned(), State::Begins)));
        assert_eq!(taken(&mut lane, later), Some(("a".to_owned(), State::Ends)));
        assert!(lane.is_empty() && lane.due().is_none());
    }

    #[test]
    fn where_nobody_answers_one_is_tried_at_a_time_and_another_each_time() {
        let (mut lane, mut now) = (Lane::new(9), Instant::now());
        for id in ["a", "b", "c"] {
            lane.push(news(id, State::Begins), now);
        }
        let mut tried = Vec::new();
        for _ in 0..4 {
            let one = lane.take(now).unwrap();
            tried.push(one.news.id.clone());
            let pause = lane.failed(one, true, now);
            assert!(lane.take(now).is_none(), "all wait");
            assert_eq!(lane.due(), Some(now + pause));
            now += pause;
        }
        assert_eq!(tried, ["a", "b", "c", "a"]);
        lane.answered();
        assert_eq!(taken(&mut lane, now).map(|(id, _)| id).as_deref(), Some("b"));
        assert_eq!(taken(&mut lane, now).map(|(id, _)| id).as_deref(), Some("c"));
    }

    #[test]
    fn the_oldest_gives_way_where_too_many_wait() {
        let (mut lane, now) = (Lane::new(2), Instant::now());
        assert!(lane.push(news("a", State::Begins), now).is_none());
        assert!(lane.push(news("b", State::Begins), now).is_none());
        let dropped = lane.push(news("c", State::Begins), now);
        assert_eq!(dropped.map(|news| news.id).as_deref(), Some("a"));
    }
}
