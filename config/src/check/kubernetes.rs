//! Pods of a Kubernetes cluster: one source of what they are like, and what fits it.

use std::collections::BTreeMap;

use super::items;
use super::providers::{cpu, placeholders, variables};
use super::range::{self, HOUR_MS};
use crate::raw::{List, Map, ObjectName, RawKubernetes, RawPodLimits, Word, is_object_name};
use crate::reader::{At, Field, Place, Problem, Reader, quote};
use crate::{KubernetesProvider, PodLimits};

/// What may stand in braces in a command: the address is the cluster's to choose.
const PLACEHOLDERS: [&str; 3] = ["port", "id", "service"];
const ONE: &str = "one of image, template, mirror, claim";

pub(super) fn kubernetes(
    raw: RawKubernetes,
    lead: Option<Place>,
    r: &mut Reader<'_>,
) -> KubernetesProvider {
    one_source(&raw, lead, r);
    if let (Field::Given(context), true) = (&raw.context, raw.kubeconfig.is_absent()) {
        let problem = Problem::new("a context without a kubeconfig", "kubeconfig beside it");
        r.report(&context.place, problem);
    }
    let port = match raw.port.is_absent() {
        true => 0,
        false => range::count(raw.port, 1..=u16::MAX, 1, r),
    };
    let mut look = |word: &At<Word>, r: &mut Reader<'_>| {
        placeholders(&PLACEHOLDERS, &word.value.0, &word.place, r);
    };
    KubernetesProvider {
        kubeconfig: raw.kubeconfig.value().map(|path| path.0),
        context: raw.context.value().map(|name| name.0),
        namespace: part(raw.namespace, r).unwrap_or_default(),
        image: raw.image.value().map(|image| image.0),
        command: command(raw.command, &mut look, r),
        env: variables(raw.env, &mut look, r),
        limits: limits(raw.limits.value().unwrap_or_default(), r),
        template: raw.template.value().map(|template| template.0),
        mirror: raw.mirror.value().map(|name| name.0),
        claim: raw.claim.value().map(|name| name.0),
        container: part(raw.container, r),
        port,
        labels: labels(raw.labels, r),
        lease: range::time(raw.lease, 3_000..=HOUR_MS / 6, 15_000, r),
        timeout: range::time(raw.timeout, 100..=HOUR_MS, 30_000, r),
        schedule_timeout: range::time(raw.schedule_timeout, 1..=HOUR_MS, 120_000, r),
        start_timeout: range::time(raw.start_timeout, 1..=HOUR_MS, 30_000, r),
        stop_timeout: range::time(raw.stop_timeout, 0..=HOUR_MS, 10_000, r),
        cpu: cpu(raw.cpu, r),
    }
}

/// What pods are like is said once, and what belongs to one way of saying it stands beside no other.
fn one_source(raw: &RawKubernetes, lead: Option<Place>, r: &mut Reader<'_>) {
    fn place<T>(field: &Field<T>) -> Option<&Place> {
        match field {
            Field::Given(at) => Some(&at.place),
            _ => None,
        }
    }
    let is_there = [
        !raw.image.is_absent(),
        !raw.template.is_absent(),
        !raw.mirror.is_absent(),
        !raw.claim.is_absent(),
    ];
    let places = [place(&raw.image), place(&raw.template), place(&raw.mirror), place(&raw.claim)];
    let names = ["image", "template", "mirror", "claim"];
    let given: Vec<usize> = (0..names.len()).filter(|at| is_there[*at]).collect();
    match given[..] {
        [] => {
            if let Some(lead) = &lead {
                r.report(lead, Problem::new("no image", ONE));
            }
        }
        [first, second, ..] => {
            if let Some(place) = places[second] {
                let found = format!("{} beside {}", names[second], names[first]);
                r.report(place, Problem::new(found, ONE));
            }
        }
        [_] => {}
    }
    if raw.image.is_absent() {
        let of_image = [
            ("command", place(&raw.command)),
            ("env", place(&raw.env)),
            ("limits", place(&raw.limits)),
        ];
        for (name, place) in of_image {
            if let (Some(place), false) = (place, given.is_empty()) {
                let problem = Problem::new(format!("{name} without image"), "image beside it");
                r.report(place, problem.help("a template has that in its containers"));
            }
        }
    } else if let Some(place) = place(&raw.container) {
        let problem = Problem::new("container beside image", "template, mirror or claim beside it");
        r.report(place, problem.help("a pod of an image has one container"));
    }
}

fn command(
    field: Field<List<Word>>,
    look: &mut impl FnMut(&At<Word>, &mut Reader<'_>),
    r: &mut Reader<'_>,
) -> Vec<String> {
    if let Field::Given(list) = &field {
        list.value.0.iter().for_each(|word| look(word, r));
        if list.value.0.is_empty() {
            let problem = Problem::new("an empty list", "a command");
            r.report(&list.place, problem.help("leave it out for that of the image"));
        }
    }
    items(field, Vec::new(), |word| word.0)
}

fn limits(raw: RawPodLimits, r: &mut Reader<'_>) -> PodLimits {
    const LEAST: u64 = 6 << 20;
    let given = |absent: bool| (!absent).then_some(());
    let cpus = given(raw.cpus.is_absent()).map(|()| range::factor(raw.cpus, 0.01..=1024.0, 1.0, r));
    let memory = given(raw.memory.is_absent())
        .map(|()| range::bytes(raw.memory, LEAST..=u64::MAX >> 1, LEAST, r));
    PodLimits { cpus, memory }
}

/// A name that is one part of a domain, as those of namespaces and containers are.
pub(super) fn part(field: Field<ObjectName>, r: &mut Reader<'_>) -> Option<String> {
    let name = field.given()?;
    if name.value.0.len() > 63 || name.value.0.contains('.') {
        let expected = "up to 63 small letters, digits and -";
        r.report(&name.place, Problem::new(quote(&name.value.0), expected));
    }
    Some(name.value.0)
}

/// Labels as an API server takes them (Kubernetes, "Labels and Selectors").
fn labels(field: Field<Map<Word>>, r: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value) in field.value().map(|map| map.0).unwrap_or_default() {
        let (domain, own) = match name.value.split_once('/') {
            Some((domain, own)) => (Some(domain), own),
            None => (None, name.value.as_str()),
        };
        if own.is_empty() || !is_label(own) || domain.is_some_and(|name| !is_object_name(name)) {
            let problem = Problem::new(
                format!("the name {}", quote(&name.value)),
                "up to 63 letters, digits and -_., perhaps after a domain and /",
            );
            r.report(&name.place, problem);
        } else if name.value.starts_with("foreshadow.dev/") {
            let problem = Problem::new(quote(&name.value), "a label of your own");
            r.report(&name.place, problem.help("those of foreshadow.dev say whose a pod is"));
        }
        let Some(value) = value.given() else { continue };
        if !is_label(&value.value.0) {
            let expected = "up to 63 letters, digits and -_. between letters or digits";
            r.report(&value.place, Problem::new(quote(&value.value.0), expected));
        }
        labels.insert(name.value, value.value.0);
    }
    labels
}

fn is_label(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && ends.into_iter().flatten().all(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
