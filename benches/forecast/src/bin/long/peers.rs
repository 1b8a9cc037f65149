//! Runs the Python libraries on the same windows, in an environment of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::score::{LEVELS, Quantiles};
use crate::windows::Window;

/// Installs what is missing and runs the comparison.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/run.sh");
/// Seconds the libraries may take together; what is not answered by then is left out for all.
const BUDGET_VARIABLE: &str = "FORESHADOW_PEERS_SECONDS";
const BUDGET_S: &str = "420";

/// One line of what the script writes.
#[derive(Deserialize)]
struct Line {
    id: usize,
    model: String,
    #[serde(default)]
    quantiles: Quantiles,
    #[serde(default)]
    ms: f64,
    #[serde(default)]
    error: Option<String>,
}

/// One forecast of one model.
pub(crate) struct Answer {
    pub(crate) id: usize,
    pub(crate) model: String,
    pub(crate) quantiles: Quantiles,
    pub(crate) ms: f64,
}

/// What came of the comparison.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Answer>,
    /// Windows that every model was asked about; none without peers.
    asked: Option<BTreeSet<usize>>,
    /// Packages that could not be installed, with the reason.
    pub(crate) missing: Vec<String>,
    /// Forecasts that failed, by model and reason.
    pub(crate) failed: BTreeMap<String, usize>,
}

impl Outcome {
    /// Whether the window counts.
    pub(crate) fn answered(&self, id: usize) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.contains(&id))
    }

    /// How many windows were used of how many.
    pub(crate) fn note(&self, of: usize) -> Value {
        let used = self.asked.as_ref().map_or(of, BTreeSet::len);
        json!({"used": used, "of": of, "why_not_all": (used < of).then_some("the time for the peers ran out; every model is scored on the same windows")})
    }
}

/// Asks every library about every window, as far as time goes.
///
/// # Errors
///
/// Fails when the windows cannot be written or the script does not run to its end.
pub(crate) fn run(windows: &[Window]) -> Result<Outcome, Box<dyn std::error::Error>> {
    let scratch = env::temp_dir().join(format!("foreshadow-peers-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let outcome = ask(windows, &scratch);
    fs::remove_dir_all(&scratch)?;
    outcome
}

fn ask(windows: &[Window], scratch: &Path) -> Result<Outcome, Box<dyn std::error::Error>> {
    let [questions, answers, missing] =
        ["windows.jsonl", "answers.jsonl", "missing.txt"].map(|name| scratch.join(name));
    write(windows, &questions)?;
    let budget = env::var(BUDGET_VARIABLE).unwrap_or_else(|_| BUDGET_S.to_owned());
    let status =
        Command::new(SCRIPT).args([&questions, &answers, &missing]).arg(budget).status()?;
    if !status.success() {
        return Err(format!("{SCRIPT} ended with {status}; --no-peers runs without it").into());
    }
    let mut outcome = Outcome {
        missing: fs::read_to_string(missing)?.lines().map(str::to_owned).collect(),
        ..Outcome::default()
    };
    let mut asked = BTreeSet::new();
    for line in fs::read_to_string(answers)?.lines() {
        let line: Line = serde_json::from_str(line)?;
        asked.insert(line.id);
        if line.error.is_none() && line.quantiles.len() == LEVELS.len() {
            let Line { id, model, quantiles, ms, .. } = line;
            outcome.answers.push(Answer { id, model, quantiles, ms });
        } else {
            let why = line.error.unwrap_or_else(|| "wrong number of quantiles".to_owned());
            *outcome.failed.entry(format!("{}: {why}", line.model)).or_default() += 1;
        }
    }
    outcome.asked = Some(asked);
    Ok(outcome)
}

fn write(windows: &[Window], path: &PathBuf) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(path)?);
    for window in windows {
        serde_json::to_writer(&mut file, window)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}
