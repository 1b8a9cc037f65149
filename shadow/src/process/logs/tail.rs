//! Following one file of output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use foreshadow_control::{InstanceId, ServiceName};

use super::pace::{Dropped, Pace};
use super::{OutputBounds, PRIVATE};

/// Read per file and look, which bounds the work of a look.
const CHUNK: usize = 64 * 1024;
/// Longer lines are cut into pieces of this length.
const LINE: usize = 4 * 1024;

/// Where a file is, and when and how often it is moved aside.
pub(super) struct Rotation {
    pub(super) path: PathBuf,
    pub(super) bounds: OutputBounds,
}

/// The name of a file that was moved aside so often; of the file itself at zero.
pub(super) fn aged(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if age > 0 {
        name.push(format!(".{age}"));
    }
    name.into()
}

impl Rotation {
    /// Copies the end of the file aside, as much as a file may have and one look more: the instance
    /// goes on writing to the same one, which is emptied then. It may have any length, at no cost to
    /// the instance: a hole takes no room where it is, and would take all of it in a copy.
    fn set_aside(&self, mut file: &File, len: u64) -> io::Result<()> {
        let Some(oldest) = self.bounds.keep.checked_sub(1) else { return Ok(()) };
        for age in (1..=oldest).rev() {
            match fs::rename(aged(&self.path, age), aged(&self.path, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let aside = aged(&self.path, 1);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(PRIVATE);
        let most = self.bounds.max_bytes.saturating_add(CHUNK as u64);
        let copied = options.open(&aside).and_then(|mut to| {
            file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
            io::copy(&mut file.take(most), &mut to)
        });
        if copied.is_err() {
            // A full disk: half a copy is of no use and in the way.
            fs::remove_file(&aside).ok();
        }
        copied.map(drop)
    }
}

/// What an instance writes, and how far it was read.
pub(super) struct Tail {
    service: ServiceName,
    file: File,
    rotation: Rotation,
    offset: u64,
    partial: Vec<u8>,
    pace: Pace,
    /// Its file is where it stays now.
    finished: bool,
}

impl Tail {
    pub(super) fn new(
        service: ServiceName,
        file: File,
        rotation: Rotation,
        offset: u64,
        now: Instant,
    ) -> Self {
        Self {
            service,
            file,
            rotation,
            offset,
            partial: Vec::new(),
            pace: Pace::new(now),
            finished: false,
        }
    }

    /// Logs what came since the last look, at most one chunk, and keeps the file within bounds.
    pub(super) fn advance(&mut self, id: InstanceId, now: Instant) {
        if self.finished {
            return;
        }
        let mut chunk = vec![0; CHUNK];
        let read = self.file.read_at(&mut chunk, self.offset).unwrap_or(0);
        self.offset += read as u64;
        self.partial.extend_from_slice(&chunk[..read]);
        let partial = std::mem::take(&mut self.partial);
        let mut rest = partial.as_slice();
        while let Some(line) = take_line(&mut rest) {
            self.log(id, line, now);
        }
        self.partial = rest.to_vec();
        self.bound(id, now);
        if let Some(dropped) = self.pace.due(now) {
            self.tell(id, dropped);
        }
    }

    /// Moves what is in the file aside once that is too much; the instance appends, so it goes on
    /// at the start.
    fn bound(&mut self, id: InstanceId, now: Instant) {
        let len = self.file.metadata().map_or(0, |meta| meta.len());
        if len <= self.rotation.bounds.max_bytes {
            return;
        }
        if let Err(error) = self.rotation.set_aside(&self.file, len) {
            tracing::warn!(
                service = %self.service, instance = %id, %error,
                "its output cannot be moved aside and is dropped; make room on the disk of `state_dir`"
            );
        }
        match self.file.set_len(0) {
            Ok(()) => {
                self.pace.skip(len.saturating_sub(self.offset), now);
                self.offset = 0;
            }
            Err(error) => {
                tracing::warn!(service = %self.service, instance = %id, %error, "cannot cut its output file");
            }
        }
    }

    /// Logs what is left, and what was left out.
    pub(super) fn finish(&mut self, id: InstanceId, now: Instant) {
        self.finished = true;
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.log(id, &rest, now);
        }
        if let Some(dropped) = self.pace.take() {
            self.tell(id, dropped);
        }
    }

    fn log(&mut self, id: InstanceId, line: &[u8], now: Instant) {
        if !self.pace.admit(line.len(), now) {
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        tracing::info!(target: "foreshadow::instance", service = %self.service, instance = %id, "{}", printable(line));
    }

    fn tell(&self, id: InstanceId, dropped: Dropped) {
        tracing::warn!(
            service = %self.service, instance = %id, lines = dropped.lines, bytes = dropped.bytes,
            "it writes more than is logged; lines were left out, and stand in logs/{id}.log of the \
             state directory, or in logs/{id}.log.1, until that is dropped"
        );
    }
}

/// Takes one line, or a piece of one that is too long, from the front.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().take(LINE).position(|byte| *byte == b'\n');
    let (line, skip) = match end {
        Some(end) => (end, end + 1),
        None if rest.len() >= LINE => (LINE, LINE),
        None => return None,
    };
    let line = &rest[..line];
    *rest = &rest[skip..];
    Some(line)
}

/// Text without control characters, which could forge log lines or drive a terminal. Consoles end
/// their lines with two.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(plain).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
#[path = "../../../tests/support/logged.rs"]
mod logged;

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::time::Duration;

    use tracing::Level;

    use super::logged::Logged;
    use super::*;

    fn tail(dir: &Path, text: &[u8]) -> Tail {
        let path = dir.join("i1.log");
        fs::write(&path, text).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let rotation = Rotation { path, bounds: OutputBounds { max_bytes: 4, keep: 2 } };
        Tail::new(ServiceName::from("shop"), file, rotation, 0, Instant::now())
    }

    #[test]
    fn a_flood_is_thinned_and_how_much_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let logged = Logged::new(|_| true);
        // 640 kB/s for ten seconds, in lines of 64 bytes.
        let flood = format!("{}\n", "x".repeat(63)).repeat(1_000);
        tracing::subscriber::with_default(logged.clone(), || {
            let mut tail = tail(dir.path(), b"");
            tail.rotation.bounds.max_bytes = 1 << 30;
            let mut writer =
                OpenOptions::new().append(true).open(dir.path().join("i1.log")).unwrap();
            for look in 0..100 {
                writer.write_all(flood.as_bytes()).unwrap();
                tail.advance(InstanceId(1), start + Duration::from_millis(100 * look));
            }
            tail.finish(InstanceId(1), start + Duration::from_secs(10));
        });
        let kept = logged.lines();
        let logged = kept.iter().filter(|(level, _)| *level == Level::INFO).count();
        assert!((1_400..=1_500).contains(&logged), "{logged}");
        let told: Vec<&String> =
            kept.iter().filter(|(level, _)| *level == Level::WARN).map(|(_, text)| text).collect();
        assert!((8..=11).contains(&told.len()), "{told:?}");
        let count = |text: &&String| -> usize {
            let lines = text.split("lines=").nth(1).unwrap();
            lines.split(';').next().unwrap().parse().unwrap()
        };
        let dropped: usize = told.iter().map(count).sum();
        assert_eq!(logged + dropped, 100_000, "every line is logged or counted");
    }

    #[test]
    fn lines_are_cut_at_the_bound_and_need_no_end() {
        let mut buffer = vec![b'x'; LINE + 5];
        buffer.extend(b"\nnext\nrest");
        let mut buffer = buffer.as_slice();
        assert_eq!(take_line(&mut buffer).unwrap().len(), LINE);
        assert_eq!(take_line(&mut buffer).unwrap(), b"xxxxx");
        assert_eq!(take_line(&mut buffer).unwrap(), b"next");
        assert_eq!(take_line(&mut buffer), None);
        assert_eq!(buffer, b"rest");
    }

    #[test]
    fn control_characters_and_invalid_text_become_harmless() {
        assert_eq!(printable(b"a\x1b[31m\xff\r"), "a\u{fffd}[31m\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_is_cut_unread_is_counted_and_empty_lines_are_too() {
        let dir = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut tail = tail(dir.path(), &vec![b'\n'; CHUNK + 100]);
        tail.advance(InstanceId(1), now);
        let dropped = tail.pace.take().unwrap();
        assert_eq!((dropped.lines, dropped.bytes), (CHUNK as u64 - 500, 100));
    }

    #[test]
    fn a_file_beyond_the_limit_is_moved_aside_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path(), b"one\ntwo\n");
        let mut writer = OpenOptions::new().append(true).open(dir.path().join("i1.log")).unwrap();
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        tail.advance(InstanceId(1), Instant::now());
        assert_eq!(tail.file.metadata().unwrap().len(), 0);
        assert_eq!(text("i1.log.1").unwrap(), "one\ntwo\n");
        writer.write_all(b"six").unwrap();
        tail.advance(InstanceId(1), Instant::now());
        assert_eq!((tail.offset, tail.partial.as_slice()), (3, b"six".as_slice()));
        for more in ["\nseven\n", "eight\n", "nine!\n"] {
            writer.write_all(more.as_bytes()).unwrap();
            tail.advance(InstanceId(1), Instant::now());
        }
        assert_eq!(text("i1.log.1").unwrap(), "nine!\n");
        assert_eq!(text("i1.log.2").unwrap(), "eight\n");
        assert_eq!(text("i1.log.3"), None);
    }

    #[test]
    fn of_a_file_of_any_length_only_as_much_as_one_may_have_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path(), b"one\ntwo\n");
        // As ftruncate(2) on its output, or a seek and a write, would make it.
        tail.file.set_len(256 << 20).unwrap();
        tail.file.write_all_at(b"end\n", 256 << 20).unwrap();
        tail.advance(InstanceId(1), Instant::now());
        assert_eq!(tail.file.metadata().unwrap().len(), 0);
        let aside = dir.path().join("i1.log.1");
        let kept = fs::read(&aside).unwrap();
        assert!(kept.len() == 4 + CHUNK && kept.ends_with(b"end\n"), "{}", kept.len());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&aside.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_moved_aside_is_dropped_so_that_the_file_stays_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = tail(dir.path(), b"one\ntwo\n");
        fs::create_dir(dir.path().join("i1.log.1")).unwrap();
        tail.advance(InstanceId(1), Instant::now());
        assert_eq!(tail.file.metadata().unwrap().len(), 0);
    }
}
