//! `foreshadow schema`: the JSON Schema of the configuration.

use std::io::Write;
use std::process::ExitCode;

/// Prints the schema.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &foreshadow_config::json_schema())?;
    writeln!(out)?;
    Ok(ExitCode::SUCCESS)
}
