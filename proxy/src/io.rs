//! The client side of a connection, as the HTTP engine sees it.
//!
//! One request at a time: reads end where the request ends, so that a pipelined request waits in
//! our buffer and a half-closed client looks idle instead of gone. Writes are gathered until the
//! engine flushes, which saves a `send` per answer. The deadline of the whole request is kept here
//! too, since the engine waits on this stream whatever else it waits on.

mod engine;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pingora::protocols::SocketDigest;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::bounds::Bounds;
use crate::connection::{Connection, Verdict};
use crate::hangup::Hangup;
use crate::head::Head;
use crate::recall::Recall;

/// Bytes asked of the socket at a time.
const READ_SIZE: usize = 16 * 1024;
/// Bytes gathered before a write goes out without a flush.
const WRITE_SIZE: usize = 16 * 1024;
/// Bytes of an unread request that are discarded so that the answer before it survives.
const LINGER_BYTES: usize = 256 * 1024;
/// How long that may take.
const LINGER: Duration = Duration::from_secs(1);

/// How long the backend's end of a tunnel may be silent once the client has closed its sending side.
/// The engine ends a tunnel with the first of its ends, so the backend hears of it only then.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A client connection with one request exposed at a time.
pub(crate) struct ClientStream {
    socket: TcpStream,
    connection: Arc<Connection>,
    digest: Arc<SocketDigest>,
    /// Bytes received and not yet handed to the engine.
    input: BytesMut,
    /// Bytes of the current head that are still in `input`.
    head_left: usize,
    /// Whether any of the body was handed out.
    body_begun: bool,
    bounds: Bounds,
    half_closed: bool,
    hangup: Hangup,
    output: BytesMut,
    /// Since when nothing has moved, and what is awaited.
    quiet: Option<(Verdict, Instant)>,
    alarm: Alarm,
    recall: Recall,
}

impl ClientStream {
    /// Wraps an accepted socket.
    pub(crate) fn new(socket: TcpStream, connection: Arc<Connection>) -> Self {
        let digest = Arc::new(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        Self {
            socket,
            connection,
            digest,
            input: BytesMut::new(),
            head_left: 0,
            body_begun: false,
            bounds: Bounds::Done,
            half_closed: false,
            hangup: Hangup::default(),
            output: BytesMut::new(),
            quiet: None,
            alarm: Alarm::default(),
            recall: Recall::default(),
        }
    }

    /// What the rest of the data plane knows of this connection.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Received bytes that belong to no request yet.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Whether the previous request has been read to its end.
    fn at_boundary(&self) -> bool {
        self.head_left == 0 && self.bounds.is_done()
    }

    /// Whether the client has closed its sending side after the bytes received so far.
    ///
    /// Looks at the socket once the runtime says that there is something to see: the engine asks
    /// its stream and the backend in random order, so an answer may be at hand before it has heard
    /// of a close that came first.
    pub(crate) fn is_half_closed(&self) -> bool {
        // A request that came before the end of the stream is still to be served.
        if self.half_closed || !self.input.is_empty() {
            return self.half_closed && self.input.is_empty();
        }
        let seen = self.socket.try_io(Interest::READABLE, || {
            recv(&self.socket, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)
                .map(|(count, _)| count)
                .map_err(io::Error::from)
        });
        matches!(seen, Ok(0))
    }

    /// Receives more bytes into the buffer; 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the socket, and that none came before `until`.
    pub(crate) async fn fill(&mut self, until: Instant) -> io::Result<usize> {
        let room = READ_SIZE.min(self.input.len() + 2048);
        poll_fn(|cx| match self.poll_receive(cx, room) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => {
                ready!(self.alarm.poll_until(cx, until));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        })
        .await
    }

    /// Receives what fits into the buffer, which gets at least `room` bytes to spare.
    fn poll_receive(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.input.reserve(room);
        // The future holds nothing between polls; it is the safe way to spare memory.
        let count = ready!(pin!(self.socket.read_buf(&mut self.input)).poll(cx))?;
        self.half_closed |= count == 0;
        Poll::Ready(Ok(count))
    }

    /// Exposes the request that starts the buffer to the engine.
    pub(crate) fn begin(&mut self, mut head: Head) {
        head.settle_host(&mut self.input);
        self.head_left = head.len;
        self.body_begun = false;
        self.bounds = Bounds::from(head.framing);
        self.quiet = None;
    }

    /// The engine has given the connection back for another request: a tunnel that was asked for
    /// and not granted is over. Whether the stream stands between two requests now.
    pub(crate) fn settle(&mut self) -> bool {
        if matches!(self.bounds, Bounds::Open) {
            self.bounds = Bounds::Done;
        }
        self.at_boundary()
    }

    /// Closes so that the client can read what was written: a socket closed with unread input is
    /// reset, which may destroy the answer on its way.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        AsyncWriteExt::shutdown(self).await?;
        let unread = !self.at_boundary() || !self.input.is_empty();
        if !unread || self.half_closed {
            return Ok(());
        }
        let (until, mut discarded) = (Instant::now() + LINGER, 0);
        while discarded < LINGER_BYTES {
            self.input.clear();
            match self.fill(until).await {
                Ok(0) => break,
                Ok(count) => discarded += count,
                // The expected end of a client that does not close.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ready with an error once the request's deadline has passed, or nothing has moved for too
    /// long; otherwise wakes at the earlier of both.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, late: Verdict) -> Poll<io::Error> {
        let Some(mut at) = self.connection.deadline() else { return Poll::Pending };
        if let Some(patience) = self.connection.patience(late) {
            let since = match self.quiet {
                Some((awaited, since)) if awaited == late => since,
                _ => Instant::now(),
            };
            self.quiet = Some((late, since));
            at = at.min(since + patience);
        }
        ready!(self.alarm.poll_until(cx, at));
        self.connection.condemn(late);
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the request took too long"))
    }

    /// Between the end of a request and that of its answer: only a reset or being late is news.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was gathered goes out before waiting: a backend that pauses must not hold back what
        // it has already said.
        if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(error) = self.poll_gone(cx) {
            return Poll::Ready(Err(error));
        }
        if !self.output.is_empty() {
            // It is the client that is awaited, which was looked at above.
            return Poll::Pending;
        }
        if self.recall.poll(cx, &self.connection).is_ready() {
            self.connection.condemn(Verdict::Recalled);
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        self.poll_deadline(cx, Verdict::LateWaiting).map(Err)
    }

    /// Ready once the client is gone for good.
    ///
    /// A closed sending side is no abort: the client may be waiting for its answer (RFC 9112,
    /// section 9.6). Such a client, if it is gone, shows when the answer is written, or earlier by a
    /// reset. The next request is taken in, as far as there is room for it: a socket with unread
    /// bytes tells of nothing new.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while !self.half_closed && self.input.len() < READ_SIZE {
            let mut probe = [0_u8; 1];
            match ready!(self.socket.poll_peek(cx, &mut ReadBuf::new(&mut probe))) {
                Ok(0) => self.half_closed = true,
                Ok(_) => {
                    if let Err(error) = ready!(self.poll_receive(cx, READ_SIZE)) {
                        return Poll::Ready(error);
                    }
                }
                Err(error) => return Poll::Ready(error),
            }
        }
        if self.half_closed {
            if self.connection.listener().spec().abort_on_close {
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
            ready!(self.hangup.poll(cx, &self.socket));
            return Poll::Ready(io::ErrorKind::ConnectionReset.into());
        }
        Poll::Pending
    }

    /// Whether the end of what the client sends is not the end of what it is sent.
    fn outlives_client(&self) -> bool {
        self.connection.is_tunnel() && !self.connection.listener().spec().abort_on_close
    }

    /// Ready with the end of the stream once the backend has been silent for long enough.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        if self.hangup.poll(cx, &self.socket).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // Writes take it back.
        let (_, since) = *self.quiet.get_or_insert_with(|| (Verdict::Fine, Instant::now()));
        ready!(self.alarm.poll_until(cx, since + LAST_WORDS));
        Poll::Ready(Ok(()))
    }

    /// Ready once a client that was answered has had the time to send its body unasked.
    fn poll_unasked(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Poll::Ready(Err(error)) = self.poll_write_out(cx) {
            return Poll::Ready(error);
        }
        // Writes take it back.
        let (_, since) = *self.quiet.get_or_insert_with(|| (Verdict::Unasked, Instant::now()));
        ready!(self.alarm.poll_until(cx, since + LINGER));
        self.connection.condemn(Verdict::Unasked);
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// Hands out buffered bytes of the head, then of the body.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let room = buf.remaining().min(self.input.len());
        let count = if self.head_left > 0 {
            let count = room.min(self.head_left);
            self.head_left -= count;
            count
        } else {
            self.body_begun = true;
            self.bounds.admit(&self.input[..room]).map_err(|malformed| {
                self.connection.condemn(Verdict::Malformed);
                io::Error::new(io::ErrorKind::InvalidData, malformed.0)
            })?
        };
        buf.put_slice(&self.input[..count]);
        self.input.advance(count);
        Ok(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.quiet = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_deadline(cx, Verdict::LateWriting).map(Err),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at_boundary() {
            return this.poll_idle(cx);
        }
        if this.input.is_empty() {
            match this.poll_receive(cx, READ_SIZE) {
                Poll::Ready(Ok(0)) if this.outlives_client() => return this.poll_last_words(cx),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.connection.is_unasked() && !this.body_begun => {
                    return this.poll_unasked(cx).map(Err);
                }
                Poll::Pending => {
                    // Of a tunnel that is not open yet, it is the backend that is awaited.
                    let tunnel = matches!(this.bounds, Bounds::Open);
                    let late = if tunnel { Verdict::LateWaiting } else { Verdict::LateReading };
                    return this.poll_deadline(cx, late).map(Err);
                }
            }
        }
        Poll::Ready(this.take(buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.len() + buf.len() <= WRITE_SIZE {
            this.output.extend_from_slice(buf);
            this.quiet = None;
            return Poll::Ready(Ok(buf.len()));
        }
        loop {
            let slices = [IoSlice::new(&this.output), IoSlice::new(buf)];
            let count = match Pin::new(&mut this.socket).poll_write_vectored(cx, &slices) {
                Poll::Ready(result) => result?,
                Poll::Pending => return this.poll_deadline(cx, Verdict::LateWriting).map(Err),
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.quiet = None;
            let gathered = count.min(this.output.len());
            this.output.advance(gathered);
            if count > gathered {
                return Poll::Ready(Ok(count - gathered));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_out(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream")
            .field("peer", &self.connection.peer())
            .field("bounds", &self.bounds)
            .field("half_closed", &self.half_closed)
            .finish_non_exhaustive()
    }
}
