//! Keeps web pages of others from using an operator's browser to reach the admin interface.

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// By which names the interface may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any: a token says who calls, or no browser can reach it.
    Any,
    /// Only those that mean this machine wherever they are looked up. A page of another site can
    /// have its own name resolve to a loopback address and would then count as the same site.
    Loopback,
}

/// Lets a request through that no page of another site can have sent.
pub(super) async fn require(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match check(hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(hosts: Hosts, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    if hosts == Hosts::Loopback {
        let target = request.uri().authority().map(Authority::as_str);
        for name in headers.get_all(HOST).iter().map(text).chain(target) {
            if !is_loopback(name) {
                return Err(forbidden(format!(
                    "the admin interface has no token and is not called {name:?}: call it by \
                     127.0.0.1, [::1] or localhost, or set `admin.token`"
                )));
            }
        }
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if let Some(from) = other_site(headers) {
        return Err(forbidden(format!(
            "a page of another site ({from}) may not change anything here: use a page of this \
             address, or a client that is no browser"
        )));
    }
    if !request.body().is_end_stream() && !is_json(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON: send the header `Content-Type: application/json`",
        ));
    }
    Ok(())
}

fn forbidden(why: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, why)
}

/// A header that is no text is like none that is expected.
fn text(value: &axum::http::HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn is_loopback(name: &str) -> bool {
    let Ok(authority) = name.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let named = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => named == "localhost" || named.ends_with(".localhost"),
    }
}

/// The other site whose page sent the request, if a browser says that it was one.
fn other_site(headers: &HeaderMap) -> Option<&str> {
    if let Some(site) = headers.get(SEC_FETCH_SITE).map(text) {
        return (!matches!(site, "same-origin" | "none")).then_some(site);
    }
    let origin = text(headers.get(ORIGIN)?);
    let own = headers.get(HOST).map(text);
    let from = origin.parse::<Uri>().ok();
    let from = from.as_ref().and_then(Uri::authority).map(Authority::as_str);
    let same = from.zip(own).is_some_and(|(from, own)| from.eq_ignore_ascii_case(own));
    (!same).then_some(origin)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).map(text) else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn checked(hosts: Hosts, method: Method, headers: &[(&str, &str)], body: &str) -> u16 {
        let mut request = Request::builder().method(method).uri("/api/v1/reload");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        check(hosts, &request)
            .map_or_else(|error| error.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered_to() {
        let get = |host: &str| checked(Hosts::Loopback, Method::GET, &[("host", host)], "");
        for own in ["127.0.0.1:9900", "127.9.9.9", "[::1]:9900", "localhost", "LocalHost.:1"] {
            assert_eq!(get(own), 200, "{own}");
        }
        for other in ["evil.example:9900", "localhost.evil.example", "0.0.0.0:9900", "", "a b"] {
            assert_eq!(get(other), 403, "{other}");
            let any = checked(Hosts::Any, Method::GET, &[("host", other)], "");
            assert_eq!(any, 200, "{other} with a token");
        }
        assert_eq!(checked(Hosts::Loopback, Method::GET, &[], ""), 200, "no browser leaves it out");
        let both = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(checked(Hosts::Loopback, Method::GET, &both, ""), 403);
        let absolute = Request::get("http://evil.example/api/v1/status")
            .header("host", "localhost")
            .body(Body::empty())
            .unwrap();
        assert!(check(Hosts::Loopback, &absolute).is_err());
    }

    #[test]
    fn pages_of_other_sites_look_at_nothing_they_could_change() {
        let post = |more: &[(&str, &str)]| {
            let mut headers = vec![("host", "localhost:9900")];
            headers.extend(more);
            checked(Hosts::Any, Method::POST, &headers, "")
        };
        assert_eq!(post(&[]), 200, "no browser");
        assert_eq!(post(&[("origin", "http://localhost:9900")]), 200);
        assert_eq!(
            post(&[("sec-fetch-site", "same-origin"), ("origin", "https://a.example")]),
            200
        );
        for other in ["http://localhost:3000", "http://evil.example", "null", ""] {
            assert_eq!(post(&[("origin", other)]), 403, "{other}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(post(&[("sec-fetch-site", site)]), 403, "{site}");
        }
        let look = [("host", "localhost"), ("origin", "http://evil.example")];
        assert_eq!(checked(Hosts::Any, Method::GET, &look, ""), 200, "it cannot read the answer");
    }

    #[test]
    fn what_a_form_can_send_is_no_body() {
        let post = |kind: Option<&str>, body| {
            let headers: Vec<_> = kind.into_iter().map(|kind| ("content-type", kind)).collect();
            checked(Hosts::Any, Method::POST, &headers, body)
        };
        for json in ["application/json", "application/json; charset=utf-8", "Application/x+JSON"] {
            assert_eq!(post(Some(json), "{}"), 200, "{json}");
        }
        for other in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(post(other, "{}"), 415, "{other:?}");
            assert_eq!(post(other, ""), 200, "{other:?} without a body");
        }
    }
}
