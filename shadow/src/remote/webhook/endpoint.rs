//! Where an endpoint is: `http://host:port/prefix`, or `unix:/path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The place of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Host and port, and what stands before the contract's paths.
    Tcp {
        /// As in the `Host` header.
        authority: String,
        /// Empty, or a path without its last slash.
        prefix: String,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let usable = path.starts_with('/') && !path.contains('\0');
            return usable
                .then(|| Self::Unix(path.into()))
                .ok_or_else(|| "write unix: and an absolute path".to_owned());
        }
        if text.starts_with("https://") {
            return Err("this version speaks no TLS to providers; \
                        put a TLS client such as a local proxy in between and name that"
                .to_owned());
        }
        let rest = text.strip_prefix("http://").ok_or("write http://HOST:PORT or unix:/PATH")?;
        let (authority, prefix) = match rest.split_once('/') {
            Some((authority, prefix)) => (authority, format!("/{}", prefix.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        let prefix = if prefix == "/" { String::new() } else { prefix };
        let host = authority.rsplit_once(':').filter(|(host, port)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
            !host.is_empty()
                && host.chars().all(plain)
                && port.parse().is_ok_and(|port: u16| port > 0)
        });
        let clean = prefix.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>".contains(&b));
        if host.is_none() || !clean {
            return Err("write http://HOST:PORT, perhaps with a path, or unix:/PATH".to_owned());
        }
        Ok(Self::Tcp { authority: authority.to_owned(), prefix })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, prefix } => write!(f, "http://{authority}{prefix}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_shown_and_nonsense_is_refused() {
        for text in ["http://a:1", "http://[::1]:80/x/y", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1/x/".parse::<Endpoint>().unwrap().to_string(), "http://a:1/x");
        assert_eq!("http://a:1/".parse::<Endpoint>().unwrap().to_string(), "http://a:1");
        for text in [
            "",
            "a:1",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://u@a:1",
            "http://a:1/?q",
            "unix:x",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        let error = "https://a:1".parse::<Endpoint>().unwrap_err();
        assert!(error.contains("no TLS"), "{error}");
    }
}
