//! What a migration is asked for with, and what can never be.

use foreshadow_config::Service;
use foreshadow_control::{
    InstanceId, InstanceObservation, PlaceName, Role, ServiceObservation, Tier,
};
use serde::{Deserialize, Serialize};

use super::MOST_STANDING;
use crate::node::operator::Orders;

/// Farthest that one may be asked for ahead.
const FARTHEST_MS: u64 = 366 * 86_400_000;
/// A time so long ago is still now: it took a while to write it.
const JUST_NOW_MS: u64 = 60_000;

/// A migration as it is asked for; what is left out is for the law to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ask {
    /// Who moves, `i12` or `12`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    /// The place it moves to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Not before this, such as `2026-11-23T02:00:00Z` (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Whether it begins outside of windows too.
    pub(crate) now: bool,
    /// Only says who would move, where to, and what speaks against it.
    pub(crate) dry_run: bool,
}

/// Why a migration is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such thing: what, how it was called, and what there is.
    Unknown(&'static str, String, Vec<String>),
    /// What was asked for makes no sense.
    Malformed(String),
    /// It can never be.
    Never(String),
    /// Too many wait already.
    TooMany,
}

/// An ask that could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sound {
    /// Who moves, if that was said.
    pub(crate) instance: Option<InstanceId>,
    /// Where to, if that was said.
    pub(crate) to: Option<PlaceName>,
    /// Not before this, Unix time.
    pub(crate) at_ms: Option<u64>,
    /// When it may begin by its time and windows.
    pub(crate) begins_ms: u64,
}

/// What an ask is held against.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The service in the file.
    pub(crate) configured: &'a Service,
    /// The service in the last tick.
    pub(crate) seen: &'a ServiceObservation,
    /// What was asked for and is not over.
    pub(crate) orders: &'a Orders,
    pub(crate) now_ms: u64,
}

impl Ask {
    /// Everything that can be known at once.
    pub(crate) fn check(&self, scene: Scene<'_>) -> Result<Sound, Refused> {
        let at_ms = self.at(scene.now_ms)?;
        let service = &scene.seen.service;
        let Some(shadows) = &scene.configured.shadows else {
            return Err(Refused::Never(format!(
                "{service} has no shadows, and an instance moves to one: give it \
                 `shadows.provider` in the configuration"
            )));
        };
        let to = match &self.to {
            None => None,
            Some(_) if !shadows.are_named => {
                return Err(Refused::Never(format!(
                    "the shadows of {service} are made in one place, which has no name: leave `to` \
                     out, or give it `shadows.places` in the configuration"
                )));
            }
            Some(name) => {
                let known = || shadows.places.iter().map(|place| place.name.clone());
                let unknown = || {
                    Refused::Unknown(
                        "place",
                        name.clone(),
                        known().map(|p| p.to_string()).collect(),
                    )
                };
                Some(known().find(|place| place.to_string() == *name).ok_or_else(unknown)?)
            }
        };
        let instance = self.instance(scene.seen)?;
        if let Some(found) = instance {
            can_move(found, to.as_ref(), scene)?;
        }
        if !self.dry_run && scene.orders.migrations.len() >= MOST_STANDING {
            return Err(Refused::TooMany);
        }
        let from_ms = at_ms.unwrap_or(0).max(scene.now_ms);
        let begins_ms = match scene.configured.migration.as_ref().filter(|_| !self.now) {
            None => from_ms,
            Some(migration) => {
                let window = migration.window(from_ms);
                let never = || {
                    Refused::Never(format!(
                        "no window of {service} comes any more (`migration.windows`): pass over \
                         windows with `now`, or mend them"
                    ))
                };
                window.ok_or_else(never)?.0.max(from_ms)
            }
        };
        let instance = instance.map(|found| found.instance);
        Ok(Sound { instance, to, at_ms, begins_ms })
    }

    fn at(&self, now_ms: u64) -> Result<Option<u64>, Refused> {
        let Some(text) = &self.at else { return Ok(None) };
        if self.now {
            return Err(Refused::Malformed("at beside now: give one of the two".to_owned()));
        }
        let at_ms = rfc3339(text).ok_or_else(|| {
            Refused::Malformed(format!(
                "at is {text:?}; write a time such as 2026-11-23T02:00:00Z or \
                 2026-11-23T02:00:00+01:00 (RFC 3339)"
            ))
        })?;
        if at_ms.saturating_add(JUST_NOW_MS) < now_ms {
            return Err(Refused::Malformed(format!("at is {text}, which has passed")));
        }
        if at_ms > now_ms.saturating_add(FARTHEST_MS) {
            return Err(Refused::Malformed(format!(
                "at is {text}; it must be within 366 days: ask again later"
            )));
        }
        Ok(Some(at_ms))
    }

    fn instance<'a>(
        &self,
        seen: &'a ServiceObservation,
    ) -> Result<Option<&'a InstanceObservation>, Refused> {
        let Some(text) = &self.instance else { return Ok(None) };
        let id = text.strip_prefix('i').unwrap_or(text).parse().ok().map(InstanceId);
        let found = seen.instances.iter().find(|i| Some(i.instance) == id);
        found.map(Some).ok_or_else(|| {
            let known = seen.instances.iter().map(|i| i.instance.to_string()).collect();
            Refused::Unknown("instance", text.clone(), known)
        })
    }
}

/// Whether an instance could ever move there.
fn can_move(
    found: &InstanceObservation,
    to: Option<&PlaceName>,
    scene: Scene<'_>,
) -> Result<(), Refused> {
    let id = found.instance;
    if let Some(other) = scene.orders.migrations.values().find(|o| o.instance == Some(id)) {
        return Err(Refused::Never(format!(
            "migration {} moves {id} already: wait for its end, or call it off (`DELETE \
             /api/v1/migrations/{}`)",
            other.id, other.id
        )));
    }
    if found.drained {
        return Err(Refused::Never(format!(
            "{id} is drained and carries nothing: it may be switched off as it is; to move it all \
             the same, take it back first"
        )));
    }
    if found.role == Role::Primary {
        return Ok(());
    }
    if found.tier != Tier::Serving {
        return Err(Refused::Never(format!(
            "{id} is a shadow at the tier {} and carries no requests: there is nothing to move; \
             name one that serves, or none",
            found.tier
        )));
    }
    let only = scene.configured.shadows.as_ref().is_some_and(|s| s.places.len() == 1);
    if to == Some(&found.place) || only {
        let help = if only { "give it another place (`shadows.places`)" } else { "name another" };
        return Err(Refused::Never(format!("{id} stands in that place already: {help}")));
    }
    Ok(())
}

/// A time as RFC 3339 has it, in Unix milliseconds.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    let text = text.to_ascii_uppercase();
    let (clock, offset_s) = match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at))
    {
        Some((clock, offset)) if offset.starts_with(['+', '-']) => {
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
            let is_sound = (0..24).contains(&hours) && (0..60).contains(&minutes);
            let east_s = is_sound.then_some(hours * 3_600 + minutes * 60)?;
            (format!("{clock}Z"), if offset.starts_with('-') { -east_s } else { east_s })
        }
        _ => (text, 0),
    };
    let at = humantime::parse_rfc3339(&clock).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let ms = i64::try_from(since.as_millis()).ok()?.checked_sub(offset_s.checked_mul(1_000)?)?;
    u64::try_from(ms).ok()
}
