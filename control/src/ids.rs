//! The words every part shares: services, instances, roles, tiers and modes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// The name of a service, cheap to clone; services order by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServiceName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a place in which shadows of a service are made; cheap to clone. A service whose shadows are
/// all made in one place need not name it: that is [`PlaceName::default`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlaceName(Arc<str>);

impl PlaceName {
    /// What the only place of a service is called unless it has a name.
    pub const DEFAULT: &'static str = "default";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the place that need not be named, and so is left out of what is written.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.as_str() == Self::DEFAULT
    }
}

impl Default for PlaceName {
    fn default() -> Self {
        static NAME: LazyLock<PlaceName> = LazyLock::new(|| PlaceName::from(PlaceName::DEFAULT));
        NAME.clone()
    }
}

impl From<&str> for PlaceName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl Borrow<str> for PlaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One running copy of a service, unique for as long as the state database lives.
///
/// An instance that is recreated, even on the same address, has a new id, so that counters and
/// learned values of the old one are never taken for those of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

/// Whether an instance was given by the configuration or made by a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Given by the configuration; always meant to serve.
    Primary,
    /// Made and owned by a provider; serves when the plan says so.
    Shadow,
}

/// How ready a shadow is, from least to most; primaries are always [`Tier::Serving`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Defined; nothing runs.
    Cold,
    /// Created, then paused or minimal: it costs memory and no CPU.
    Shadow,
    /// Running scaled down, fed mirrored requests.
    Warm,
    /// Full size and verified; may serve at once.
    Full,
    /// Full size with a weight above zero.
    Serving,
    /// Takes no new requests; finishes those it has.
    Draining,
}

impl Tier {
    /// All tiers, in order.
    pub const ALL: [Self; 6] =
        [Self::Cold, Self::Shadow, Self::Warm, Self::Full, Self::Serving, Self::Draining];

    /// The tier's name as written in configuration, metrics and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Shadow => "shadow",
            Self::Warm => "warm",
            Self::Full => "full",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What Foreshadow may do for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Look only: no plan is carried out or published.
    Observe,
    /// Publish the plan; carry out nothing.
    #[default]
    Advise,
    /// Carry the plan out.
    Act,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Advise => "advise",
            Self::Act => "act",
        })
    }
}
