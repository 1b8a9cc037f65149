//! Who works off what the registry is asked: one job after the other, away from those who ask.

use std::path::PathBuf;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error::ShadowError;
use crate::registry::connect;

pub(crate) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The jobs of a registry, for whoever works them off one after the other.
pub(crate) struct Clerk {
    pub(crate) file: PathBuf,
    pub(crate) queue: mpsc::Receiver<Job>,
    pub(crate) opened: oneshot::Sender<Result<(), ShadowError>>,
}

impl Clerk {
    /// Opens the database and says whether that worked; nothing is to be done where it did not.
    pub(crate) fn open(self) -> Option<(Connection, mpsc::Receiver<Job>)> {
        let (opened, connection) = match connect(&self.file) {
            Ok(connection) => (Ok(()), Some(connection)),
            Err(error) => (Err(error), None),
        };
        if self.opened.send(opened).is_err() {
            tracing::debug!("nobody waits for the registry any more");
            return None;
        }
        connection.map(|connection| (connection, self.queue))
    }

    /// Works on a thread of its own.
    pub(crate) fn on_a_thread(self) -> Result<(), ShadowError> {
        const NAME: &str = "foreshadow-registry";
        let spawned = std::thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            if let Some((mut connection, mut queue)) = self.open() {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            }
        });
        spawned.map(drop).map_err(|source| ShadowError::Thread { name: NAME, source })
    }
}
