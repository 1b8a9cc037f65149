//! `foreshadow run`: serve until told to end.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use foreshadow_config::{Config, LogFormat as ConfiguredFormat};

use crate::logging::{self, LogFormat};
use crate::node::Node;

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

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the configuration is bad or the node cannot start.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = foreshadow_config::load(&args.config).map_err(|errors| {
        anyhow::anyhow!("{} is not good; nothing was started\n{errors}", args.config.display())
    })?;
    logging::start(args.log_format.unwrap_or_else(|| format(&config)), config.log.level.as_str())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(async {
        let node = Node::start(config, args.config.clone()).await?;
        node.serve().await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn format(config: &Config) -> LogFormat {
    match config.log.format {
        ConfiguredFormat::Auto => LogFormat::Auto,
        ConfiguredFormat::Text => LogFormat::Text,
        ConfiguredFormat::Json => LogFormat::Json,
    }
}
