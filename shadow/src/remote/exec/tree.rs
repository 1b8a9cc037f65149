//! A command with everything it started that belongs to it, and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::unix::AsyncFd;

use super::turns::Turn;
use crate::error::ProviderError;
use crate::process::{procfs, signals};

/// Environment variable of a command and of what belongs to it: `<state directory>:<run>`.
pub(super) const MARK: &str = "FORESHADOW_COMMAND";
const KILL_ROUNDS: u32 = 400;
const KILL_POLL: Duration = Duration::from_millis(5);
/// Pause before what could not be killed is killed again.
const AGAIN: Duration = Duration::from_secs(1);

/// A command under way. Dropped, it is killed.
pub(super) struct Tree {
    leader: u32,
    pidfd: Arc<OwnedFd>,
    mark: String,
    /// Given back when nothing of it runs any more.
    turn: Option<Turn>,
    over: bool,
}

impl Tree {
    /// Starts a command; `open` opens a descriptor of a process. Blocks.
    pub(super) fn begin(
        mut command: Command,
        mark: String,
        turn: Turn,
        open: impl FnOnce(u32) -> Result<OwnedFd, ProviderError>,
    ) -> io::Result<(Self, Child)> {
        let mut child = command.spawn()?;
        // Not reaped before it is followed, so the pid is still its own.
        match open(child.id()) {
            Ok(pidfd) => {
                let (leader, pidfd, turn) = (child.id(), Arc::new(pidfd), Some(turn));
                Ok((Self { leader, pidfd, mark, turn, over: false }, child))
            }
            Err(error) => {
                signals::send_group(child.id(), Signal::KILL).map_err(io::Error::other)?;
                child.wait()?;
                Err(io::Error::other(error))
            }
        }
    }

    /// Readable once the command itself has ended.
    pub(super) fn watched(&self) -> Result<AsyncFd<Arc<OwnedFd>>, ProviderError> {
        signals::watched(Arc::clone(&self.pidfd), self.leader)
    }

    /// Kills what is left of it; returns how much was left beside the command itself, and how that
    /// ended. `thorough` looks at all processes, else at those begun since. Blocks.
    pub(super) fn end(
        mut self,
        thorough: bool,
    ) -> Result<(usize, Option<i32>, String), ProviderError> {
        self.over = true;
        let done = self.kill(thorough);
        if done.is_err() {
            self.end_later();
        }
        done
    }

    /// Kills it in a thread of its own, which keeps its turn until nothing of it runs.
    fn end_later(&mut self) {
        let (leader, pidfd) = (self.leader, Arc::clone(&self.pidfd));
        let (mark, turn) = (std::mem::take(&mut self.mark), self.turn.take());
        let tree = Self { leader, pidfd, mark, turn, over: true };
        let thread = std::thread::Builder::new().name("foreshadow-command".to_owned());
        let spawned = thread.spawn(move || {
            let mut failures = 0_u32;
            while let Err(error) = tree.kill(true) {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "a command that was called off may still run");
                }
                std::thread::sleep(AGAIN);
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a command that was called off may still run");
        }
    }

    fn kill(&self, thorough: bool) -> Result<(usize, Option<i32>, String), ProviderError> {
        let alive = procfs::stat(self.leader).is_some_and(|stat| stat.state != 'Z');
        if alive {
            signals::send(&self.pidfd, Signal::KILL)?;
        }
        let since = if thorough { None } else { Some(self.leader) };
        let left = end_marked_since(&self.mark, since)?;
        // The leader has not been reaped, so its number still means its group.
        signals::send_group(self.leader, Signal::KILL)?;
        for _ in 0..KILL_ROUNDS {
            if let Some((code, how)) = signals::take_status(&self.pidfd) {
                return Ok((left.saturating_sub(usize::from(alive && thorough)), code, how));
            }
            std::thread::sleep(KILL_POLL);
        }
        let waited_ms = u64::try_from((KILL_POLL * KILL_ROUNDS).as_millis()).unwrap_or(u64::MAX);
        let subject = format!("command with process {}", self.leader);
        Err(ProviderError::Timeout { operation: "kill", subject, waited_ms })
    }
}

impl Drop for Tree {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        if !self.over {
            self.end_later();
        }
    }
}

/// Kills processes whose mark begins so, until none is found; returns how many there were.
pub(super) fn end_marked(mark: &str) -> Result<usize, ProviderError> {
    end_marked_since(mark, None)
}

fn end_marked_since(mark: &str, since: Option<u32>) -> Result<usize, ProviderError> {
    let is_it = |pid: u32| procfs::variable(pid, MARK).is_some_and(|value| value.starts_with(mark));
    let mut ended = 0;
    for round in 0..KILL_ROUNDS {
        let range = Begun::since(since, procfs::last_pid());
        let found: Vec<u32> = match range {
            Begun::Nothing => Vec::new(),
            _ => procfs::pids().filter(|pid| range.has(*pid) && is_it(*pid)).collect(),
        };
        if found.is_empty() {
            return Ok(ended);
        }
        for pid in found {
            let killed = signals::kill_if(pid, || is_it(pid))?;
            ended += usize::from(killed && round == 0);
        }
        std::thread::sleep(KILL_POLL);
    }
    let waited_ms = u64::try_from((KILL_POLL * KILL_ROUNDS).as_millis()).unwrap_or(u64::MAX);
    let subject = "processes of a provider's command".to_owned();
    Err(ProviderError::Timeout { operation: "kill", subject, waited_ms })
}

/// Processes that can have been begun since another was: ids are given out in ascending order, and
/// from the start again after the last. Reading the environment of all processes of a machine, for
/// each command, would cost more than the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Nothing,
    Above(u32),
    Anything,
}

impl Begun {
    fn since(leader: Option<u32>, last: Option<u32>) -> Self {
        match (leader, last) {
            (Some(leader), Some(last)) if last == leader => Self::Nothing,
            (Some(leader), Some(last)) if last > leader => Self::Above(leader),
            _ => Self::Anything,
        }
    }

    fn has(self, pid: u32) -> bool {
        match self {
            Self::Nothing => false,
            Self::Above(leader) => pid > leader,
            Self::Anything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::super::turns::Turns;
    use super::*;

    #[test]
    fn only_what_can_be_of_a_command_is_looked_at() {
        assert_eq!(Begun::since(Some(70), Some(70)), Begun::Nothing);
        let above = Begun::since(Some(70), Some(90));
        assert!(above.has(71) && !above.has(70) && !above.has(3));
        for (leader, last) in [(Some(70), Some(9)), (Some(70), None), (None, Some(90))] {
            assert!(Begun::since(leader, last).has(3), "they have gone round, or nobody knows");
        }
        let child = Command::new("true").spawn().unwrap();
        assert!(procfs::last_pid().is_some());
        child.wait_with_output().unwrap();
    }

    #[tokio::test]
    async fn what_may_still_run_keeps_its_turn() {
        let turns = Turns::new();
        let turn = turns.take(Some("i1"), Duration::from_secs(1)).await;
        // Of a process that is another's child nobody here ever learns that it has ended.
        let sh = Command::new("sh")
            .args(["-c", "sleep 1000 > /dev/null 2>&1 & echo $!"])
            .process_group(0)
            .output();
        let leader = String::from_utf8(sh.unwrap().stdout).unwrap().trim().parse().unwrap();
        let pidfd = Arc::new(signals::open(leader).unwrap());
        let mark = "no such mark".to_owned();
        let error = Tree { leader, pidfd, mark, turn, over: false }.end(true).unwrap_err();
        assert!(error.to_string().contains("not done after"), "{error}");
        assert!(turns.take(Some("i1"), Duration::from_millis(50)).await.is_none());
        assert!(turns.take(Some("i2"), Duration::from_secs(1)).await.is_some());
    }

    #[tokio::test]
    async fn a_command_that_cannot_be_followed_is_ended_at_once() {
        let turn = Turns::new().take(None, Duration::from_secs(1)).await.unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0);
        let mut begun = 0;
        let refused = |pid| {
            begun = pid;
            Err(ProviderError::Other("too many open files".to_owned()))
        };
        let error = Tree::begin(command, String::new(), turn, refused).err().unwrap();
        assert!(error.to_string().contains("too many open files"), "{error}");
        assert!(begun > 0 && procfs::stat(begun).is_none(), "it is left, or was not reaped");
    }
}
