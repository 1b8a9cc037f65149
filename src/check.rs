//! `foreshadow check`: is this configuration good?

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `foreshadow check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration: YAML, TOML or JSON, by its extension.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the configuration in force, defaults included, as YAML. A token is masked; everything
    /// else is shown as it is, also what came out of `${VAR}`.
    #[arg(long)]
    print: bool,
}

/// Checks the file, and the networks that it names, and says what it found.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match foreshadow_config::load(&args.file) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(std::io::stderr(), "{errors}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let bad = config.services.iter().filter_map(|(name, service)| {
        let file = service.forecast.onnx.as_deref()?;
        // A running node leaves it out of its forecasts.
        let why = crate::node::read_network(file).err()?;
        Some(format!("service {name}: forecast.onnx: {}: {why}", file.display()))
    });
    let bad: Vec<String> = bad.collect();
    if !bad.is_empty() {
        writeln!(std::io::stderr(), "{}", bad.join("\n"))?;
        return Ok(ExitCode::FAILURE);
    }
    for warning in config.warnings().into_iter().chain(config.exposed()) {
        writeln!(std::io::stderr(), "warning: {warning}")?;
    }
    let mut out = crate::out::stdout();
    if args.print {
        write!(out, "{}", config.to_yaml()?)?;
    } else {
        let listeners = counted(config.listeners.len(), "listener");
        let services = counted(config.services.len(), "service");
        writeln!(out, "{}: good: {listeners}, {services}", args.file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
