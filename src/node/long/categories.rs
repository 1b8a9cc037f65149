//! Categories of services: of whom a young one learns what its day and week look like before it has seen
//! them. Shapes are made from kept history, so that a restart has them as soon as they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use foreshadow_config::Config;
use foreshadow_control::ServiceName;
use foreshadow_predictor::long::{Belonging, Category, Shape};
use serde::Serialize;

use super::Reach;
use super::fit::grid;
use crate::node::Shared;
use crate::node::history::{Query, Span};

/// History that shapes are made from: that of the curve of a day.
const OLDEST_MS: u64 = 56 * 86_400_000;
/// A service with more history than this has no use for its categories.
const GROWN_UP_MS: u64 = 13 * 86_400_000;
/// Shapes made for one fit, at most: more come with the next.
const MOST_READ: usize = 8;
/// Whoever had no shape is looked at again after this.
const AGAIN_MS: u64 = 3_600_000;

/// A category that a curve was fitted with, as people read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct CategoryPart {
    /// Such as `group checkout` or `zone eu-west`.
    pub(crate) category: String,
    /// Services that its shape was made from.
    pub(crate) members: usize,
    /// How alike those are, 0 to 1.
    pub(crate) alike: f64,
    /// The largest weight it has at any distance, 0 to 1.
    pub(crate) weight: f64,
}

impl From<Belonging<'_>> for CategoryPart {
    fn from(mine: Belonging<'_>) -> Self {
        let Belonging { name, members, alike, weight } = mine;
        Self { category: name.to_owned(), members, alike, weight }
    }
}

/// The shapes of services.
#[derive(Default)]
pub(super) struct Shapes(BTreeMap<ServiceName, Known>);

struct Known {
    at_ms: u64,
    shape: Option<Shape>,
}

impl Shapes {
    /// Forgets services that are not configured any more.
    pub(super) fn retain(&mut self, is_configured: impl Fn(&ServiceName) -> bool) {
        self.0.retain(|service, _| is_configured(service));
    }

    /// Takes the newest shape of a service.
    fn note(&mut self, service: &ServiceName, shape: Option<Shape>, at_ms: u64) {
        self.0.insert(service.clone(), Known { at_ms, shape });
    }

    /// What services of the same kind have in common, for the fit of a service to `spans`; takes note of what
    /// those have to tell of the service itself.
    pub(super) fn about(
        &mut self,
        shared: &Shared,
        config: &Config,
        (service, reach, spans): (&ServiceName, Reach, &[Span]),
        now_ms: u64,
    ) -> Vec<Category> {
        let step_ms = reach.resolution().step_ms();
        if reach == Reach::Day {
            self.note(service, Shape::of(&grid(spans, step_ms)), now_ms);
        }
        let known_ms = step_ms.saturating_mul(spans.len() as u64);
        self.of(config, service, (known_ms, now_ms), |mate| shape(shared, mate, now_ms))
    }

    /// What the mates of `service` have in common, the closest category first; nothing once it has
    /// `known_ms` of history of its own that say more. Shapes that are missing are made with `read`.
    fn of(
        &mut self,
        config: &Config,
        service: &ServiceName,
        (known_ms, now_ms): (u64, u64),
        read: impl Fn(&ServiceName) -> Option<Shape>,
    ) -> Vec<Category> {
        if known_ms >= GROWN_UP_MS {
            return Vec::new();
        }
        let mates = mates(config, service);
        let everyone: BTreeSet<&ServiceName> = mates.iter().flat_map(|(_, mates)| mates).collect();
        let missing = everyone.into_iter().filter(|mate| {
            let known = self.0.get(*mate);
            known.is_none_or(|it| it.shape.is_none() && now_ms >= it.at_ms.saturating_add(AGAIN_MS))
        });
        let missing: Vec<ServiceName> = missing.take(MOST_READ).cloned().collect();
        for mate in missing {
            let shape = read(&mate);
            self.note(&mate, shape, now_ms);
        }
        let shape = |mate: &ServiceName| self.0.get(mate)?.shape.as_ref();
        let common = |(name, mates): (String, Vec<ServiceName>)| {
            Category::of(name, &mates.iter().filter_map(shape).collect::<Vec<_>>())
        };
        mates.into_iter().filter_map(common).collect()
    }
}

/// The shape of another service, from what is kept of it.
fn shape(shared: &Shared, service: &ServiceName, now_ms: u64) -> Option<Shape> {
    let resolution = Reach::Day.resolution();
    let spans = shared.history.spans(&Query {
        service: service.clone(),
        instance: 0,
        resolution,
        from_ms: now_ms.saturating_sub(OLDEST_MS),
        until_ms: resolution.start_ms(now_ms),
        limit: u32::MAX,
    });
    match spans {
        Ok(spans) => Shape::of(&grid(&spans, resolution.step_ms())),
        Err(error) => {
            tracing::warn!(%service, "its category does without it: {error:#}");
            None
        }
    }
}

/// The other services of each category of a service; the group first, which is the closer one.
fn mates(config: &Config, service: &ServiceName) -> Vec<(String, Vec<ServiceName>)> {
    let Some(own) = config.services.get(service) else { return Vec::new() };
    let zones: Vec<&str> = own.zones().collect();
    let others = || config.services.iter().filter(|(name, _)| *name != service);
    let mut all = Vec::new();
    if let Some(group) = &own.group {
        let mates = others().filter(|(_, other)| other.group.as_ref() == Some(group));
        all.push((format!("group {group}"), mates.map(|(name, _)| name.clone()).collect()));
    }
    let near = others().filter(|(_, other)| other.zones().any(|zone| zones.contains(&zone)));
    let near: Vec<ServiceName> = near.map(|(name, _)| name.clone()).collect();
    // The same services say nothing new.
    if all.iter().all(|(_, mates)| *mates != near) {
        all.push((format!("zone {}", zones.join(", ")), near));
    }
    all.retain(|(_, mates)| !mates.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use foreshadow_predictor::long::History;

    use super::*;

    fn config(services: &str) -> Config {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:8080, routes: [{{ service: a }}] }}]\nservices:\n{services}"
        );
        foreshadow_config::parse(&text, foreshadow_config::Format::Yaml, "test.yaml", &|_: &str| {
            None
        })
        .expect("it is sound")
    }

    fn shape() -> Option<Shape> {
        let values = (0..7 * 96).map(|at| Some(f64::from(at % 96))).collect();
        Shape::of(&History { start_ms: 0, step_ms: 900_000, values })
    }

    #[test]
    fn mates_are_those_of_the_group_and_of_the_zones() {
        let config = config(
            "  a: { group: shop, primaries: [{ address: 127.0.0.1:1, zone: x }] }\n  \
               b: { group: shop, primaries: [{ address: 127.0.0.1:2, zone: y }] }\n  \
               c: { primaries: [{ address: 127.0.0.1:3, zone: x }, { address: 127.0.0.1:4, zone: y }] }\n  \
               d: { group: other, primaries: ['127.0.0.1:5'] }\n",
        );
        let named = |service: &str| -> Vec<(String, Vec<String>)> {
            let mates = mates(&config, &ServiceName::from(service)).into_iter();
            mates.map(|(name, all)| (name, all.iter().map(ToString::to_string).collect())).collect()
        };
        let of = |name: &str, all: &[&str]| {
            (name.to_owned(), all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named("a"), [of("group shop", &["b"]), of("zone x", &["c"])]);
        assert_eq!(named("c"), [of("zone x, y", &["a", "b"])]);
        assert!(named("d").is_empty() && named("e").is_empty());
    }

    #[test]
    fn shapes_are_read_a_few_at_a_time_and_only_for_the_young() {
        let services: String = (0..30)
            .map(|n| format!("  s{n:02}: {{ group: g, primaries: ['127.0.0.1:{}'] }}\n", n + 1))
            .collect();
        let config = config(&format!("{services}  a: {{ primaries: ['127.0.0.1:99'] }}\n"));
        let (mut shapes, read) = (Shapes::default(), RefCell::new(Vec::new()));
        let service = ServiceName::from("s00");
        let mut fit = |known_ms, now_ms| {
            shapes.of(&config, &service, (known_ms, now_ms), |mate| {
                read.borrow_mut().push(mate.to_string());
                if mate.as_str() == "s01" { None } else { shape() }
            })
        };
        assert!(fit(GROWN_UP_MS, 0).is_empty() && read.borrow().is_empty());
        let members: Vec<usize> = (0..5).map(|at| fit(0, at)[0].members()).collect();
        assert_eq!(members, [7, 15, 23, 28, 28]);
        assert_eq!(read.borrow().len(), 29);
        assert_eq!(fit(0, AGAIN_MS)[0].members(), 28);
        assert_eq!(read.borrow()[29..], ["s01"], "it had none an hour ago");
    }
}
