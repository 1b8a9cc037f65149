//! Open files: as many as the system grants, and how they are shared out.
//!
//! Clients, backends, health checks, shadows, databases and the admin interface draw on one stock
//! of descriptors. Only clients come uninvited, so it is they who are bounded.

use foreshadow_config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::metrics;
use crate::admin;

/// Databases, their journals, the log, the configuration and what watches it.
const OWN: u64 = 96;
/// What a worker's runtime holds, besides its listening sockets.
const PER_WORKER: u64 = 8;
/// A shadow's process, output and groups, its check and idle connections of mirrored requests.
const PER_SHADOW: u64 = 8;
/// Idle connections kept to backends, per worker, where the limit allows it; the configuration
/// bounds them per service.
const IDLE_UPSTREAM: u64 = 1024;

/// Raises the soft limit on open files to the hard one: many systems start processes with 1024,
/// which a proxy uses up for 512 requests at once.
pub(crate) fn raise_open_files() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return;
    }
    let raised = Rlimit { current: before.maximum, ..before };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(
            from = before.current,
            to = before.maximum,
            "raised the limit on open files"
        ),
        Err(error) => tracing::warn!(
            %error,
            limit = before.current,
            "cannot raise the limit on open files"
        ),
    }
}

/// How descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Client connections of all listeners together; each may need another one to a backend.
    pub(super) connections: u64,
    /// Idle connections kept to backends, per worker.
    pub(super) idle_upstream: u64,
}

/// Shares out what this process may open between the parts of `config`, and says so when that is
/// less than its listeners ask for.
pub(super) fn share_out(config: &Config, before: Option<&Config>) -> Shares {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (workers, reserve) = (config.workers as u64, reserve(config));
    let shares = shares(limit, workers, reserve);
    let asked = asked(config);
    // What was said is not said again with every reload.
    let said = before.is_some_and(|b| {
        (asked, workers, reserve) == (self::asked(b), b.workers as u64, self::reserve(b))
    });
    if shares.connections < asked && !said {
        tracing::warn!(
            limit,
            asked,
            accepted = shares.connections,
            "the limit on open files is too low for `max_connections`; connections beyond \
             {accepted} are answered 503: raise it to {needed} (`ulimit -Hn`, or LimitNOFILE= of \
             the service), or lower `limits.max_connections`",
            accepted = shares.connections,
            needed = 2 * asked + IDLE_UPSTREAM * workers + reserve,
        );
    }
    shares
}

/// Connections that clients are promised.
fn asked(config: &Config) -> u64 {
    config.listeners.iter().map(|l| l.limits.max_connections as u64).sum()
}

/// Descriptors that clients must leave alone.
fn reserve(config: &Config) -> u64 {
    let workers = config.workers as u64 * (PER_WORKER + config.listeners.len() as u64);
    let services = config.services.values().map(|service| {
        let shadows = service.shadows.as_ref().map_or(0, |shadows| {
            u64::from(shadows.pool.max) * PER_SHADOW + shadows.mirror.max_in_flight as u64
        });
        service.primaries.len() as u64 + shadows + service.signals.len() as u64
    });
    let scraped = config.services.values().any(|service| service.metrics.scrape.is_some());
    let scrapes = if scraped { metrics::AT_ONCE as u64 } else { 0 };
    OWN + scrapes + admin::CONNECTIONS as u64 + workers + services.sum::<u64>()
}

/// Where even the reserve is too much, it gets half.
fn shares(limit: u64, workers: u64, reserve: u64) -> Shares {
    let usable = limit - reserve.min(limit / 2);
    let idle_upstream = (usable / 8 / workers).clamp(1, IDLE_UPSTREAM);
    let connections = (usable.saturating_sub(idle_upstream * workers) / 2).max(1);
    Shares { connections, idle_upstream }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_their_backends_idle_connections_and_the_reserve_fit_the_limit() {
        for limit in [64, 256, 1024, 4096, 20_000, 1_048_576, u64::MAX] {
            for workers in [1, 2, 64] {
                for reserve in [100, 200, 5_000] {
                    let shares = shares(limit, workers, reserve);
                    let reserved = reserve.min(limit / 2);
                    let used = 2 * shares.connections + shares.idle_upstream * workers + reserved;
                    // One of each there must be, however little there is.
                    assert!(used <= limit.max(reserved + 2 + workers), "{limit} {workers}");
                    assert!(shares.connections >= limit / 8 || limit < 8 * workers, "{shares:?}");
                }
            }
        }
    }

    #[test]
    fn the_usual_limits_leave_room() {
        let shares = |limit| shares(limit, 2, 180);
        assert_eq!(shares(1024), Shares { connections: 370, idle_upstream: 52 });
        assert_eq!(shares(1_048_576), Shares { connections: 523_174, idle_upstream: 1024 });
    }
}
