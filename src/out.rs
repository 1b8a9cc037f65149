//! Standard output of the commands that print something, and its end when nobody reads on.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::process::ExitCode;

/// What a shell says of a command that ended for want of a reader: 128 and SIGPIPE.
const NO_READER: u8 = 141;

/// Standard output. That its reader is gone can be told from all other failures, also from the same
/// of a network connection: see [`without_reader`].
pub(crate) fn stdout() -> Out<StdoutLock<'static>> {
    Out(io::stdout().lock())
}

/// Text that others may have written, without what a terminal would take for orders.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// A writer whose reader may go.
pub(crate) struct Out<W>(W);

#[derive(Debug)]
struct NoReader;

impl std::fmt::Display for NoReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads what is printed")
    }
}

impl std::error::Error for NoReader {}

/// How to end, quietly, when `error` is that nobody reads what is printed: `head` has seen enough.
pub(crate) fn without_reader(error: &anyhow::Error) -> Option<ExitCode> {
    let is_it = error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        io.is_some_and(|inner| inner.is::<NoReader>())
    });
    is_it.then(|| ExitCode::from(NO_READER))
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(told)
    }
}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => io::Error::new(ErrorKind::BrokenPipe, NoReader),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_terminal_is_given_no_orders() {
        assert_eq!(printable("a\u{1b}[31m b\n\u{9b}c\r"), "a\\u{1b}[31m b\n\\u{9b}c\\r");
    }

    #[test]
    fn a_reader_that_is_gone_is_told_from_a_peer_that_is() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let printed = writeln!(Out(&writer), "much").context("cannot print").unwrap_err();
        assert!(without_reader(&printed).is_some(), "{printed:?}");
        let peer = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe)).context("asking");
        assert!(without_reader(&peer).is_none());
    }
}
