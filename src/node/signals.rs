//! The signals that a node heeds, from before it reads its configuration until it has ended.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Signals that are heeded instead of ending the process. What comes while the node starts is
/// kept until it can be acted on.
pub(crate) struct Signals {
    /// To read the configuration again.
    pub(crate) hangup: Signal,
    /// To end.
    pub(crate) ends: Ends,
}

/// How often the process was told to end.
#[derive(Clone)]
pub(crate) struct Ends(watch::Receiver<u32>);

impl Signals {
    /// Heeds SIGHUP, SIGTERM and SIGINT from now on. A third one to end ends the process at once,
    /// whatever it is at.
    ///
    /// # Errors
    /// When they cannot be received.
    pub(crate) fn heed() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("cannot receive signals");
        let hangup = of(SignalKind::hangup())?;
        let (terminate, interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
        let (told, times) = watch::channel(0);
        tokio::spawn(count(terminate, interrupt, told));
        Ok(Self { hangup, ends: Ends(times) })
    }
}

impl Ends {
    /// Waits until the process was told to end so many times.
    pub(crate) async fn told(&mut self, times: u32) {
        if self.0.wait_for(|told| *told >= times).await.is_err() {
            // Nobody counts any more: the runtime ends, and this with it.
            std::future::pending::<()>().await;
        }
    }
}

async fn count(mut terminate: Signal, mut interrupt: Signal, told: watch::Sender<u32>) {
    for times in 1.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if times > 2 {
            tracing::error!("told a third time to end: left at once; shadows may go on running");
            std::process::exit(1);
        }
        told.send_replace(times);
    }
}
