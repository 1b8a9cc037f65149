//! Whether an answer of a backend can be passed on as it is delimited.

use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

/// Whether a request, as it goes to a backend, asks to change the protocol.
pub(super) fn asks_upgrade(request: &RequestHeader) -> bool {
    request.headers.contains_key(UPGRADE)
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
    } else if !has_no_content(response.status) && !is_known_coding(&response.headers) {
        return refuse("a transfer coding other than chunked");
    }
    Ok(())
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
    fn only_who_asked_is_switched() {
        assert!(verdict(101, &[], true));
        assert!(!verdict(101, &[], false));
        assert!(verdict(103, &[], false));
    }
}
