//! The admin API's address and its secret.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What stands in for a secret wherever a configuration is shown.
pub(crate) const MASK: &str = "***";

/// The admin API and metrics.
///
/// Without a token the address is a loopback address or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// Where it listens.
    pub address: AdminAddress,
    /// The bearer token that callers must send; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Tokens with names and roles; names and texts are unique, that of `token` included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<NamedToken>,
}

impl Admin {
    /// Name of the one token that has none, in records.
    pub const OWNER: &'static str = "admin.token";

    /// Every token with its name and role; that of `token` may do everything.
    pub fn every_token(&self) -> impl Iterator<Item = (&str, Role, &Secret)> {
        let owner = self.token.iter().map(|token| (Self::OWNER, Role::Admin, token.secret()));
        owner.chain(self.tokens.iter().map(|t| (t.name.as_str(), t.role, t.token.secret())))
    }
}

/// A token of one person or program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedToken {
    /// What records call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The token.
    pub token: Token,
}

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Push metrics and signals; nothing else.
    Report,
    /// Look at everything but the configuration.
    Read,
    /// Read, report, and give orders.
    Operate,
    /// Everything.
    Admin,
}

impl Role {
    /// The role as written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for AdminAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A token and where it came from. Printed, it shows its origin, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Written in the file itself.
    Value(Secret),
    /// Taken from an environment variable.
    Env {
        /// The variable's name.
        variable: String,
        /// Its value when the configuration was read.
        secret: Secret,
    },
    /// Read from a file.
    File {
        /// The file.
        path: PathBuf,
        /// Its content when the configuration was read, without the line end.
        secret: Secret,
    },
}

impl Token {
    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Value(secret) | Self::Env { secret, .. } | Self::File { secret, .. } => secret,
        }
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(_) => serializer.serialize_str(MASK),
            Self::Env { variable, .. } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("env", variable)?;
                map.end()
            }
            Self::File { path, .. } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("file", path)?;
                map.end()
            }
        }
    }
}

/// A text that is never shown: `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for comparison with what a caller sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
