//! Header fields a proxy adds, replaces and removes on the way through.
//!
//! `Forwarded` follows RFC 7239, `Via` RFC 9110 section 7.6.3, hop-by-hop fields section 7.6.1.
//! Hop-by-hop fields of requests are removed by the engine's own policy before this runs.

mod address;
mod via;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

pub(crate) use address::ClientAddress;
use address::value;
pub(crate) use via::Via;

// Names of fields that are added: as text they go into the engine's maps without a copy.
const FORWARDED: &str = "forwarded";
const VIA: &str = "via";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const VIA_11: HeaderValue = HeaderValue::from_static("1.1 foreshadow");
const VIA_10: HeaderValue = HeaderValue::from_static("1.0 foreshadow");

/// What is known of the client's side of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSide<'a> {
    /// The peer of the connection.
    pub(crate) address: &'a ClientAddress,
    /// Whether what the peer says about earlier hops is believed.
    pub(crate) trusted: bool,
    /// Version the request was received in.
    pub(crate) version: Version,
    /// `http` or `https`.
    pub(crate) proto: &'static str,
    /// By which name the request is passed on.
    pub(crate) via: &'a Via,
}

/// Tells the backend about the client; the target becomes origin-form.
///
/// # Errors
///
/// Those of the header map, when a value cannot be represented.
pub(crate) fn request(request: &mut RequestHeader, client: ClientSide<'_>) -> pingora::Result<()> {
    to_origin_form(request)?;
    let host = request.headers.get(HOST).cloned();
    let (for_value, forwarded) = if client.trusted {
        let mut list = earlier(&request.headers, X_FORWARDED_FOR);
        list.extend_from_slice(client.address.field().as_bytes());
        let hops = earlier(&request.headers, FORWARDED);
        (value(list)?, client.address.forwarded(hops, host.as_ref(), client.proto)?)
    } else {
        let forwarded = client.address.forwarded(Vec::new(), host.as_ref(), client.proto)?;
        (client.address.field().clone(), forwarded)
    };
    request.insert_header(X_FORWARDED_FOR, for_value)?;
    request.insert_header(FORWARDED, forwarded)?;
    if !client.trusted || !request.headers.contains_key(X_FORWARDED_PROTO) {
        request.insert_header(X_FORWARDED_PROTO, HeaderValue::from_static(client.proto))?;
    }
    if !client.trusted {
        request.remove_header(&X_FORWARDED_PORT);
    }
    if !client.trusted || !request.headers.contains_key(X_FORWARDED_HOST) {
        match host {
            Some(host) => request.insert_header(X_FORWARDED_HOST, host)?,
            None => drop(request.remove_header(X_FORWARDED_HOST)),
        }
    }
    request.append_header(VIA, client.via.value(client.version)).map(drop)
}

/// Scheme, authority and the rest of an absolute-form target, as they were received.
fn split_absolute(target: &[u8]) -> Option<(&str, &[u8])> {
    if matches!(target.first(), None | Some(b'/' | b'*')) {
        return None;
    }
    let start = target.windows(3).position(|window| window == b"://")? + 3;
    let rest = &target[start..];
    let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some((std::str::from_utf8(&rest[..end]).ok()?, &rest[end..]))
}

/// The host a request is for, without port: that of its target, else that of `Host`.
pub(crate) fn host(request: &RequestHeader) -> &str {
    let field = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let target = split_absolute(request.raw_path()).map(|(authority, _)| authority);
    let authority = target.or_else(field).unwrap_or_default();
    match authority.rfind(':') {
        // The colons of a bracketed address are its own.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// An origin server is asked in origin-form (RFC 9112, section 3.2.1), with the authority in
/// `Host`.
fn to_origin_form(request: &mut RequestHeader) -> pingora::Result<()> {
    let Some((authority, rest)) = split_absolute(request.raw_path()) else { return Ok(()) };
    let host = authority.to_owned();
    let mut path = Vec::with_capacity(rest.len() + 1);
    if rest.first() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(rest);
    request.set_raw_path(&path)?;
    if !request.headers.contains_key(HOST) {
        request.insert_header(HOST, host)?;
    }
    Ok(())
}

/// Removes what concerned only the connection to the backend, adds `Via`, and speaks our version.
///
/// # Errors
///
/// Those of the header map, when it is full.
pub(crate) fn response(response: &mut ResponseHeader) -> pingora::Result<()> {
    let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    remove_hop_by_hop(response);
    if !switching {
        response.remove_header(&CONNECTION);
        response.remove_header(&UPGRADE);
    }
    if switching || response.status == StatusCode::NO_CONTENT {
        remove_framing(response);
    }
    let via = if response.version == Version::HTTP_10 { VIA_10 } else { VIA_11 };
    // The version of a message is that of its sender on this hop (RFC 9110, section 6.2).
    response.set_version(Version::HTTP_11);
    response.append_header(VIA, via).map(drop)
}

/// The same for an answer before the final one, which is passed on whether it was asked for or not
/// (RFC 9110, section 15.2).
pub(crate) fn interim(response: &mut ResponseHeader) {
    remove_hop_by_hop(response);
    response.remove_header(&CONNECTION);
    response.remove_header(&UPGRADE);
    remove_framing(response);
    response.set_version(Version::HTTP_11);
}

/// Answers with these statuses have no content and must not say how it is delimited (RFC 9110,
/// section 8.6, and RFC 9112, section 6.1).
fn remove_framing(response: &mut ResponseHeader) {
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&TRANSFER_ENCODING);
}

fn remove_hop_by_hop(response: &mut ResponseHeader) {
    if let Some(names) = nominated(&response.headers) {
        for name in names {
            response.remove_header(&name);
        }
    }
    response.remove_header(&KEEP_ALIVE);
    response.remove_header(&PROXY_CONNECTION);
    response.remove_header(&TE);
    response.remove_header(&TRAILER);
}

/// Fields that `Connection` nominates for removal. Those that delimit the message stay whatever a
/// backend says, and most answers nominate none, which allocates nothing.
fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    const KEPT: [&str; 6] =
        ["close", "keep-alive", "upgrade", "content-length", "transfer-encoding", "connection"];
    let mut names = None;
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if KEPT.iter().any(|kept| option.eq_ignore_ascii_case(kept.as_bytes())) {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(option) {
                names.get_or_insert_with(Vec::new).push(name);
            }
        }
    }
    names
}

/// What earlier hops have put into a list field, ready for one more element.
fn earlier(headers: &HeaderMap, name: &'static str) -> Vec<u8> {
    let mut text = Vec::new();
    for value in headers.get_all(name) {
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b", ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(client: &str, trusted: bool, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            header.append_header(*name, *value).unwrap();
        }
        let client = ClientSide {
            address: &ClientAddress::new(client.parse().unwrap()),
            trusted,
            version: Version::HTTP_11,
            proto: "http",
            via: &Via::named("node".to_owned()),
        };
        request(&mut header, client).unwrap();
        header
    }

    fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_strangers_claim_is_replaced() {
        let header = forwarded(
            "192.0.2.7",
            false,
            &[
                ("host", "shop.example:8080"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-for", "10.0.0.2"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-port", "1"),
                ("forwarded", "for=10.0.0.1"),
            ],
        );
        assert_eq!(values(&header.headers, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(values(&header.headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&header.headers, "x-forwarded-host"), ["shop.example:8080"]);
        assert!(values(&header.headers, "x-forwarded-port").is_empty());
        assert_eq!(
            values(&header.headers, "forwarded"),
            ["for=192.0.2.7;host=\"shop.example:8080\";proto=http"]
        );
        assert_eq!(values(&header.headers, "via"), ["1.1 node"]);
    }

    #[test]
    fn what_trusted_proxies_say_is_extended() {
        let header = forwarded(
            "2001:db8::7",
            true,
            &[
                ("host", "a"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-for", "10.0.0.2"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=10.0.0.1"),
                ("via", "1.1 edge"),
            ],
        );
        assert_eq!(values(&header.headers, "x-forwarded-for"), ["10.0.0.1, 10.0.0.2, 2001:db8::7"]);
        assert_eq!(values(&header.headers, "x-forwarded-proto"), ["https"]);
        assert_eq!(
            values(&header.headers, "forwarded"),
            ["for=10.0.0.1, for=\"[2001:db8::7]\";host=a;proto=http"]
        );
        assert_eq!(values(&header.headers, "via"), ["1.1 edge", "1.1 node"]);
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let header = forwarded("::ffff:192.0.2.7", false, &[]);
        assert_eq!(values(&header.headers, "x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(values(&header.headers, "forwarded"), ["for=192.0.2.7;proto=http"]);
    }

    #[test]
    fn the_host_is_that_of_the_target_then_of_the_field() {
        for (target, field, host) in [
            ("/", "a.example", "a.example"),
            ("/", "a.example:8080", "a.example"),
            ("/", "[::1]:80", "[::1]"),
            ("/", "[::1]", "[::1]"),
            ("http://b:1/x", "b:1", "b"),
            ("*", "c", "c"),
        ] {
            let mut header = RequestHeader::build("OPTIONS", target.as_bytes(), None).unwrap();
            header.append_header("host", field).unwrap();
            assert_eq!(super::host(&header), host, "{target} {field}");
        }
    }

    #[test]
    fn absolute_targets_become_origin_form() {
        let mut header = RequestHeader::build("GET", b"http://a:80/x?y=1", None).unwrap();
        let client = ClientSide {
            address: &ClientAddress::new([127, 0, 0, 1].into()),
            trusted: false,
            version: Version::HTTP_10,
            proto: "http",
            via: &Via::named("node".to_owned()),
        };
        request(&mut header, client).unwrap();
        assert_eq!(header.raw_path(), b"/x?y=1");
        assert_eq!(values(&header.headers, "host"), ["a:80"]);
        assert_eq!(values(&header.headers, "via"), ["1.0 node"]);
    }

    #[test]
    fn hop_by_hop_fields_of_answers_are_removed() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("connection", "X-Secret, close"),
            ("connection", "content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("x-kept", "1"),
        ] {
            header.append_header(name, value).unwrap();
        }
        response(&mut header).unwrap();
        let mut names: Vec<_> = header.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "via", "x-kept"]);
    }

    #[test]
    fn a_switch_of_protocols_keeps_its_fields() {
        let mut header = ResponseHeader::build(101, None).unwrap();
        header.append_header("connection", "Upgrade").unwrap();
        header.append_header("upgrade", "websocket").unwrap();
        response(&mut header).unwrap();
        assert_eq!(values(&header.headers, "upgrade"), ["websocket"]);
        assert_eq!(values(&header.headers, "connection"), ["Upgrade"]);
    }
}
