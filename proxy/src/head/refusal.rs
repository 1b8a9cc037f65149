//! Why a request head is refused, and what the client is told.

/// Why a request head is refused; each maps to one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Malformed or ambiguous; the text says what.
    BadRequest(&'static str),
    /// The head did not arrive in time.
    Timeout,
    /// The request line exceeds [`super::MAX_REQUEST_LINE`].
    UriTooLong,
    /// The head exceeds [`super::MAX_HEAD`] or [`super::MAX_FIELDS`].
    FieldsTooLarge,
    /// `CONNECT`, which a reverse proxy does not serve.
    MethodNotAllowed,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// A version other than 1.0 and 1.1.
    UnknownVersion,
}

impl Refusal {
    /// Status code and reason phrase.
    pub(crate) fn status(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(_) => (400, "Bad Request"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::Timeout => (408, "Request Timeout"),
            Self::UriTooLong => (414, "URI Too Long"),
            Self::FieldsTooLarge => (431, "Request Header Fields Too Large"),
            Self::UnknownCoding => (501, "Not Implemented"),
            Self::UnknownVersion => (505, "HTTP Version Not Supported"),
        }
    }

    /// One line for the client: what was wrong, without echoing what it sent.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::BadRequest(text) => text,
            Self::MethodNotAllowed => "this proxy does not open tunnels by CONNECT",
            Self::Timeout => "the request head did not arrive in time",
            Self::UriTooLong => "the request line is too long",
            Self::FieldsTooLarge => "the request head is too large or has too many fields",
            Self::UnknownCoding => "only the transfer coding chunked is known",
            Self::UnknownVersion => "only HTTP/1.0 and HTTP/1.1 are served here",
        }
    }
}
