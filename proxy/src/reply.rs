//! Answers the proxy gives by itself: short, plain, delimited by their length.

use std::fmt::Write as _;

use bytes::Bytes;

/// A complete HTTP/1.1 answer that ends its connection, for where the engine is not involved.
pub(crate) fn local_reply(status: u16, reason: &str, text: &str) -> Bytes {
    let mut reply = String::with_capacity(160 + text.len());
    // Writing to a string cannot fail.
    let written = write!(
        reply,
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{text}\n",
        text.len() + 1
    );
    debug_assert!(written.is_ok());
    Bytes::from(reply)
}
