//! How far the runs are, on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);
const WIDTH: u64 = 32;

/// Ticks done of ticks to do; counted by the runs, shown by one thread.
pub(super) struct Progress {
    total: u64,
    done: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self { total: total.max(1), done: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    pub(super) fn add(&self, ticks: u64) {
        self.done.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Ends [`Progress::show`].
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Draws until the end, if standard error is a terminal.
    pub(super) fn show(&self) {
        let mut err = std::io::stderr();
        if !err.is_terminal() {
            return;
        }
        let start = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            // A terminal that is gone is no reason to stop.
            write!(err, "\r{}", self.line(start.elapsed())).ok();
            std::thread::sleep(EVERY);
        }
        write!(err, "\r{:70}\r", "").ok();
    }

    fn line(&self, elapsed: Duration) -> String {
        let done = self.done.load(Ordering::Relaxed).min(self.total);
        let filled = (WIDTH * done / self.total) as usize;
        let share = done as f64 / self.total as f64;
        let left_s = elapsed.as_secs_f64() * (1.0 - share) / share.max(1e-3);
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH as usize - filled));
        format!("[{bar}] {:3.0}%, {left_s:.0} s left   ", share * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_tells_what_is_left() {
        let progress = Progress::new(1_000);
        progress.add(250);
        let line = progress.line(Duration::from_secs(10));
        assert_eq!(line.trim(), format!("[{}{}]  25%, 30 s left", "#".repeat(8), ".".repeat(24)));
        progress.add(5_000);
        assert!(progress.line(Duration::from_secs(10)).contains("100%, 0 s left"));
    }
}
