//! Networks that take part in fits: each is read once until its file changes, and asked on a thread of
//! its own, so that one that takes long is waited for no longer than a fit may wait.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use foreshadow_predictor::long::Extra;
use serde::Serialize;

/// A network that can be asked.
pub(crate) type Network = Arc<dyn Extra + Send + Sync>;

/// Time that reading a network may take, and the answers of one fit together.
const READING: Duration = Duration::from_secs(20);
const ANSWERING: Duration = Duration::from_secs(2);
/// One that took longer is not asked for so long, unless its file changes.
const SITS_OUT: Duration = Duration::from_secs(3_600);

/// What became of the network of a curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// The largest weight it has at any distance, 0 to 1, by what it got right.
    Weight(f64),
    /// Why it took no part.
    Failed(String),
}

/// What tells one state of a file from another: its length and when it was changed.
type Version = (u64, Option<SystemTime>);

/// What was read, by file.
#[derive(Default)]
pub(super) struct Networks {
    read: BTreeMap<PathBuf, (Version, Result<Network, String>)>,
    /// Until when those that took too long are not asked.
    sit_out: BTreeMap<PathBuf, Instant>,
    /// What was said last of each, so that it is said once.
    said: BTreeMap<PathBuf, String>,
    aside: Aside,
}

impl Networks {
    /// The network in `file`, to be asked within one fit.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(super) fn of(&mut self, file: &Path, now: Instant) -> Result<Patient<'_>, String> {
        let known = std::fs::metadata(file);
        let version =
            known.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
        if self.read.get(file).is_none_or(|(of, _)| *of != version) {
            self.sit_out.remove(file);
            let path = file.to_owned();
            let read = match self.aside.within(READING, move || read(&path)) {
                Ok(read) => read,
                Err(Late::TooLong) => {
                    let most_s = READING.as_secs();
                    Err(format!("reading it took longer than {most_s} s; make it smaller"))
                }
                // No attempt was made, which is tried again with the next fit.
                Err(why) => return Err(late(why)),
            };
            self.read.insert(file.to_owned(), (version, read));
        }
        if self.sit_out.get(file).is_some_and(|until| *until > now) {
            return Err(late(Late::TooLong));
        }
        self.sit_out.remove(file);
        let network = self.read.get(file).map(|(_, read)| read.clone());
        let network = network.unwrap_or_else(|| Err("it was not read".to_owned()))?;
        let left = Cell::new(ANSWERING);
        Ok(Patient { network, aside: &self.aside, left, is_late: Cell::new(false) })
    }

    /// Takes note of what became of the network in `file`, and says so where that is news.
    pub(super) fn note(&mut self, file: &Path, part: &Part, is_late: bool, now: Instant) {
        if is_late {
            self.sit_out.insert(file.to_owned(), now + SITS_OUT);
        }
        let shown = file.display();
        match part {
            Part::Failed(why) if self.said.get(file) != Some(why) => {
                tracing::warn!(file = %shown, "a network takes no part in forecasts: {why}");
                self.said.insert(file.to_owned(), why.clone());
            }
            Part::Failed(_) => {}
            Part::Weight(_) => {
                if self.said.remove(file).is_some() {
                    tracing::info!(file = %shown, "the network takes part in forecasts again");
                }
            }
        }
    }

    /// Forgets files that no service names any more.
    pub(super) fn retain(&mut self, is_named: impl Fn(&Path) -> bool) {
        self.read.retain(|file, _| is_named(file));
        self.sit_out.retain(|file, _| is_named(file));
        self.said.retain(|file, _| is_named(file));
    }
}

/// A network that is waited for as long as one fit may, all its answers together.
pub(super) struct Patient<'a> {
    network: Network,
    aside: &'a Aside,
    left: Cell<Duration>,
    is_late: Cell<bool>,
}

impl Patient<'_> {
    /// Whether it took longer than it may.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.get()
    }
}

impl Extra for Patient<'_> {
    fn ahead(&self, past: &[f64]) -> Result<Vec<f64>, String> {
        let (network, past) = (Arc::clone(&self.network), past.to_vec());
        let begun = Instant::now();
        let answer = self.aside.within(self.left.get(), move || network.ahead(&past));
        self.left.set(self.left.get().saturating_sub(begun.elapsed()));
        answer.unwrap_or_else(|why| {
            self.is_late.set(matches!(why, Late::TooLong));
            Err(late(why))
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// It was waited for in vain.
    TooLong,
    /// What was waited for in vain before is still at work.
    Busy,
    /// It panicked.
    Panicked,
    /// The machine gives no thread.
    NoThread,
}

fn late(why: Late) -> String {
    match why {
        Late::TooLong => format!(
            "the answers for one fit took longer than {} s; it is asked again in an hour, or when its \
             file changes: make it smaller",
            ANSWERING.as_secs()
        ),
        Late::Busy => "a network that took too long is still at work".to_owned(),
        Late::Panicked => "it panicked; please report this".to_owned(),
        Late::NoThread => "there is no thread to ask it on".to_owned(),
    }
}

/// Work on other threads: at most one of them is ever left behind.
#[derive(Default)]
struct Aside {
    left_behind: RefCell<Option<JoinHandle<()>>>,
}

impl Aside {
    /// What `work` comes to, if that is known in time.
    fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        self.left_behind.borrow_mut().take_if(|thread| thread.is_finished());
        if self.left_behind.borrow().is_some() {
            return Err(Late::Busy);
        }
        let (answer, answered) = sync_channel(1);
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(move || {
            // Nobody waits any more: what it came to is of no use.
            answer.send(work()).ok();
        });
        let thread = thread.map_err(|_| Late::NoThread)?;
        match answered.recv_timeout(patience) {
            Ok(done) => Ok(done),
            // It panicked, which the reader of networks turns into errors where it can.
            Err(RecvTimeoutError::Disconnected) => Err(Late::Panicked),
            Err(RecvTimeoutError::Timeout) => {
                *self.left_behind.borrow_mut() = Some(thread);
                Err(Late::TooLong)
            }
        }
    }
}

/// Reads the network in `file`.
///
/// # Errors
/// What is wrong with the file.
#[cfg(feature = "onnx")]
pub(crate) fn read(file: &Path) -> Result<Network, String> {
    use foreshadow_predictor::onnx::OnnxExpert;

    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let bytes = foreshadow_config::file::read_whole(file, OnnxExpert::MAX_BYTES as u64)
        .map_err(unreadable)?;
    let expert = OnnxExpert::read(&bytes).map_err(|error| error.to_string())?;
    Ok(Arc::new(expert))
}

/// Says that this build cannot.
///
/// # Errors
/// Always.
#[cfg(not(feature = "onnx"))]
pub(crate) fn read(_file: &Path) -> Result<Network, String> {
    Err("this build cannot run one; build with `cargo build --release --features onnx`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender};

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.onnx");
        (dir, file)
    }

    #[test]
    fn what_cannot_be_read_takes_no_part_and_is_looked_at_again_when_it_changes() {
        let (_dir, file) = file();
        let mut networks = Networks::default();
        let now = Instant::now();
        let why = networks.of(&file, now).err().unwrap();
        networks.note(&file, &Part::Failed(why.clone()), false, now);
        assert_eq!(networks.said[&file], why);
        std::fs::write(&file, b"no network").unwrap();
        assert!(networks.of(&file, now).is_err());
        assert_eq!(networks.read[&file].0.0, 10);
        networks.note(&file, &Part::Weight(0.1), false, now);
        assert!(networks.said.is_empty());
        networks.retain(|_| false);
        assert!(networks.read.is_empty());
    }

    /// Answers when it is let.
    struct Gate(Mutex<Receiver<()>>);

    impl Extra for Gate {
        fn ahead(&self, past: &[f64]) -> Result<Vec<f64>, String> {
            self.0.lock().unwrap().recv().map_err(|error| error.to_string())?;
            Ok(past.to_vec())
        }
    }

    fn gated(file: &Path) -> (Networks, SyncSender<()>) {
        let (open, gate) = sync_channel(8);
        let mut networks = Networks::default();
        let gate: Network = Arc::new(Gate(Mutex::new(gate)));
        networks.read.insert(file.to_owned(), ((0, None), Ok(gate)));
        (networks, open)
    }

    #[test]
    fn a_network_that_hangs_holds_a_fit_up_once_and_is_left_alone_for_an_hour() {
        let (_dir, file) = file();
        let (mut networks, open) = gated(&file);
        let now = Instant::now();
        open.send(()).unwrap();
        let patient = networks.of(&file, now).unwrap();
        assert_eq!(patient.ahead(&[3.0]), Ok(vec![3.0]));
        // The time that is left is spent: nothing was let through.
        patient.left.set(Duration::from_millis(1));
        let why = patient.ahead(&[3.0]).unwrap_err();
        assert!(why.contains("longer than 2 s") && patient.is_late(), "{why}");
        patient.left.set(ANSWERING);
        assert!(patient.ahead(&[3.0]).unwrap_err().contains("still at work"));
        networks.note(&file, &Part::Failed(why), true, now);
        assert!(networks.of(&file, now + SITS_OUT / 2).is_err());
        // Let go, it is asked again when the hour is over.
        drop(open);
        let left_behind = networks.aside.left_behind.borrow_mut().take();
        left_behind.unwrap().join().unwrap();
        let patient = networks.of(&file, now + SITS_OUT).unwrap();
        assert!(patient.ahead(&[3.0]).unwrap_err().contains("closed"));
        assert!(!patient.is_late());
    }
}
