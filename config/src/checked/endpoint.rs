//! Where a webhook is: `http://host:port/prefix`, or `unix:/path`.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// The place of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Host and port, and what stands before the contract's paths.
    Tcp {
        /// As in the `Host` header: a host, a colon and a port above 0.
        authority: String,
        /// Empty, or a path without its last slash.
        prefix: String,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads what [`fmt::Display`] writes; nothing for any other text.
    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let usable = path.starts_with('/') && !path.contains('\0');
            return usable.then(|| Self::Unix(path.into()));
        }
        let rest = text.strip_prefix("http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':')?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let clean = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>".contains(&byte);
        let fits = !host.is_empty()
            && host.bytes().all(plain)
            && digits
            && port.parse().is_ok_and(|port: u16| port > 0)
            && path.bytes().all(clean);
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        fits.then(|| Self::Tcp { authority: authority.to_owned(), prefix })
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

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_shown_and_nonsense_is_refused() {
        let shown = |text| Endpoint::read(text).map(|endpoint| endpoint.to_string());
        for text in ["http://a:1", "http://[::1]:80/x/y", "unix:/run/x.sock"] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
        assert_eq!(shown("http://a:1/x/").as_deref(), Some("http://a:1/x"));
        assert_eq!(shown("http://a:1/").as_deref(), Some("http://a:1"));
        for text in [
            "",
            "a:1",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:+1",
            "http://u@a:1",
            "http://a:1/?q",
            "unix:x",
            "https://a:1",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_shown_in_a_form_that_reads_the_same(text in "(http://|unix:)?.{0,40}") {
            if let Some(endpoint) = Endpoint::read(&text) {
                prop_assert_eq!(Endpoint::read(&endpoint.to_string()), Some(endpoint));
            }
        }
    }
}
