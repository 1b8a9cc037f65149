//! `Max-Forwards`: past how many proxies a TRACE or OPTIONS may still go (RFC 9110, section 7.6.2).

use http::header::{AUTHORIZATION, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method};
use pingora::Result;
use pingora::http::RequestHeader;

/// What answers a TRACE leaves out of the request it shows.
const SECRET: [http::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// How many are left; `None` where nothing limits them, as for all other methods.
pub(super) fn left(request: &RequestHeader) -> Option<u64> {
    if !matches!(request.method, Method::OPTIONS | Method::TRACE) {
        return None;
    }
    let fields = request.headers.get_all(MAX_FORWARDS);
    fields.iter().filter_map(|value| number(value.as_bytes())).min()
}

/// Counts this proxy.
///
/// # Errors
///
/// Those of the header map.
pub(super) fn count(request: &mut RequestHeader) -> Result<()> {
    match left(request) {
        Some(left) => {
            request.insert_header(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)))
        }
        None => Ok(()),
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digit = |sum: u64, byte: &u8| {
        let digit = u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        Some(sum.saturating_mul(10).saturating_add(digit))
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, digit) }
}

/// The request as it was received, but for what is secret (RFC 9110, section 9.3.8).
pub(super) fn shown(request: &RequestHeader) -> Vec<u8> {
    let version = format!(" {:?}\r\n", request.version);
    let mut text = [request.method.as_str().as_bytes(), b" ", request.raw_path()].concat();
    text.extend_from_slice(version.as_bytes());
    for (name, value) in request.headers.iter().filter(|(name, _)| !SECRET.contains(name)) {
        text.extend_from_slice(
            &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat(),
        );
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, values: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        for value in values {
            request.append_header(MAX_FORWARDS, *value).unwrap();
        }
        request
    }

    #[test]
    fn only_numbers_of_two_methods_limit() {
        for (method, values, expected) in [
            ("OPTIONS", &["3"][..], Some(3)),
            ("TRACE", &["0"], Some(0)),
            ("TRACE", &["5", "2"], Some(2)),
            ("TRACE", &["99999999999999999999999"], Some(u64::MAX)),
            ("OPTIONS", &[], None),
            ("OPTIONS", &["-1"], None),
            ("OPTIONS", &["1 2"], None),
            ("OPTIONS", &[""], None),
            ("GET", &["0"], None),
        ] {
            assert_eq!(left(&request(method, values)), expected, "{method} {values:?}");
        }
        let mut passed_on = request("TRACE", &["5", "2"]);
        count(&mut passed_on).unwrap();
        assert_eq!(left(&passed_on), Some(1));
        assert_eq!(passed_on.headers.get_all(MAX_FORWARDS).iter().count(), 1);
    }
}
