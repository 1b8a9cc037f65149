//! `Via`: by which name a request is passed on, and whether it has come back (RFC 9110, section
//! 7.6.3).

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

/// A pseudonym for one service of this process, which no other process has.
///
/// One per service and not one for all: a request may well pass here twice, as where what one
/// service names is a firewall that passes on to another. Only who comes to the same service again
/// goes round.
#[derive(Debug)]
pub(crate) struct Via {
    name: String,
    http_10: HeaderValue,
    http_11: HeaderValue,
}

impl Via {
    /// A name that nobody else has, made at random.
    pub(crate) fn random() -> Self {
        Self::named(format!("foreshadow-{:012x}", rand::random::<u64>() >> 16))
    }

    pub(super) fn named(name: String) -> Self {
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {name}"))
                .expect("letters, digits and hyphens are a field's value")
        };
        Self { http_10: value("1.0"), http_11: value("1.1"), name }
    }

    /// What is added to a request that was received in `version`.
    pub(crate) fn value(&self, version: Version) -> HeaderValue {
        let value = if version == Version::HTTP_10 { &self.http_10 } else { &self.http_11 };
        value.clone()
    }

    /// Whether a request with these fields was passed on by this name before.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VIA).iter().any(|value| {
            value.as_bytes().split(|&byte| byte == b',').any(|hop| {
                let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                words.nth(1) == Some(self.name.as_bytes())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_name_is_known_among_others() {
        let via = Via::named("foreshadow-1".to_owned());
        let known = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(VIA, HeaderValue::from_static(value));
            }
            via.is_in(&headers)
        };
        for values in [
            &["1.1 foreshadow-1"][..],
            &["1.0 edge,1.1\tforeshadow-1"],
            &["1.1 edge", "HTTP/1.1  foreshadow-1 (a comment), 1.1 cache"],
        ] {
            assert!(known(values), "{values:?}");
        }
        for values in [
            &[][..],
            &[""],
            &["foreshadow-1"],
            &["1.1 foreshadow-12"],
            &["1.1 foreshadow, 1.1 edge"],
            &["1.1 edge (foreshadow-1)"],
        ] {
            assert!(!known(values), "{values:?}");
        }
        assert_ne!(Via::random().name, Via::random().name);
    }
}
