//! Which requests may be copied, and how many of them are.

use std::time::Duration;

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method};

/// Marks a copy, so that a backend can tell it from a request of a client and so that a copy that
/// comes through another Foreshadow is not copied again.
pub const MIRROR_HEADER: HeaderName = HeaderName::from_static("x-foreshadow-mirror");

/// How much of a service's traffic is copied, and the bounds on the copies.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorPolicy {
    /// Share of the safe requests that is copied to every target, 0 to 1. Above 1 is 1; below 0
    /// and not a number are 0.
    pub share: f64,
    /// Most copies under way to one target; 0 is taken for 1.
    pub max_in_flight: usize,
    /// A copy that has not been answered in full within this time has failed.
    pub timeout: Duration,
    /// Most copies that wait for one target; what comes on top is dropped. 0 is taken for 1.
    pub queue: usize,
}

impl Default for MirrorPolicy {
    /// A tenth of the requests, 8 at a time, 1 s each, 64 waiting.
    fn default() -> Self {
        Self { share: 0.1, max_in_flight: 8, timeout: Duration::from_secs(1), queue: 64 }
    }
}

impl MirrorPolicy {
    /// Whether a request is copied, for `draw` uniform in 0..1.
    #[must_use]
    pub fn samples(&self, draw: f64) -> bool {
        draw < self.share
    }
}

/// Why a request is not copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Copying it might double a side effect.
    #[error("method {0} is not safe (RFC 9110, 9.2.1): copying it might double a side effect")]
    UnsafeMethod(Method),
    /// The body streams past the proxy and is not kept for a copy.
    #[error("the request has a body, which is not kept for a copy")]
    HasBody,
    /// The connection changes its protocol, and what follows is no request.
    #[error("the request asks for an upgrade: what follows it is not http")]
    Upgrade,
    /// Its answer has no end that could be waited for.
    #[error("the request asks for an event stream, which has no end to compare")]
    EventStream,
    /// It is a copy already.
    #[error("the request is a mirrored copy already ({MIRROR_HEADER} is set)")]
    AlreadyMirrored,
}

/// Decides whether a request may be copied at all.
///
/// Safe methods only (RFC 9110, section 9.2.1), without a body, an upgrade or an event stream, and
/// not a copy itself. Range and conditional requests may be copied. An HTTP/2 request can have a
/// body that no header announces; the caller must not offer one whose stream was not ended by its
/// headers.
///
/// # Errors
///
/// The first reason found against it.
pub fn may_mirror(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if !method.is_safe() {
        return Err(Refusal::UnsafeMethod(method.clone()));
    }
    if headers.contains_key(MIRROR_HEADER) {
        return Err(Refusal::AlreadyMirrored);
    }
    if headers.contains_key(UPGRADE) || lists(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::Upgrade);
    }
    if headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0")
    {
        return Err(Refusal::HasBody);
    }
    if lists(headers, &ACCEPT, "text/event-stream") {
        return Err(Refusal::EventStream);
    }
    Ok(())
}

/// Whether a comma separated header has an element that is `wanted`, parameters aside.
fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name)
        .any(|element| element.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(wanted))
}

/// The elements of a comma separated header; values that are not text have none.
pub(crate) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn safe_requests_without_a_body_may_be_copied() {
        let ordinary = headers(&[
            ("host", "shop.example"),
            ("content-length", "0"),
            ("range", "bytes=0-99"),
            ("if-none-match", "\"a\""),
            ("connection", "keep-alive"),
            ("accept", "text/html, application/xhtml+xml;q=0.9, */*;q=0.8"),
        ]);
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(may_mirror(&method, &ordinary), Ok(()), "{method}");
        }
    }

    #[test]
    fn methods_that_may_change_something_are_refused() {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::CONNECT,
            Method::from_bytes(b"PURGE").unwrap(),
        ] {
            assert_eq!(
                may_mirror(&method, &HeaderMap::new()),
                Err(Refusal::UnsafeMethod(method.clone()))
            );
        }
    }

    #[test]
    fn every_other_refusal_has_a_request_that_gets_it() {
        let cases = [
            (("content-length", "12"), Refusal::HasBody),
            (("content-length", "twelve"), Refusal::HasBody),
            (("transfer-encoding", "chunked"), Refusal::HasBody),
            (("upgrade", "websocket"), Refusal::Upgrade),
            (("connection", "keep-alive, Upgrade"), Refusal::Upgrade),
            (("accept", "text/html, text/event-stream;q=0.9"), Refusal::EventStream),
            (("x-foreshadow-mirror", "1"), Refusal::AlreadyMirrored),
        ];
        for (header, refusal) in cases {
            assert_eq!(may_mirror(&Method::GET, &headers(&[header])), Err(refusal), "{header:?}");
        }
    }

    #[test]
    fn shares_that_are_no_shares_never_or_always_sample() {
        let with = |share| MirrorPolicy { share, ..MirrorPolicy::default() };
        for draw in [0.0, 0.5, 0.999_999] {
            assert!(!with(0.0).samples(draw));
            assert!(!with(-3.0).samples(draw));
            assert!(!with(f64::NAN).samples(draw));
            assert!(with(1.0).samples(draw));
            assert!(with(1e308).samples(draw));
        }
        assert!(with(0.25).samples(0.2));
        assert!(!with(0.25).samples(0.25));
    }
}
