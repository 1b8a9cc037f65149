//! A timer that is moved often and goes off seldom.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Wakes its task at a time that every request moves.
///
/// Moving a timer means taking it out of the runtime's wheel and putting it back. Times mostly move
/// later, so it stays where it is until it goes off, and only then goes to where it should be: once
/// per limit instead of several times per request.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once `at` has passed; otherwise wakes the task then, or earlier for nothing.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_at_the_time_asked_for_last() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Later than at first, earlier than at first, both, and in the past.
        for asked in [&[10_u64, 20][..], &[50_000, 30], &[40, 60_000, 35], &[1]] {
            for &ms in asked {
                let polled = poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, at(ms)))).await;
                assert!(polled.is_pending() || Instant::now() >= at(ms), "{asked:?}");
            }
            let last = at(asked[asked.len() - 1]);
            poll_fn(|cx| alarm.poll_until(cx, last)).await;
            assert!(Instant::now() >= last, "{asked:?}");
            assert_eq!(alarm.sleep.as_ref().unwrap().deadline(), last, "{asked:?}");
        }
    }
}
