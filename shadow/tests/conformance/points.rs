//! Where a Foreshadow is ended: before, in and after every step of every action, and every write of the
//! registry between them.

use foreshadow_shadow::Fault;

use super::Subject;

/// Every call that a manager makes of a provider: what a walk, a restart and the rest call.
pub(crate) const STEPS: [&str; 13] = [
    "create",
    "call_off",
    "freeze",
    "thaw",
    "set_share",
    "set_activated",
    "snapshot",
    "discard",
    "destroy",
    "adopt",
    "sweep",
    "leave",
    "disturb",
];
/// Calls that change nothing anywhere: an end in them is an end between the steps.
const LOOKS: [&str; 6] = ["exited", "leaves_within", "diagnose", "usage", "is_outdated", "undone"];
/// Every write of the registry.
const WRITES: [&str; 6] = ["reserve_ids", "primary_id", "creating", "created", "tier", "ended"];
/// What only reads it, or writes nothing itself. `found_id`, and through `call` the numbers that are asked for,
/// are scaling's: tests/scaling/crash.rs ends it around those.
const READS: [&str; 5] = ["open", "rows", "flush", "call", "found_id"];

/// What is played until the end comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Two shadows, of which one goes up to full, back and away.
    Walk,
    /// One that is ended while it is being made.
    CalledOff,
    /// Two that are replaced, since the settings changed.
    Replaced,
    /// A start on what a crash has left: two on record, and one that is not.
    Again,
    /// One that is saved.
    Saved,
    /// A stop in good order that leaves them running.
    Stopped,
    /// One that is hung on purpose.
    Hung,
}

impl Scene {
    pub(crate) const ALL: [Self; 7] = [
        Self::Walk,
        Self::CalledOff,
        Self::Replaced,
        Self::Again,
        Self::Saved,
        Self::Stopped,
        Self::Hung,
    ];

    pub(crate) fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|scene| format!("{scene:?}") == name);
        found.unwrap_or_else(|| panic!("no such scene: {name}"))
    }
}

/// One end.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) scene: Scene,
    /// One of [`STEPS`], `ready`, or one of [`WRITES`] with a `registry.` before it.
    pub(crate) step: String,
    /// Which of its calls.
    pub(crate) nth: u32,
    /// `before`, `after`, or so many microseconds after it was begun.
    pub(crate) moment: &'static str,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scene, step, nth, moment } = self;
        write!(f, "{scene:?}, call {nth} of {step}, {moment}")
    }
}

/// The calls of each scene that differ from each other, by how often the step was called.
const CALLS: [(Scene, &str, u32); 16] = [
    (Scene::Walk, "create", 2),
    (Scene::Walk, "ready", 3),
    (Scene::Walk, "freeze", 3),
    (Scene::Walk, "thaw", 2),
    (Scene::Walk, "set_share", 4),
    (Scene::Walk, "set_activated", 3),
    (Scene::Walk, "destroy", 1),
    (Scene::CalledOff, "call_off", 1),
    (Scene::Replaced, "destroy", 1),
    (Scene::Replaced, "create", 1),
    (Scene::Again, "adopt", 2),
    (Scene::Again, "sweep", 1),
    (Scene::Saved, "snapshot", 1),
    (Scene::Saved, "discard", 1),
    (Scene::Stopped, "leave", 1),
    (Scene::Hung, "disturb", 1),
];

/// Whether every scene is played, and every call of it met; what is a contract, or takes its time, has
/// most of that from the providers that are met whole.
fn is_met_whole(name: &str) -> bool {
    name.starts_with("process") || name == "docker"
}

/// An engine has no part in the others.
fn writes(name: &str) -> &'static [&'static str] {
    match name {
        "docker" => &["created", "ended"],
        _ if is_met_whole(name) => &WRITES,
        _ => &[],
    }
}

/// A command, an engine or a machine takes a hundred times as long as the rest, so it is met at the
/// moments that differ for it.
fn moments(name: &str, scene: Scene) -> &'static [&'static str] {
    match name {
        "exec" | "vm" => &["20000", "after"],
        "docker" if scene != Scene::Walk => &["20000"],
        "docker" | "docker-isolated" | "kubernetes" | "kubernetes-old" => {
            &["before", "20000", "after"]
        }
        _ => &["before", "100", "20000", "after"],
    }
}

fn possible(subject: &dyn Subject, step: &str) -> bool {
    let provider = subject.provider();
    let can = provider.capabilities();
    match step {
        "freeze" | "thaw" => can.freeze,
        "set_share" => subject.resizes(),
        "set_activated" => subject.isolates(),
        "call_off" => provider.can_call_off(),
        "snapshot" | "discard" => can.snapshot,
        "disturb" => provider.can_disturb(Fault::Hang).is_ok(),
        _ => true,
    }
}

/// All points at which a process is killed.
pub(crate) fn kills(name: &str, subject: &dyn Subject) -> Vec<Point> {
    let mut points = Vec::new();
    let whole = is_met_whole(name);
    let possible = CALLS.into_iter().filter(|(_, step, _)| possible(subject, step));
    for (scene, step, calls) in possible.filter(|(scene, ..)| whole || *scene == Scene::Walk) {
        let point = |nth, moment| Point { scene, step: step.to_owned(), nth, moment };
        points.extend(moments(name, scene).iter().map(|moment| point(1, moment)));
        // Before a later call is after the one before it, as far as anything is done.
        let later =
            2..=if name.starts_with("process") || step == "set_activated" { calls } else { 1 };
        points.extend(later.map(|nth| point(nth, "after")));
    }
    for write in writes(name) {
        let step = format!("registry.{write}");
        let of = |moment| Point { scene: Scene::Walk, step: step.clone(), nth: 1, moment };
        points.extend(["before", "after"].map(of));
    }
    points
}

/// All points at which a manager is dropped within its process: moments that a drop meets in another way
/// than a kill does.
pub(crate) fn drops(name: &str, subject: &dyn Subject) -> Vec<Point> {
    let whole = is_met_whole(name);
    let possible = CALLS.into_iter().filter(|(_, step, _)| possible(subject, step));
    let met = possible.filter(|(scene, ..)| {
        *scene == Scene::Walk || whole && matches!(scene, Scene::CalledOff | Scene::Replaced)
    });
    met.flat_map(|(scene, step, _)| {
        ["20000", "after"].map(|moment| Point { scene, step: step.to_owned(), nth: 1, moment })
    })
    .collect()
}

/// Names of the asynchronous functions in a text of Rust.
fn functions<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let begins = text.lines().filter_map(|line| line.trim().strip_prefix(prefix));
    begins.filter_map(|rest| rest.split(['(', '<']).next()).collect()
}

/// A step of the trait, or a write of the registry, that nobody thought of here would not be met.
pub(crate) fn every_step_and_write_is_met() {
    let provider = include_str!("../../src/provider.rs");
    for step in functions(provider, "async fn ") {
        let known = STEPS.contains(&step) || LOOKS.contains(&step);
        assert!(known, "nothing ends Foreshadow in {step:?}: add it to the steps, or to the looks");
    }
    for step in STEPS {
        assert!(CALLS.iter().any(|(_, met, _)| *met == step), "no scene calls {step:?}");
    }
    let registry = include_str!("../../src/registry.rs");
    for function in functions(registry, "pub(crate) async fn ") {
        let known = WRITES.contains(&function) || READS.contains(&function);
        assert!(known, "nothing ends Foreshadow around {function:?} of the registry");
    }
    let fragile = functions(include_str!("fragile.rs"), "async fn ");
    for step in functions(provider, "async fn ") {
        assert!(fragile.contains(&step), "{step:?} is not passed on, so that it is never met");
    }
}
