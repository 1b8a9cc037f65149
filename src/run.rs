//! `foreshadow run`: serve until told to end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use foreshadow_config::{Config, LogFormat as ConfiguredFormat};
use tokio::runtime::Runtime;

use crate::logging::{self, LogFormat};
use crate::node::signals::Signals;
use crate::node::{Node, file, limits};
use crate::secrets;

/// Arguments of `foreshadow run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration: YAML, TOML or JSON, by its extension.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Form of the log, in place of the configured one.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

/// Time that threads have to end once the node has: one may hang with a file system.
const THREADS_END: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the configuration is bad or the node cannot start.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    to_its_end(runtime, serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    // Before anything else: until they are heeded, signals end the process.
    let mut signals = Signals::heed()?;
    let path = args.config.clone();
    let loading = tokio::task::spawn_blocking(move || file::read(&path, None));
    let read = tokio::select! {
        read = loading => read?,
        () = signals.ends.told(1) => return Ok(()),
    };
    let config = read.config.context("the configuration was not read; please report this")?;
    let config = config.map_err(|errors| {
        anyhow::anyhow!("{} is not good; nothing was started\n{errors}", args.config.display())
    })?;
    secrets::learn(&config);
    logging::start(args.log_format.unwrap_or_else(|| format(&config)), config.log.level.as_str())?;
    limits::raise_open_files();
    let file = (args.config.clone(), read.fingerprint);
    let node = Node::start(config, file, signals.hangup).await?;
    node.serve(signals.ends).await
}

/// Does `work`, and waits no longer for what hangs in threads of `runtime` than they are given.
fn to_its_end<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(THREADS_END);
    done
}

fn format(config: &Config) -> LogFormat {
    match config.log.format {
        ConfiguredFormat::Auto => LogFormat::Auto,
        ConfiguredFormat::Text => LogFormat::Text,
        ConfiguredFormat::Json => LogFormat::Json,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_keep_the_process() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (began, begun) = std::sync::mpsc::channel();
        let done = to_its_end(runtime, async move {
            tokio::task::spawn_blocking(move || {
                began.send(()).expect("somebody waits for it");
                held.recv().ok();
            });
            7
        });
        assert_eq!(done, 7);
        begun.recv().unwrap();
        drop(release);
    }
}
