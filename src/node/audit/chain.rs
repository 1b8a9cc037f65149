//! How entries are chained: each holds the hash of the one before, over a form that anybody can
//! write again (docs/audit.md).

use ring::{digest, hmac};

use super::entry::Texts;

/// What every hashed text begins with, so that a hash made here means nothing elsewhere.
const TAG: &[u8] = b"foreshadow audit 1";
/// In place of the hash before that of the first entry.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Characters of the text that tells keys apart.
const KEY_ID: usize = 16;

/// A key that hashes are made with. It is never shown.
#[derive(Clone)]
pub(crate) struct Key {
    id: String,
    key: hmac::Key,
}

impl Key {
    /// The key with this text.
    pub(crate) fn new(secret: &str) -> Self {
        let mut id = digest::Context::new(&digest::SHA256);
        id.update(b"foreshadow audit key");
        id.update(secret.as_bytes());
        let mut id = hex(id.finish().as_ref());
        id.truncate(KEY_ID);
        Self { id, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// Which key it is; says nothing about the key.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// A stored entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number, from 1 and without gaps.
    pub(crate) seq: u64,
    /// Unix time.
    pub(crate) at_ms: u64,
    /// The tick; 0 where there is none.
    pub(crate) tick: u64,
    /// What it says.
    pub(crate) texts: Texts,
    /// Which key its hash was made with; empty for none.
    pub(crate) key: String,
    /// The hash of the entry before.
    pub(crate) prev: String,
    /// Its own.
    pub(crate) hash: String,
}

impl Link {
    /// The hash that it should have, had it the number `seq`.
    pub(crate) fn hash_as(&self, seq: u64, key: Option<&Key>) -> String {
        let mut bytes = TAG.to_vec();
        let numbers = [seq, self.at_ms, self.tick].map(|number| number.to_string());
        let fields = numbers.iter().map(String::as_str).chain(self.texts.all());
        for field in fields.chain([self.key.as_str(), self.prev.as_str()]) {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        match key {
            Some(key) => hex(hmac::sign(&key.key, &bytes).as_ref()),
            None => hex(digest::digest(&digest::SHA256, &bytes).as_ref()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_and_none_can_lend_to_its_neighbour() {
        let link = Link {
            seq: 7,
            at_ms: 1,
            texts: Texts { actor: "ab".into(), role: "c".into(), ..Texts::default() },
            prev: GENESIS.into(),
            ..Link::default()
        };
        let hash = link.hash_as(7, None);
        assert_eq!(hash.len(), GENESIS.len());
        let mut lent = link.clone();
        (lent.texts.actor, lent.texts.role) = ("a".into(), "bc".into());
        assert_ne!(lent.hash_as(7, None), hash);
        assert_ne!(link.hash_as(8, None), hash);
        let other = Link { tick: 1, ..link.clone() };
        assert_ne!(other.hash_as(7, None), hash);
        let (a, b) = (Key::new("one"), Key::new("two"));
        assert_ne!(a.id(), b.id());
        assert_ne!(link.hash_as(7, Some(&a)), link.hash_as(7, Some(&b)));
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            hex(digest::digest(&digest::SHA256, b"abc").as_ref()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        // RFC 4231, test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            hex(hmac::sign(&key, b"what do ya want for nothing?").as_ref()),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
