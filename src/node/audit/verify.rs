//! Whether a record is as it was written: whole, unchanged, in order.

use std::fmt;

use rusqlite::Connection;
use serde_json::Value;

use super::chain::{GENESIS, Key, Link};
use super::store::{COLUMNS, Head, link};

/// How far from its place an entry is looked for, to say that it was moved.
const MOVED: u64 = 256;

/// What was found good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Entries.
    pub(crate) count: u64,
    /// Number and time of the first; those before were removed by retention, which the record says.
    pub(crate) first: Option<(u64, u64)>,
    /// Time of the last.
    pub(crate) last_ms: u64,
    /// The last.
    pub(crate) head: Head,
    /// Entries whose hash was made with a key.
    pub(crate) keyed: u64,
    /// Entries that say that the record before them was removed, replaced or spoiled, and what they say.
    pub(crate) replaced: Vec<(u64, String)>,
    /// What was not written since the disk was too slow, as the record itself says.
    pub(crate) lost: u64,
}

/// What is wrong, and from which entry on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The first entry that is not as it was, or is not there.
    pub(crate) seq: u64,
    /// What is wrong with it.
    pub(crate) what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.seq, self.what)
    }
}

/// Goes through the whole record as it stands now, a running node beside it or not. Every one of
/// `heads` must be in it.
///
/// # Errors
/// When the record cannot be read. What is wrong with it is no error.
pub(crate) fn verify(
    db: &Connection,
    keys: &[Key],
    heads: &[Head],
) -> anyhow::Result<Result<Verified, Broken>> {
    // One view of it from the first entry to the last.
    let _snapshot = db.unchecked_transaction()?;
    let sql = format!("SELECT {COLUMNS} FROM audit ORDER BY seq");
    let mut rows = db.prepare(&sql)?;
    let mut found = rows.query([])?;
    let mut walk = Walk { keys, heads, good: Verified::default(), anchor: None, start: None };
    while let Some(row) = found.next()? {
        if let Err(broken) = walk.next(&link(row)?) {
            return Ok(Err(broken));
        }
    }
    Ok(walk.end())
}

struct Walk<'a> {
    keys: &'a [Key],
    heads: &'a [Head],
    good: Verified,
    /// Number and hash that the newest entry of retention says the rest stands on.
    anchor: Option<Head>,
    /// The same as the first entry says it.
    start: Option<Head>,
}

impl Walk<'_> {
    fn next(&mut self, entry: &Link) -> Result<(), Broken> {
        let broken = |seq, what: String| Err(Broken { seq, what });
        if self.good.count == 0 {
            self.start = Some(Head { seq: entry.seq.saturating_sub(1), hash: entry.prev.clone() });
        } else {
            let expected = self.good.head.seq + 1;
            if entry.seq != expected {
                let to = entry.seq.saturating_sub(1);
                return broken(expected, format!("removed, with all up to {to}"));
            }
        }
        self.hashed(entry)?;
        if self.good.count > 0 && entry.prev != self.good.head.hash {
            let what = "does not stand on the entry before it: that was changed, or either of them \
                        was inserted or replaced";
            return broken(entry.seq, what.to_owned());
        }
        if let Some(head) = self.heads.iter().find(|h| h.seq == entry.seq && h.hash != entry.hash) {
            let what = format!("has another hash than it had ({}): replaced since then", head.hash);
            return broken(entry.seq, what);
        }
        self.note(entry);
        Ok(())
    }

    fn hashed(&self, entry: &Link) -> Result<(), Broken> {
        let broken = |what: String| Err(Broken { seq: entry.seq, what });
        let key = self.keys.iter().find(|key| key.id() == entry.key);
        if entry.key.is_empty() && self.good.keyed > 0 {
            let what = "was written without a key, and those before it with one: replaced, or the \
                        key was taken out of the configuration";
            return broken(what.to_owned());
        }
        if !entry.key.is_empty() && key.is_none() {
            let what = format!(
                "its hash was made with the key {}, which was not given; name its file with \
                 --key-file, or the configuration with -c",
                entry.key
            );
            return broken(what);
        }
        if entry.hash_as(entry.seq, key) == entry.hash {
            return Ok(());
        }
        let near = entry.seq.saturating_sub(MOVED).max(1)..=entry.seq + MOVED;
        let was = near.into_iter().find(|seq| entry.hash_as(*seq, key) == entry.hash);
        broken(match was {
            Some(was) => format!("was written as entry {was}: moved, or others were inserted"),
            None => "changed since it was written: its hash is that of something else".to_owned(),
        })
    }

    fn note(&mut self, entry: &Link) {
        let good = &mut self.good;
        good.count += 1;
        good.first.get_or_insert((entry.seq, entry.at_ms));
        good.last_ms = entry.at_ms;
        good.head = Head { seq: entry.seq, hash: entry.hash.clone() };
        good.keyed += u64::from(!entry.key.is_empty());
        let after = || serde_json::from_str::<Value>(&entry.texts.after).unwrap_or_default();
        match entry.texts.action.as_str() {
            "audit.replaced" => good.replaced.push((entry.seq, entry.texts.cause.clone())),
            "audit.gap" => good.lost += after()["lost"].as_u64().unwrap_or(0),
            "audit.retention" => {
                let (seq, hash) = (&after()["anchor"]["seq"], &after()["anchor"]["hash"]);
                self.anchor = seq
                    .as_u64()
                    .zip(hash.as_str())
                    .map(|(seq, hash)| Head { seq, hash: hash.to_owned() });
            }
            _ => {}
        }
    }

    /// What can be told only from all of it: that it begins and ends where it should.
    fn end(self) -> Result<Verified, Broken> {
        let broken = |seq, what: String| Err(Broken { seq, what });
        if self.good.count == 0 {
            return broken(1, "missing, and every other: a node begins with its start".to_owned());
        }
        let begins = self.start.unwrap_or_default();
        if begins.seq == 0 && begins.hash != GENESIS {
            return broken(1, "does not begin the record: it stands on something else".to_owned());
        }
        if begins.seq > 0 && self.anchor.as_ref() != Some(&begins) {
            let what = match self.anchor {
                Some(said) if said.seq < begins.seq => {
                    format!("removed, with those after entry {} that retention left", said.seq)
                }
                _ => "removed, and no entry of retention says so".to_owned(),
            };
            return broken(begins.seq, what);
        }
        if !self.keys.is_empty() && self.good.keyed == 0 {
            let what = "no entry was written with a key, and one was given: replaced, or written \
                        before there was one";
            return broken(self.good.head.seq, what.to_owned());
        }
        for head in self.heads {
            if head.seq > self.good.head.seq {
                let what = format!(
                    "missing, though it was there: the record ends with entry {}, so its end was \
                     cut off",
                    self.good.head.seq
                );
                return broken(head.seq, what);
            }
            if head.seq < begins.seq || head.seq == begins.seq && head.hash != begins.hash {
                let what = "removed by retention, so that nobody can tell whether it was the one \
                            that is expected; give a newer one";
                return broken(head.seq, what.to_owned());
            }
        }
        Ok(self.good)
    }
}
