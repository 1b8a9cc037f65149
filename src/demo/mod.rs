//! `foreshadow demo`: a real load against real processes, watched from outside.
//!
//! The demo is an outside operator. It starts backends and a node as processes of their own, and
//! judges by the admin interface, the load generator's measurements and the decision records.

mod acts;
mod api;
mod figures;
mod plain;
mod report;
mod scene;
mod screen;
mod script;
mod verdict;
mod view;
mod watch;

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use foreshadow_control::Mode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;

use acts::{Take, play};
use figures::Figures;
use report::Report;
pub(crate) use scene::end_with_demo;
use scene::{Scene, Stage};
use script::Script;
use view::Display;

/// Arguments of `foreshadow demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write figures, verdict and raw event stamps as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave backends, node and shadows running at the end, and say where they are.
    #[arg(long)]
    keep: bool,
    /// One line per second instead of the live view, as without a terminal.
    #[arg(long)]
    plain: bool,
    /// Make shadows as containers of the Docker Engine there (unix:///PATH), which has the image and the
    /// network of scripts/with-docker.sh.
    #[arg(long, value_name = "ENDPOINT")]
    docker: Option<String>,
    /// Leave out the comparison with mode `observe`; then the exit code cannot be 0.
    #[arg(long)]
    fast: bool,
}

/// Plays the script in both modes, prints what came of it, and judges.
///
/// # Errors
/// When something cannot be started or written, or the user interrupts.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Made before the run: a path that cannot be written must not cost three minutes.
    let json = match &args.json {
        Some(path) => {
            Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let script = Script::new()?;
    let dir = tempfile::Builder::new().prefix("foreshadow-demo-").tempdir()?;
    let plain = args.plain || !std::io::stdout().is_terminal();
    let stage = Stage { dir: dir.path(), docker: args.docker.as_deref() };
    let played = runtime.block_on(perform(args, &script, &stage, plain));
    let Played { act, observe, kept } = match played {
        Ok(played) => played,
        Err(error) => {
            let kept = dir.keep();
            return Err(error.context(format!("logs are in {}", kept.display())));
        }
    };
    let act = (Figures::of(&act, &script), act);
    let observe = observe.map(|take| (Figures::of(&take, &script), take));
    let verdict = verdict::judge(&act, observe.as_ref());
    let report = Report::new(&script, act, observe, verdict);
    report.print()?;
    if let Some(file) = json {
        report.write_json(file)?;
    }
    if let Some(scene) = kept {
        report::print_kept(scene, &dir.keep())?;
    } else if !report.passed() {
        report::print_logs(&dir.keep())?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Played {
    act: Take,
    observe: Option<Take>,
    kept: Option<Scene>,
}

async fn perform(
    args: &Args,
    script: &Script,
    stage: &Stage<'_>,
    plain: bool,
) -> anyhow::Result<Played> {
    let stop = stopped()?;
    let runs = if args.fast { 1 } else { 2 };
    let mut display = Display::open(plain, runs)?;
    // What is kept is the node that acts, so with --keep it comes last.
    let first = if args.keep && !args.fast { Mode::Observe } else { Mode::Act };
    let (one, kept) =
        play(first, script, stage, &mut display, stop.clone(), args.keep && args.fast).await?;
    if args.fast {
        return Ok(Played { act: one, observe: None, kept });
    }
    display.next_run();
    if first == Mode::Act {
        let (two, _) = play(Mode::Observe, script, stage, &mut display, stop, false).await?;
        return Ok(Played { act: one, observe: Some(two), kept: None });
    }
    let (two, kept) = play(Mode::Act, script, stage, &mut display, stop, true).await?;
    Ok(Played { act: two, observe: Some(one), kept })
}

/// Turns true at SIGINT, SIGTERM or SIGHUP.
fn stopped() -> anyhow::Result<channel::Receiver<bool>> {
    let (tell, stop) = channel::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        tell.send_replace(true);
        // Receivers see an error once the sender is gone; it stays for as long as they ask.
        tell.closed().await;
    });
    Ok(stop)
}
