//! The client's address in the words of forwarding fields.

use std::net::IpAddr;

use http::HeaderValue;
use pingora::{ErrorType, OrErr};

use crate::head::is_token;

/// A peer's address, written out once per connection instead of once per request.
#[derive(Debug)]
pub(crate) struct ClientAddress {
    ip: IpAddr,
    /// As `X-Forwarded-For` has it.
    field: HeaderValue,
    /// As `Forwarded` has it, `for=` included.
    node: Box<str>,
}

impl ClientAddress {
    /// Describes the peer of a connection; an IPv4 address in IPv6 clothes is an IPv4 address.
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let field = HeaderValue::from_str(&ip.to_string())
            .expect("digits, colons and points are visible characters");
        let node = match ip {
            IpAddr::V4(v4) => format!("for={v4}"),
            // RFC 7239, section 6: an IPv6 address is bracketed, and the brackets need quotes.
            IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
        };
        Self { ip, field, node: node.into() }
    }

    /// The address itself.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The value of `X-Forwarded-For`.
    pub(crate) fn field(&self) -> &HeaderValue {
        &self.field
    }

    /// The value of `Forwarded` (RFC 7239, section 4), after what `earlier` hops have said.
    ///
    /// # Errors
    ///
    /// Those of making a header value.
    pub(crate) fn forwarded(
        &self,
        earlier: Vec<u8>,
        host: Option<&HeaderValue>,
        proto: &str,
    ) -> pingora::Result<HeaderValue> {
        let host = host.map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
        let mut text = earlier;
        // To the byte, which spares a second allocation: the value takes over the buffer.
        let quotes = host.map_or(0, |host| if is_quoted(host) { 2 } else { 0 });
        let host_len = host.map_or(0, |host| HOST.len() + host.len() + quotes);
        text.reserve_exact(self.node.len() + host_len + PROTO.len() + proto.len());
        text.extend_from_slice(self.node.as_bytes());
        if let Some(host) = host {
            let quote: &[u8] = if quotes == 0 { b"" } else { b"\"" };
            for piece in [HOST, quote, host, quote] {
                text.extend_from_slice(piece);
            }
        }
        text.extend_from_slice(PROTO);
        text.extend_from_slice(proto.as_bytes());
        value(text)
    }
}

const HOST: &[u8] = b";host=";
const PROTO: &[u8] = b";proto=";

/// RFC 7239, section 4: a value that is no token is written in quotes.
fn is_quoted(host: &[u8]) -> bool {
    !host.iter().all(|&byte| is_token(byte))
}

/// Makes a field's value of bytes that were put together here.
///
/// # Errors
///
/// Those of making a header value.
pub(super) fn value(text: Vec<u8>) -> pingora::Result<HeaderValue> {
    HeaderValue::try_from(text).or_err(ErrorType::InvalidHTTPHeader, "building a forwarding field")
}
