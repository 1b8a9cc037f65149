//! Networks that take part in fits, each read once until its file changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foreshadow_predictor::long::Extra;

/// A network that can be asked.
pub(super) type Network = Arc<dyn Extra + Send + Sync>;

/// What tells one state of a file from another: its length and when it was changed.
type Version = (u64, Option<SystemTime>);

/// What was read, by file.
#[derive(Default)]
pub(super) struct Networks {
    read: BTreeMap<PathBuf, (Version, Option<Network>)>,
    /// What was said last of each, so that it is said once.
    said: BTreeMap<PathBuf, String>,
}

impl Networks {
    /// The network in `file`; none where it cannot be used, which is logged.
    pub(super) fn of(&mut self, file: &Path) -> Option<Network> {
        let known = std::fs::metadata(file);
        let version =
            known.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
        if let Some((of, network)) = self.read.get(file)
            && *of == version
        {
            return network.clone();
        }
        let network = match read(file, version.0) {
            Ok(network) => {
                self.said.remove(file);
                Some(network)
            }
            Err(why) => {
                self.complain(file, &why);
                None
            }
        };
        self.read.insert(file.to_owned(), (version, network.clone()));
        network
    }

    /// Says why a network takes no part, if that is news.
    pub(super) fn complain(&mut self, file: &Path, why: &str) {
        if self.said.get(file).is_none_or(|said| said != why) {
            tracing::warn!(file = %file.display(), "a network takes no part in forecasts: {why}");
            self.said.insert(file.to_owned(), why.to_owned());
        }
    }
}

#[cfg(feature = "onnx")]
fn read(file: &Path, bytes: u64) -> Result<Network, String> {
    use foreshadow_predictor::onnx::OnnxExpert;

    if bytes > OnnxExpert::MAX_BYTES as u64 {
        let most = OnnxExpert::MAX_BYTES;
        return Err(format!("it has {bytes} bytes, more than {most}; export it smaller"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let expert = OnnxExpert::read(&bytes).map_err(|error| error.to_string())?;
    Ok(Arc::new(expert))
}

#[cfg(not(feature = "onnx"))]
fn read(_file: &Path, _bytes: u64) -> Result<Network, String> {
    Err("this build cannot run one; build with `cargo build --release --features onnx`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_takes_no_part_and_is_looked_at_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.onnx");
        let mut networks = Networks::default();
        assert!(networks.of(&file).is_none());
        std::fs::write(&file, b"no network").unwrap();
        assert!(networks.of(&file).is_none());
        assert_eq!(networks.read[&file].0.0, 10);
        assert!(!networks.said[&file].is_empty());
    }
}
