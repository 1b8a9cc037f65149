//! Notices that a connection broke off after its client had closed the sending side.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::Alarm;

/// How often a socket is looked at. Its end of stream keeps it readable for good, so that the
/// runtime tells of nothing that comes later; a second registration that would costs a descriptor
/// for each such client.
const EVERY: Duration = Duration::from_millis(200);

/// The watch over one half-closed connection.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    next: Option<Instant>,
    alarm: Alarm,
}

impl Hangup {
    /// Ready once the connection is broken off; otherwise wakes the task for the next look.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, socket: &TcpStream) -> Poll<()> {
        loop {
            if let Some(next) = self.next {
                ready!(self.alarm.poll_until(cx, next));
            }
            if is_broken(socket) {
                return Poll::Ready(());
            }
            self.next = Some(Instant::now() + EVERY);
        }
    }
}

/// Whether nothing can be sent any more: reset, or given up by the kernel.
fn is_broken(socket: &TcpStream) -> bool {
    let mut looked_at = [PollFd::new(socket, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A failed look is no news of the client.
    poll(&mut looked_at, Some(&at_once)).is_ok()
        && looked_at[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
