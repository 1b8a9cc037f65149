//! The record on a real disk: what is done to it by hand is found, and what is done by right is not.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use super::chain::Key;
use super::store::{Head, Store, open_read_only};
use super::verify::{Broken, Verified, verify};
use super::{Actor, Entry};

const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

struct Record {
    dir: tempfile::TempDir,
    key: Option<Key>,
}

impl Record {
    fn with(key: Option<&str>, entries: u64) -> Self {
        let record = Self { dir: tempfile::tempdir().unwrap(), key: key.map(Key::new) };
        record.more(1..=entries);
        record
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("audit.db")
    }

    fn store(&self) -> Store {
        Store::open(&self.path(), self.key.clone()).unwrap()
    }

    fn more(&self, at: impl Iterator<Item = u64>) {
        let entry = |at| {
            Entry::new(at, Actor::Manager, "instance.thaw")
                .of("shop")
                .changed(json!({ "tier": "shadow" }), json!({ "tier": "warm", "took_ms": at }))
        };
        self.store().append(&at.map(entry).collect::<Vec<_>>()).unwrap();
    }

    /// What somebody does who can write the file.
    fn by_hand(&self, sql: &str) -> &Self {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
        self
    }

    fn verified(&self, heads: &[Head]) -> Result<Verified, Broken> {
        let keys: Vec<Key> = self.key.iter().cloned().collect();
        verify(&open_read_only(&self.path()).unwrap(), &keys, heads).unwrap()
    }

    fn broken(&self) -> (u64, String) {
        let broken = self.verified(&[]).unwrap_err();
        (broken.seq, broken.what)
    }

    /// Makes the hash of one entry good again, as whoever has no key can.
    fn rehash(&self, seq: u64) -> &Self {
        let db = Connection::open(self.path()).unwrap();
        let sql = format!("SELECT {} FROM audit WHERE seq = ?", super::store::COLUMNS);
        let link = db.query_row(&sql, [seq], super::store::link).unwrap();
        let hash = link.hash_as(seq, None);
        db.execute("UPDATE audit SET hash = ? WHERE seq = ?", (hash, seq)).unwrap();
        self
    }
}

#[test]
fn a_record_is_whole_over_restarts_and_says_where_it_ends() {
    let record = Record::with(None, 0);
    assert!(record.broken().1.contains("missing, and every other"));
    record.more(1..=3);
    let first = record.verified(&[]).unwrap().head;
    record.more(4..=5);
    let good = record.verified(std::slice::from_ref(&first)).unwrap();
    assert_eq!((good.count, good.first, good.last_ms, good.head.seq), (5, Some((1, 1)), 5, 5));
    assert_eq!((first.seq, good.keyed, good.lost), (3, 0, 0));
}

#[test]
fn each_way_of_tampering_is_found_at_its_place_and_named() {
    let of = |sql: &str| Record::with(None, 9).by_hand(sql).broken();
    for column in ["actor", "before", "outcome", "cause", "action", "peer"] {
        let (seq, what) = of(&format!("UPDATE audit SET {column} = 'x' WHERE seq = 4"));
        assert!(seq == 4 && what.contains("changed"), "{column}: {seq} {what}");
    }
    let (seq, what) = of("UPDATE audit SET at_ms = 99 WHERE seq = 4");
    assert!(seq == 4 && what.contains("changed"), "{seq} {what}");
    let (seq, what) = of("DELETE FROM audit WHERE seq IN (4, 5)");
    assert!(seq == 4 && what.contains("removed, with all up to 5"), "{seq} {what}");
    let (seq, what) = of("DELETE FROM audit WHERE seq < 4");
    assert!(seq == 3 && what.contains("no entry of retention"), "{seq} {what}");
    let closed_up = "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = seq - 1 WHERE seq > 4";
    let (seq, what) = of(closed_up);
    assert!(seq == 4 && what.contains("was written as entry 5"), "{seq} {what}");
    let swapped = "UPDATE audit SET seq = -1 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 6;
                   UPDATE audit SET seq = 6 WHERE seq = -1";
    let (seq, what) = of(swapped);
    assert!(seq == 4 && what.contains("was written as entry 6"), "{seq} {what}");
    let inserted = "UPDATE audit SET seq = -seq - 1 WHERE seq > 4;
                    UPDATE audit SET seq = -seq WHERE seq < 0;
                    INSERT INTO audit SELECT 5, at_ms, tick, kind, 'mallory', role, peer, action,
                    service, instance, before, after, outcome, cause, key, prev, hash
                    FROM audit WHERE seq = 4";
    let (seq, what) = of(inserted);
    assert!(seq == 5 && what.contains("changed"), "{seq} {what}");
    let (seq, what) = of("UPDATE audit SET prev = hash WHERE seq = 1");
    assert!(seq == 1 && what.contains("changed"), "{seq} {what}");
}

#[test]
fn what_is_made_good_again_shows_at_the_next_entry_or_against_a_head_kept_elsewhere() {
    let record = Record::with(None, 9);
    let head = record.verified(&[]).unwrap().head;
    record.by_hand("UPDATE audit SET actor = 'x' WHERE seq = 4").rehash(4);
    let (seq, what) = record.broken();
    assert!(seq == 5 && what.contains("does not stand on the entry before it"), "{seq} {what}");
    // All that follows is written anew: nothing in the record itself tells.
    for seq in 5..=9_u64 {
        let sql = format!(
            "UPDATE audit SET prev = (SELECT hash FROM audit WHERE seq = {}) WHERE seq = {seq}",
            seq - 1
        );
        record.by_hand(&sql).rehash(seq);
    }
    assert!(record.verified(&[]).is_ok(), "without a key that is possible");
    let broken = record.verified(std::slice::from_ref(&head)).unwrap_err();
    assert!(broken.seq == 9 && broken.what.contains("another hash"), "{broken}");

    let record = Record::with(None, 9);
    record.by_hand("DELETE FROM audit WHERE seq > 6");
    assert!(record.verified(&[]).is_ok(), "an end that is cut off leaves a whole record");
    let broken = record.verified(&[head]).unwrap_err();
    assert!(broken.seq == 9 && broken.what.contains("cut off"), "{broken}");
}

#[test]
fn with_a_key_nobody_without_it_makes_anything_good_again() {
    let record = Record::with(Some("a key of more than thirty-two characters"), 9);
    assert_eq!(record.verified(&[]).unwrap().keyed, 9);
    record.by_hand("UPDATE audit SET actor = 'x' WHERE seq = 9").rehash(9);
    assert_eq!(record.broken().0, 9);
    record.by_hand("UPDATE audit SET key = '' WHERE seq = 9").rehash(9);
    let (seq, what) = record.broken();
    assert!(seq == 9 && what.contains("without a key"), "{seq} {what}");
    // All of it anew, and without a key.
    record.by_hand("UPDATE audit SET key = ''").rehash(1);
    for seq in 2..=9_u64 {
        let before = seq - 1;
        record
            .by_hand(&format!(
                "UPDATE audit SET prev = (SELECT hash FROM audit WHERE seq = {before}) \
                 WHERE seq = {seq}"
            ))
            .rehash(seq);
    }
    assert!(record.broken().1.contains("no entry was written with a key"));
    let db = open_read_only(&record.path()).unwrap();
    assert!(verify(&db, &[], &[]).unwrap().is_ok(), "who gives no key learns nothing");
    let keyed = Record::with(Some("another key of more than thirty-two"), 2);
    let unknown = verify(&open_read_only(&keyed.path()).unwrap(), &[], &[]).unwrap().unwrap_err();
    assert!(unknown.what.contains("which was not given"), "{unknown}");
}

#[test]
fn a_key_may_come_later_and_be_replaced_by_another() {
    let mut record = Record::with(None, 2);
    let keys = ["the first key, of thirty-two or more", "the second key, of thirty-two or more"];
    for (key, at) in keys.iter().zip([3, 5]) {
        record.key = Some(Key::new(key));
        record.more(at..=at + 1);
    }
    let keys = keys.map(Key::new);
    let good = verify(&open_read_only(&record.path()).unwrap(), &keys, &[]).unwrap().unwrap();
    assert_eq!((good.count, good.keyed), (6, 4));
}

#[test]
fn retention_removes_the_oldest_and_leaves_what_the_rest_stands_on() {
    let record = Record::with(None, 0);
    let day = 86_400_000_u64;
    record.more((1..=4_000).map(|nth| nth * day / 100));
    let early = record.verified(&[]).unwrap();
    let mut store = record.store();
    // 40 days of entries: those of the first 20 are too old, and a thousand goes at a time.
    let keep = Duration::from_millis(20 * day);
    let went: Vec<u64> = (0..4).map(|_| store.prune(40 * day, keep, u64::MAX).unwrap()).collect();
    assert_eq!(went, [1_000, 999, 0, 0]);
    let good = record.verified(std::slice::from_ref(&early.head)).unwrap();
    assert_eq!((good.first.unwrap().0, good.head.seq, good.count), (2_000, 4_002, 2_003));
    let gone = record.verified(&[Head { seq: 12, hash: "00".repeat(32) }]).unwrap_err();
    assert!(gone.what.contains("removed by retention"), "{gone}");
    // A tenth at a time, where they take more than they may.
    assert_eq!(store.prune(40 * day, NEVER, 1).unwrap(), 201);
    assert!(record.verified(&[]).is_ok());
    // Somebody goes on from there by hand.
    record.by_hand("DELETE FROM audit WHERE seq < 2300");
    let (seq, what) = record.broken();
    assert!(seq == 2_299 && what.contains("those after entry 2200 that retention left"), "{what}");
}

#[test]
fn a_clock_that_is_far_ahead_costs_a_part_of_the_record_only() {
    let record = Record::with(None, 0);
    record.more(1..=30_000);
    let mut store = record.store();
    assert_eq!(store.prune(u64::MAX, Duration::from_secs(1), u64::MAX).unwrap(), 3_000);
    let record = Record::with(None, 1);
    assert_eq!(record.store().prune(u64::MAX, Duration::ZERO, 0).unwrap(), 0, "the newest stays");
}

/// A running record with what it is held against.
fn started(dir: &std::path::Path) -> super::Audit {
    let settings = foreshadow_config::Audit {
        keep: NEVER,
        max_size: u64::MAX,
        key: None,
        checkpoint_interval: NEVER,
    };
    super::Audit::start(dir, &settings).unwrap()
}

fn put(audit: &super::Audit, action: &'static str) {
    audit.record(Entry::new(1, Actor::Manager, action));
}

/// Waits until so many entries are written and none fails.
fn written(audit: &super::Audit, seq: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while audit.figures().head_seq != seq || audit.figures().is_failing {
        assert!(std::time::Instant::now() < deadline, "{}", audit.status());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The actions on record, the oldest first.
fn actions(dir: &std::path::Path) -> Vec<String> {
    let db = open_read_only(&dir.join("audit.db")).unwrap();
    let mut rows = db.prepare("SELECT action FROM audit ORDER BY seq").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_record_that_is_taken_away_while_nobody_looks_is_missed_at_the_start() {
    type Deed = fn(&std::path::Path);
    let removed: Deed = |path| std::fs::remove_file(path).unwrap();
    let spoiled: Deed = |path| {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&[7; 100]).unwrap();
    };
    let cut: Deed = |path| {
        Connection::open(path).unwrap().execute("DELETE FROM audit WHERE seq > 1", []).unwrap();
    };
    for (deed, says, count) in [
        (removed, "removed while the node was down", 2),
        (spoiled, "damaged and is set aside", 2),
        (cut, "its end was cut off", 3),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let audit = started(dir.path());
        assert_eq!(audit.figures().replaced, 0);
        ["a", "b", "c"].into_iter().for_each(|action| put(&audit, action));
        written(&audit, 3);
        audit.close();
        let head = super::kept_head(&dir.path().join("foreshadow.db")).unwrap();
        assert_eq!(head.seq, 3);
        deed(&dir.path().join("audit.db"));
        let audit = started(dir.path());
        put(&audit, "d");
        written(&audit, count);
        assert_eq!(audit.figures().replaced, 1, "{says}");
        let told = audit.status()["replaced"].as_str().unwrap().to_owned();
        assert!(told.contains(says) && told.contains(&format!("3:{}", head.hash)), "{told}");
        audit.close();
        let on_record = actions(dir.path());
        assert_eq!(on_record[on_record.len() - 2..], ["audit.replaced", "d"], "{says}");
        let db = open_read_only(&dir.path().join("audit.db")).unwrap();
        let good = verify(&db, &[], &[]).unwrap().unwrap();
        assert_eq!(good.replaced.len(), 1, "{says}");
        let audit = started(dir.path());
        assert_eq!(audit.figures().replaced, 0, "{says}: it is said once");
        audit.close();
    }
}

#[test]
fn a_record_that_is_taken_away_under_the_writer_is_missed_within_a_moment() {
    type Deed = fn(&std::path::Path);
    let removed: Deed = |path| std::fs::remove_file(path).unwrap();
    let exchanged: Deed = |path| {
        let other = path.with_extension("other");
        std::fs::write(&other, "").unwrap();
        std::fs::rename(other, path).unwrap();
    };
    let spoiled: Deed = |path| {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&[7; 100]).unwrap();
    };
    let edited: Deed = |path| {
        Connection::open(path).unwrap().execute("DELETE FROM audit WHERE seq > 1", []).unwrap();
    };
    for (deed, says, before) in [
        (removed, "the file was removed", 0),
        (exchanged, "another file was put in its place", 0),
        (spoiled, "the file was overwritten", 0),
        (edited, "its newest entry was removed", 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let audit = started(dir.path());
        ["a", "b", "c"].into_iter().for_each(|action| put(&audit, action));
        written(&audit, 3);
        deed(&dir.path().join("audit.db"));
        put(&audit, "d");
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while audit.figures().replaced == 0 {
            assert!(std::time::Instant::now() < deadline, "{says}: not missed");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        written(&audit, before + 2);
        let told = audit.status()["replaced"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains(says) && told.contains("3:"), "{says}: {told}");
        // What is asked of it is read from the new one.
        let page = audit.page(&super::Query { limit: Some(9), ..super::Query::default() }).unwrap();
        let newest: Vec<&str> = page.iter().map(|link| link.texts.action.as_str()).collect();
        assert_eq!(newest[..2], ["d", "audit.replaced"], "{says}");
        audit.close();
        let on_record = actions(dir.path());
        assert_eq!(on_record[on_record.len() - 2..], ["audit.replaced", "d"], "{says}");
        assert_eq!(super::kept_head(&dir.path().join("foreshadow.db")).unwrap().seq, before + 2);
    }
}
