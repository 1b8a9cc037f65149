//! What is on disk of the drill under way: the next start tells of one that was cut short.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::report::{Report, Stage, Verdict};

/// The file in the state directory.
const FILE: &str = "drill.json";
/// More than any report before its fault is.
const MOST_BYTES: u64 = 1 << 20;

/// Where it is kept; a handle.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn at(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Writes a drill down, before its fault. Blocks until that outlasts a loss of power.
    pub(super) fn write(&self, report: &Report) -> io::Result<()> {
        let new = self.0.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(report)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }

    /// Forgets it, whether or not there is one.
    pub(super) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The drill that an earlier run did not bring to its end, as it is told now.
    pub(super) fn cut_short(&self) -> io::Result<Option<Report>> {
        let bytes = match fs::metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?.len(),
        };
        if bytes > MOST_BYTES {
            return Err(io::Error::other(format!("{bytes} bytes, which no report of a drill has")));
        }
        let mut report: Report = serde_json::from_slice(&fs::read(&self.0)?)?;
        (report.stage, report.verdict) = (Stage::Done, Some(Verdict::CutShort));
        let note = "the node ended in the middle of it: what it hurt is put right by this start";
        report.called_off = Some(note.to_owned());
        Ok(Some(report))
    }
}
