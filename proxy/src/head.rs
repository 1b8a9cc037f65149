//! A strict, incremental check of a request head before the HTTP engine sees it.
//!
//! The engine is lenient where a proxy must not be: it accepts a request without `Host`, resolves
//! `Content-Length` against `Transfer-Encoding` by itself, and closes without an answer when a
//! head is too large. Two parsers that read the same bytes differently are how requests are
//! smuggled, so everything ambiguous is refused here and never forwarded.

mod grammar;
mod refusal;

use std::ops::Range;

use bytes::BytesMut;
use memchr::memchr;

pub(crate) use grammar::is_token;
use grammar::{check_target, is_host, is_version};
pub(crate) use refusal::Refusal;

/// Longest accepted request line, in bytes.
pub(crate) const MAX_REQUEST_LINE: usize = 8 * 1024;
/// Longest accepted head: request line, fields and the closing empty line, in bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Most accepted header fields.
pub(crate) const MAX_FIELDS: usize = 128;

/// First byte of a TLS record that holds a handshake (RFC 8446, section 5.1), and of no method. Its
/// client would wait for an answer that no line end is ever going to cause.
const TLS_HANDSHAKE: u8 = 0x16;
/// Most options of `Connection`, as many as the engine takes.
const MAX_OPTIONS: usize = 9;
/// Fields that `Connection` may not name.
const PROTECTED: [&[u8]; 9] = [
    b"host",
    b"via",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"content-length",
    b"transfer-encoding",
];

/// How the bytes after the head are delimited (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    Empty,
    /// `Content-Length` bytes, more than 0.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// A WebSocket handshake: what follows belongs to the protocol being switched to.
    Tunnel,
}

/// A head that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the head, the closing empty line included.
    pub(crate) len: usize,
    /// What follows it.
    pub(crate) framing: Framing,
    /// The value of `Host`, to be replaced by the authority of the target.
    replaced: Option<Replaced>,
}

/// Two places of a head, each as its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Replaced {
    host: (usize, usize),
    authority: (usize, usize),
}

impl Head {
    /// Replaces a `Host` that is not the authority of the target: it must be ignored, and what is
    /// passed on must be that authority (RFC 9112, section 3.2.2). `buf` starts with this head.
    pub(crate) fn settle_host(&mut self, buf: &mut BytesMut) {
        let Some(Replaced { host, authority }) = self.replaced.take() else { return };
        let rest = buf.split_off(host.1);
        buf.truncate(host.0);
        buf.extend_from_within(authority.0..authority.1);
        buf.unsplit(rest);
        self.len = self.len - (host.1 - host.0) + (authority.1 - authority.0);
    }
}

/// Scans a growing buffer line by line; each byte is looked at once however slowly it arrives.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Start of the line being read.
    line: usize,
    /// End of what has been searched for a line end.
    searched: usize,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    upgrade_websocket: bool,
    connection_upgrade: bool,
    /// Options of `Connection` so far.
    options: usize,
    empty_lines: usize,
}

#[derive(Clone, Debug)]
struct RequestLine {
    http_11: bool,
    is_get: bool,
    /// Authority of an absolute-form target.
    authority: Option<Range<usize>>,
}

impl HeadScanner {
    /// Looks at what was appended to `buf` since the last call.
    ///
    /// # Errors
    ///
    /// The reason the head must be refused.
    pub(crate) fn scan(&mut self, buf: &[u8]) -> Result<Option<Head>, Refusal> {
        if self.request.is_none() && buf.get(self.line) == Some(&TLS_HANDSHAKE) {
            return Err(Refusal::BadRequest("a TLS handshake on a port for plain HTTP"));
        }
        while let Some(at) = memchr(b'\n', &buf[self.searched..]) {
            let end = self.searched + at;
            if end == self.line || buf[end - 1] != b'\r' {
                return Err(Refusal::BadRequest("lines must end with CR LF"));
            }
            let line = self.line..end - 1;
            self.line = end + 1;
            self.searched = self.line;
            if self.line > MAX_HEAD {
                return Err(Refusal::FieldsTooLarge);
            }
            if self.request.is_none() {
                self.request_line(buf, line)?;
            } else if line.is_empty() {
                return self.finish(buf).map(Some);
            } else {
                self.field(buf, line)?;
            }
        }
        self.searched = buf.len();
        let unfinished = buf.len() - self.line;
        if self.request.is_none() && unfinished > MAX_REQUEST_LINE {
            return Err(Refusal::UriTooLong);
        }
        if buf.len() > MAX_HEAD {
            return Err(Refusal::FieldsTooLarge);
        }
        Ok(None)
    }

    fn request_line(&mut self, buf: &[u8], line: Range<usize>) -> Result<(), Refusal> {
        if line.is_empty() {
            // RFC 9112, section 2.2: a server should ignore an empty line before the request.
            self.empty_lines += 1;
            return if self.empty_lines > 1 {
                Err(Refusal::BadRequest("empty lines before the request line"))
            } else {
                Ok(())
            };
        }
        if line.len() > MAX_REQUEST_LINE {
            return Err(Refusal::UriTooLong);
        }
        let malformed = Refusal::BadRequest("malformed request line");
        let text = &buf[line.clone()];
        let method_len = text.iter().position(|&b| b == b' ').ok_or(malformed)?;
        let target_len = text[method_len + 1..].iter().position(|&b| b == b' ').ok_or(malformed)?;
        let method = &text[..method_len];
        let target = &text[method_len + 1..method_len + 1 + target_len];
        let version = &text[method_len + target_len + 2..];
        if method.is_empty() || !method.iter().all(|&b| is_token(b)) {
            return Err(malformed);
        }
        let http_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ if is_version(version) => return Err(Refusal::UnknownVersion),
            _ => return Err(malformed),
        };
        if method == b"CONNECT" {
            return Err(Refusal::MethodNotAllowed);
        }
        let target_start = line.start + method_len + 1;
        let authority = check_target(method, target)?
            .map(|range| range.start + target_start..range.end + target_start);
        self.request = Some(RequestLine { http_11, is_get: method == b"GET", authority });
        Ok(())
    }

    fn field(&mut self, buf: &[u8], line: Range<usize>) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Refusal::FieldsTooLarge);
        }
        let text = &buf[line.clone()];
        let malformed = Refusal::BadRequest("malformed header field");
        let colon = text.iter().position(|&b| b == b':').ok_or(malformed)?;
        let name = &text[..colon];
        // Folded lines and space before the colon fail here as well: neither is a token.
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return Err(malformed);
        }
        let raw = &text[colon + 1..];
        // All of it without stopping at the first: that way many bytes are compared at a time.
        if raw.iter().fold(false, |bad, &b| bad | (b < 0x20 && b != b'\t') | (b == 0x7f)) {
            return Err(malformed);
        }
        let value = raw.trim_ascii();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let lead = raw.len() - raw.trim_ascii_start().len();
                let start = line.start + colon + 1 + lead;
                self.host(value, start..start + value.len())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade_websocket |= value.eq_ignore_ascii_case(b"websocket");
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], at: Range<usize>) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::BadRequest("more than one Host field"));
        }
        if !is_host(value) {
            return Err(Refusal::BadRequest("invalid Host field"));
        }
        self.host = Some(at);
        Ok(())
    }

    /// Options that name fields have these removed on the way, so nobody may name what tells the
    /// backend of the client, or where the message ends.
    fn connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let options = value.split(|&b| b == b',').map(<[u8]>::trim_ascii);
        for option in options.filter(|option| !option.is_empty()) {
            self.options += 1;
            if self.options > MAX_OPTIONS {
                return Err(Refusal::BadRequest("too many options in Connection"));
            }
            if !option.iter().all(|&b| is_token(b)) {
                return Err(Refusal::BadRequest("invalid option in Connection"));
            }
            if PROTECTED.iter().any(|name| option.eq_ignore_ascii_case(name)) {
                return Err(Refusal::BadRequest("Connection names a field meant for the backend"));
            }
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // Repeated fields are refused even when they agree: a single well-formed one is all that
        // honest clients send, and any other spelling is read differently by different servers.
        if self.length.is_some() {
            return Err(Refusal::BadRequest("more than one Content-Length field"));
        }
        let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
        if !digits {
            return Err(Refusal::BadRequest("invalid Content-Length field"));
        }
        let length = value.iter().fold(0_u64, |sum, &b| sum * 10 + u64::from(b - b'0'));
        self.length = Some(length);
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::BadRequest("more than one Transfer-Encoding field"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::UnknownCoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn finish(&mut self, buf: &[u8]) -> Result<Head, Refusal> {
        let Some(request) = self.request.take() else {
            return Err(Refusal::BadRequest("malformed request line"));
        };
        if request.http_11 && self.host.is_none() {
            return Err(Refusal::BadRequest("the Host field is missing"));
        }
        let replaced = request.authority.zip(self.host.clone()).and_then(|(authority, host)| {
            // To the byte, as the engine compares them.
            let differs = buf[authority.clone()] != buf[host.clone()];
            let (host, authority) = ((host.start, host.end), (authority.start, authority.end));
            differs.then_some(Replaced { host, authority })
        });
        if self.chunked && self.length.is_some() {
            return Err(Refusal::BadRequest("Content-Length beside Transfer-Encoding"));
        }
        if self.chunked && !request.http_11 {
            return Err(Refusal::BadRequest("Transfer-Encoding in an HTTP/1.0 request"));
        }
        let websocket = self.upgrade_websocket && self.connection_upgrade && request.http_11;
        let framing = if self.chunked {
            Framing::Chunked
        } else {
            match self.length.unwrap_or(0) {
                0 if websocket && request.is_get => Framing::Tunnel,
                0 => Framing::Empty,
                length => Framing::Length(length),
            }
        };
        Ok(Head { len: self.line, framing, replaced })
    }
}

#[cfg(test)]
mod tests;
