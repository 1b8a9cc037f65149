//! Logs by `tracing`: text on a terminal, JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::secrets::CoveredStderr;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// Starts logging to standard error. `level` is overridden by `FORESHADOW_LOG`, which takes the
/// directives of `tracing-subscriber`, such as `info,foreshadow_proxy=debug`.
///
/// # Errors
/// When the filter cannot be parsed or logging was started before.
pub(crate) fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let directives = std::env::var("FORESHADOW_LOG").unwrap_or_else(|_| {
        // The engine logs each broken client connection as an error of its own; ours say it better.
        // And rules of calendars that are searched in vain are said with their file and line.
        format!("{level},pingora_core=error,pingora_proxy=off,hyper=warn,rrule=off")
    });
    let filter = EnvFilter::try_new(&directives)
        .map_err(|e| anyhow::anyhow!("the log filter {directives:?} cannot be read: {e}"))?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(CoveredStderr::default);
    let started = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    };
    started.map_err(|e| anyhow::anyhow!("logging cannot be started: {e}"))
}
