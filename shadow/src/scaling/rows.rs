//! What is kept of scaled services in the registry's database: the order that is under way, the one
//! that was taken last, and where primaries were.

use std::net::SocketAddr;

use foreshadow_control::ServiceName;
use rusqlite::{OptionalExtension as _, params};

use crate::error::ShadowError;
use crate::registry::Registry;

/// What is kept of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) asked: Option<u32>,
    pub(super) original: Option<u32>,
    /// About to be asked for when this was written.
    pub(super) intent: Option<u32>,
    /// The last number that was wanted there.
    pub(super) wanted: Option<u32>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) async fn prepare(registry: &Registry) -> Result<(), ShadowError> {
    registry
        .call(|db| {
            db.execute_batch(
                "CREATE TABLE IF NOT EXISTS scaled_services (
                    service   TEXT PRIMARY KEY,
                    place     TEXT NOT NULL,
                    asked     INTEGER,
                    original  INTEGER,
                    intent    INTEGER,
                    wanted    INTEGER,
                    addresses TEXT NOT NULL
                ) STRICT;",
            )
        })
        .await
}

/// What is known of a service at that place.
pub(super) async fn read(
    registry: &Registry,
    service: &ServiceName,
    place: &str,
) -> Result<Row, ShadowError> {
    let (service, place) = (service.clone(), place.to_owned());
    let row = registry.call(move |db| {
        db.query_row(
            "SELECT asked, original, intent, wanted, addresses FROM scaled_services
             WHERE service = ? AND place = ?",
            params![service.as_str(), place],
            |row| {
                let addresses: String = row.get(4)?;
                // One that is no address was not written by this program.
                let addresses = addresses.split(' ').filter_map(|text| text.parse().ok());
                Ok(Row {
                    asked: row.get(0)?,
                    original: row.get(1)?,
                    intent: row.get(2)?,
                    wanted: row.get(3)?,
                    addresses: addresses.collect(),
                })
            },
        )
        .optional()
    });
    Ok(row.await?.unwrap_or_default())
}

/// Writes what is known; returns once that is written.
pub(super) async fn write(
    registry: &Registry,
    service: &ServiceName,
    place: &str,
    row: Row,
) -> Result<(), ShadowError> {
    let (service, place) = (service.clone(), place.to_owned());
    let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
    registry
        .call(move |db| {
            db.execute(
                "INSERT OR REPLACE INTO scaled_services
                 (service, place, asked, original, intent, wanted, addresses)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![
                    service.as_str(),
                    place,
                    row.asked,
                    row.original,
                    row.intent,
                    row.wanted,
                    addresses.join(" ")
                ],
            )
            .map(drop)
        })
        .await
}

/// Forgets services that are scaled no longer.
pub(super) async fn retain(registry: &Registry, kept: Vec<ServiceName>) -> Result<(), ShadowError> {
    registry
        .call(move |db| {
            let mut select = db.prepare("SELECT service FROM scaled_services")?;
            let all: Vec<String> =
                select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            for gone in all.iter().filter(|name| kept.iter().all(|kept| kept.as_str() != *name)) {
                db.execute("DELETE FROM scaled_services WHERE service = ?", params![gone])?;
            }
            Ok(())
        })
        .await
}
