//! Texts, names and addresses: the kinds of single values that are not numbers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::Read;
use super::leaf::leaf;
use crate::checked::MASK;
use crate::expand::is_name;
use crate::reader::{Problem, Reader, Scalar};
use crate::tree::Node;
use crate::{AdminAddress, Cidr, Endpoint, HostMatch};

leaf! {
    /// A text with at least one character and no control characters.
    Text(String), "a text",
    { "type": "string", "minLength": 1 },
    |scalar| scalar
        .text()
        .filter(|text| !text.is_empty() && !text.contains(char::is_control))
        .map(str::to_owned),
    |wrong| (wrong.text().is_none()).then_some("put it in quotes")
}

leaf! {
    /// An argument or a variable's value: any text without NUL, or a number or switch as text.
    Word(String), "a text",
    { "type": ["string", "number", "boolean"] },
    |scalar| match scalar {
        Scalar::Text(text, _) => Some(text.to_string()).filter(|text| !text.contains('\0')),
        Scalar::Integer(integer) => Some(integer.to_string()),
        Scalar::Float(_) => None,
        Scalar::Bool(bool) => Some(bool.to_string()),
    },
    |wrong| matches!(wrong, Scalar::Float(_)).then_some("put it in quotes")
}

leaf! {
    /// A path in the file system.
    FilePath(PathBuf), "a path",
    { "type": "string", "minLength": 1 },
    |scalar| scalar
        .text()
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .map(PathBuf::from)
}

leaf! {
    /// The name of an environment variable.
    VariableName(String), "the name of an environment variable",
    { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$|\\$\\{" },
    |scalar| scalar.text().filter(|name| is_name(name)).map(str::to_owned)
}

/// Reads an IP address with port; `localhost` is 127.0.0.1.
fn socket_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, decimal_port(port)?))),
        None => text.parse().ok(),
    }
}

fn decimal_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What to do about a text that is almost an address.
fn address_help(scalar: &Scalar<'_>) -> Option<&'static str> {
    let Some(text) = scalar.text() else {
        return Some("write the IP address and the port, such as 127.0.0.1:8080");
    };
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if text.contains("://") {
        Some("write it without the scheme")
    } else if text.parse::<IpAddr>().is_ok() || host == "localhost" && port.is_empty() {
        Some("add the port, as in 127.0.0.1:8080 or [::1]:8080")
    } else if host.parse::<IpAddr>().is_ok() {
        Some("a port is a number from 1 to 65535")
    } else if decimal_port(port).is_some() && host.contains(|c: char| c.is_ascii_alphabetic()) {
        Some("host names are not resolved in this version; write the IP address")
    } else {
        None
    }
}

const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8080";

leaf! {
    /// Where to listen; `:8080` and `*:8080` are every IPv4 address.
    ListenAddress(SocketAddr), ADDRESS,
    { "type": "string", "pattern": ":[0-9]+$|\\$\\{" },
    |scalar| scalar.text().and_then(|text| {
        let all = text.strip_prefix("*:").or_else(|| text.strip_prefix(':'));
        match all.and_then(decimal_port) {
            Some(port) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            None => socket_address(text),
        }
    }).filter(|address| address.port() > 0),
    |wrong| address_help(wrong)
}

leaf! {
    /// Where an instance listens.
    BackendAddress(SocketAddr), ADDRESS,
    { "type": "string", "pattern": ":[0-9]+$|\\$\\{" },
    |scalar| scalar
        .text()
        .and_then(socket_address)
        .filter(|address| address.port() > 0 && !address.ip().is_unspecified()),
    |wrong| address_help(wrong)
}

leaf! {
    /// Where the admin API listens.
    AdminPlace(AdminAddress), "an IP address and a port, or unix:/path",
    { "type": "string", "pattern": ":[0-9]+$|^unix:.|\\$\\{" },
    |scalar| scalar.text().and_then(|text| match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() && !path.contains('\0') => {
            Some(AdminAddress::Unix(path.into()))
        }
        Some(_) => None,
        None => {
            let all = text.strip_prefix("*:").or_else(|| text.strip_prefix(':'));
            let address = match all.and_then(decimal_port) {
                Some(port) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
                None => socket_address(text),
            };
            address.filter(|address| address.port() > 0).map(AdminAddress::Tcp)
        }
    }),
    |wrong| address_help(wrong)
}

leaf! {
    /// A range of addresses.
    AddressRange(Cidr), "an address range such as 10.0.0.0/8 or 2001:db8::/32",
    { "type": "string", "pattern": "^[0-9a-fA-F.:]+(/[0-9]+)?$|\\$\\{" },
    |scalar| scalar.text().and_then(|text| text.parse().ok())
}

fn is_host(text: &str) -> bool {
    let labels = |text: &str| {
        text.len() <= 253
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            })
    };
    labels(text) || text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).is_some_and(is_ip)
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

leaf! {
    /// The hosts of a route.
    HostPattern(HostMatch), "a host such as shop.example.com, *.example.com or *",
    { "type": "string", "minLength": 1 },
    |scalar| scalar.text().and_then(|text| {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some("") => Some(HostMatch::Any),
            Some(suffix) => {
                let valid = suffix.strip_prefix('.').is_some_and(is_host);
                valid.then(|| HostMatch::Suffix(suffix.to_owned()))
            }
            None => is_host(&text).then_some(HostMatch::Exact(text)),
        }
    }),
    |wrong| match wrong.text() {
        Some(text) if text.contains("://") => Some("write it without the scheme"),
        Some(text) if text.contains(':') => Some("write it without the port"),
        Some(text) if text.contains('*') => Some("a wildcard stands for the whole first part"),
        _ => None,
    }
}

leaf! {
    /// A path of a request, without query.
    UrlPath(String), "a path that begins with /, without a query",
    { "type": "string", "pattern": "^/[^?#]*$|\\$\\{" },
    |scalar| scalar.text().filter(|text| is_target(text) && !text.contains('?')).map(str::to_owned)
}

leaf! {
    /// A path of a request, perhaps with a query.
    UrlTarget(String), "a path that begins with /",
    { "type": "string", "pattern": "^/|\\$\\{" },
    |scalar| scalar.text().filter(|text| is_target(text)).map(str::to_owned)
}

/// Whether the text can stand in a request line as it is.
fn is_target(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

leaf! {
    /// The value of a `Host` header.
    HostHeader(String), "a host, perhaps with a port",
    { "type": "string", "minLength": 1 },
    |scalar| scalar.text().filter(|text| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (*text, None),
        };
        is_host(host) && port.is_none_or(|port| decimal_port(port).is_some())
    }).map(str::to_owned)
}

leaf! {
    /// Where a webhook is.
    EndpointText(Endpoint), "http://HOST:PORT, perhaps with a path, or unix:/PATH",
    { "type": "string", "pattern": "^(http://.+:[0-9]+|unix:/.)|\\$\\{" },
    |scalar| scalar.text().and_then(Endpoint::read),
    |wrong| wrong.text().and_then(|text| text.starts_with("https://").then_some(
        "this version speaks no TLS to providers; name a TLS client on this machine, such as a proxy"
    ))
}

/// A token. It is never repeated in a message.
#[derive(Debug)]
pub(crate) struct TokenText(pub(crate) String);

impl Read for TokenText {
    fn form() -> String {
        "a token of at least 8 printable ASCII characters without spaces".to_owned()
    }

    fn read(node: &Node, r: &mut Reader<'_>) -> Option<Self> {
        let scalar = r.scalar(node, &Self::form())?;
        let text = scalar.text().filter(|text| is_token(text));
        if text.is_none() {
            let found = if scalar.text().is_some() { "another text" } else { "no text" };
            let problem = Problem::new(found, Self::form());
            let masked = scalar.text() == Some(MASK);
            let help = "*** stands for a token that was not printed; write the token itself";
            r.fault(&node.span, if masked { problem.help(help) } else { problem });
        }
        text.map(|text| Self(text.to_owned()))
    }
}

impl schemars::JsonSchema for TokenText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TokenText".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 8 })
    }
}

/// Whether a text can be sent as a bearer token.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
