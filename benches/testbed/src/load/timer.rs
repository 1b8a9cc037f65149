//! A timer that is due within tens of microseconds, where Tokio's own rounds up to a millisecond.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A kernel timer. Rounding arrivals to whole milliseconds would add half a millisecond to every
/// latency and turn a smooth load into bursts.
#[derive(Debug)]
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Makes a timer on the current runtime.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is open, owned by the value that is registered, and never
        // replaced or handed out, so it stays valid until `AsyncFd` deregisters it.
        #[expect(unsafe_code, reason = "Tokio offers no safe way to wait on a kernel timer")]
        let registered = unsafe { AsyncFd::register(timer) }?;
        Ok(Self(registered))
    }

    /// Waits until `deadline`; returns at once when that is past. May be dropped and called again.
    ///
    /// # Errors
    /// Only when the kernel refuses a valid timer, which is not known to happen.
    pub(super) async fn sleep_until(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(left) };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            // An earlier sleep that was given up may have left its readiness behind; only a read
            // tells whether this one is over.
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_never_early_and_survives_being_dropped() {
        let timer = Timer::new().unwrap();
        let abandoned = timer.sleep_until(Instant::now() + Duration::from_micros(200));
        tokio::select! {
            biased;
            result = abandoned => result.unwrap(),
            () = tokio::task::yield_now() => {}
        }
        for wait_us in [0, 1, 300, 5_000] {
            let deadline = Instant::now() + Duration::from_micros(wait_us);
            timer.sleep_until(deadline).await.unwrap();
            assert!(Instant::now() >= deadline);
        }
    }
}
