//! Whether an answer of a backend can be passed on as it is delimited.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

/// Whether a request, as it goes to a backend, asks to change the protocol.
pub(super) fn asks_upgrade(request: &RequestHeader) -> bool {
    request.headers.contains_key(UPGRADE)
}

/// Whether a request may become a tunnel: a GET without a body (RFC 6455, section 4.1).
pub(super) fn may_upgrade(request: &RequestHeader) -> bool {
    let is_empty = |length: &HeaderValue| length.as_bytes() == b"0";
    request.method == Method::GET
        && !request.headers.contains_key(TRANSFER_ENCODING)
        && request.headers.get(CONTENT_LENGTH).is_none_or(is_empty)
}

/// Refuses what cannot be delimited, or what nobody asked for. The connection to the backend is
/// closed, since nothing says where the next answer on it would begin.
///
/// # Errors
///
/// [`ErrorType::InvalidHTTPHeader`], blamed on the backend.
pub(super) fn check(response: &ResponseHeader, asked_upgrade: bool) -> Result<()> {
    let refuse =
        |why: &'static str| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        if !asked_upgrade || response.version != Version::HTTP_11 {
            return refuse("a switch of protocols that nobody asked for");
        }
    } else if !has_no_content(response.status) {
        if !is_known_coding(&response.headers) {
            return refuse("a transfer coding other than chunked");
        }
        if !is_one_length(&response.headers) {
            return refuse("a Content-Length that is no single number");
        }
    }
    Ok(())
}

/// Whether the head is all of an answer to `method`.
pub(super) fn is_head_alone(method: &Method, response: &ResponseHeader) -> bool {
    *method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() == b"0")
}

/// Of these a coding delimits nothing, and is not passed on.
fn has_no_content(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// None, or `chunked` alone: what else a body is coded in would be passed on to clients that did
/// not ask for it, and a last coding other than `chunked` ends with the connection, which an
/// answer that the next reader takes for chunked does not show.
fn is_known_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

/// None, or one of digits alone. A list of equal numbers is refused like different ones: who reads the
/// answer next may take another of them (RFC 9110, section 8.6).
fn is_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let number = |value: &HeaderValue| {
        let digits = value.as_bytes().trim_ascii();
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    };
    lengths.next().is_none_or(number) && lengths.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, codings: &[&str], asked_upgrade: bool) -> bool {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(Version::HTTP_11);
        for coding in codings {
            response.append_header(TRANSFER_ENCODING, *coding).unwrap();
        }
        check(&response, asked_upgrade).is_ok()
    }

    #[test]
    fn only_chunked_is_known() {
        for (codings, known) in [
            (&[][..], true),
            (&["chunked"], true),
            (&["Chunked"], true),
            (&["xchunked"], false),
            (&["gzip, chunked"], false),
            (&["identity"], false),
            (&["chunked, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["gzip", "chunked"], false),
            (&[""], false),
        ] {
            assert_eq!(verdict(200, codings, false), known, "{codings:?}");
        }
        assert!(verdict(204, &["gzip"], false));
    }

    #[test]
    fn only_one_length_is_known() {
        for (lengths, known) in [
            (&[][..], true),
            (&["2"], true),
            (&["2", "2"], false),
            (&["2, 2"], false),
            (&["+2"], false),
            (&[""], false),
        ] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for length in lengths {
                response.append_header(CONTENT_LENGTH, *length).unwrap();
            }
            assert_eq!(check(&response, false).is_ok(), known, "{lengths:?}");
        }
    }

    #[test]
    fn only_a_get_without_a_body_may_upgrade() {
        let request = |method: &str, length: Option<&str>| {
            let mut request = RequestHeader::build(method, b"/ws", None).unwrap();
            if let Some(length) = length {
                request.insert_header(CONTENT_LENGTH, length).unwrap();
            }
            may_upgrade(&request)
        };
        assert!(request("GET", None) && request("GET", Some("0")));
        assert!(
            !request("GET", Some("3")) && !request("POST", None) && !request("POST", Some("3"))
        );
    }

    #[test]
    fn only_who_asked_is_switched() {
        assert!(verdict(101, &[], true));
        assert!(!verdict(101, &[], false));
        assert!(verdict(103, &[], false));
    }
}
