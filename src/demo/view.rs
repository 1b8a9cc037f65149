//! What is shown while a run goes on, and where.

use std::net::SocketAddr;
use std::time::Duration;

use foreshadow_control::Mode;
use foreshadow_testbed::load::{SecondStats, Totals};

use super::api::Decision;
use super::plain::Plain;
use super::screen::Screen;
use super::script::Script;
use super::watch::Sample;

/// Processes take about this long to start and stop around a run.
const AROUND_A_RUN: Duration = Duration::from_secs(7);

/// A run as it stands.
#[derive(Debug)]
pub(super) struct Live<'a> {
    pub(super) mode: Mode,
    pub(super) script: &'a Script,
    pub(super) elapsed: Duration,
    pub(super) samples: &'a [Sample],
    pub(super) decisions: &'a [Decision],
    pub(super) seconds: &'a [SecondStats],
    pub(super) totals: &'a Totals,
    pub(super) primaries: &'a [(String, SocketAddr)],
}

impl Live<'_> {
    /// The last second whose requests mostly have their outcome.
    pub(super) fn last_second(&self) -> Option<&SecondStats> {
        self.seconds.len().checked_sub(2).and_then(|at| self.seconds.get(at))
    }
}

/// A terminal or a plain stream of lines.
#[derive(Debug)]
pub(super) struct Display {
    out: Out,
    runs_left: u32,
}

#[derive(Debug)]
enum Out {
    Plain(Plain),
    Screen(Box<Screen>),
}

impl Display {
    /// Takes the terminal, or not.
    ///
    /// # Errors
    /// When the terminal cannot be set up.
    pub(super) fn open(plain: bool, runs: u32) -> anyhow::Result<Self> {
        let out = if plain {
            Out::Plain(Plain::default())
        } else {
            Out::Screen(Box::new(Screen::open()?))
        };
        Ok(Self { out, runs_left: runs })
    }

    /// One run is over.
    pub(super) fn next_run(&mut self) {
        self.runs_left = self.runs_left.saturating_sub(1);
        if let Out::Plain(plain) = &mut self.out {
            *plain = Plain::default();
        }
    }

    /// Shows the run as it stands.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub(super) fn show(&mut self, live: &Live<'_>) -> anyhow::Result<()> {
        let run = live.script.profile.duration();
        let further = (run + AROUND_A_RUN) * self.runs_left.saturating_sub(1);
        let left = run.saturating_sub(live.elapsed) + further;
        match &mut self.out {
            Out::Plain(plain) => plain.show(live),
            Out::Screen(screen) => screen.show(live, left),
        }
    }

    /// Whether q, Escape or Ctrl-C was pressed.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub(super) fn wants_to_quit(&self) -> anyhow::Result<bool> {
        match &self.out {
            Out::Plain(_) => Ok(false),
            Out::Screen(screen) => screen.wants_to_quit(),
        }
    }
}
