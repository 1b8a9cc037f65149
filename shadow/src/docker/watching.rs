//! Seeing containers end: by the engine's events, and by looking from time to time at what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use foreshadow_control::InstanceId;
use futures_util::future::{Fuse, FusedFuture as _};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::body;
use super::engine::{Engine, Seen, instance};
use super::told::Trouble;
use crate::end::End;
use crate::error::{Cause, ProviderError};
use crate::remote::shorten;

/// When it is looked again at what is there, after a first time at once: what ended before the
/// engine had begun to tell is not told, and neither is what an earlier run had ordered.
const LOOKS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];
/// And then again and again, for a stream that hangs.
const LOOK: Duration = Duration::from_secs(15);
/// First and longest pause before the engine is asked for events again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Characters quoted of what an engine says.
const QUOTED: usize = 200;

/// The containers whose end is waited for.
#[derive(Default)]
pub(super) struct Watched {
    all: BTreeMap<InstanceId, One>,
    followed: bool,
}

struct One {
    end: End,
    container: String,
    /// Whether the kernel has killed something in it for want of memory.
    starved: bool,
}

impl Watched {
    pub(super) fn ended(&self, id: InstanceId) -> Option<watch::Receiver<Option<String>>> {
        self.all.get(&id).map(|one| one.end.wait())
    }

    pub(super) fn forget(&mut self, id: InstanceId) {
        self.all.remove(&id);
    }

    fn insert(&mut self, id: InstanceId, container: String) {
        self.all.insert(id, One { end: End::default(), container, starved: false });
    }

    fn end(&mut self, id: InstanceId, how: String) {
        if let Some(one) = self.all.get(&id) {
            one.end.tell(how);
        }
    }

    fn running(&self) -> BTreeSet<InstanceId> {
        let running = self.all.iter().filter(|(_, one)| !one.end.is_told());
        running.map(|(id, _)| *id).collect()
    }

    /// Takes a list that was asked for when `watched` were running.
    fn take(&mut self, watched: &BTreeSet<InstanceId>, list: &[Seen]) {
        for id in watched {
            match list.iter().find(|seen| seen.id == *id) {
                Some(seen) if seen.ended => {
                    self.end(*id, format!("ended: {}", shorten(&seen.status, QUOTED)));
                }
                Some(_) => {}
                None => self.end(*id, "its container was removed".to_owned()),
            }
        }
    }

    /// Takes what the engine tells of one container.
    fn hear(&mut self, event: &EventMessage) {
        let Some(actor) = &event.actor else { return };
        let attributes = actor.attributes.as_ref();
        let said = |name: &str| attributes.and_then(|all| all.get(name)).map(String::as_str);
        let Some(id) = said(body::INSTANCE).and_then(instance) else { return };
        let Some(one) = self.all.get_mut(&id) else { return };
        if actor.id.as_ref() != Some(&one.container) {
            return;
        }
        match event.action.as_deref() {
            Some("oom") => one.starved = true,
            Some("die") => {
                let starved = one.starved;
                self.end(id, ending(said("exitCode"), starved));
            }
            Some("destroy") => self.end(id, "its container was removed".to_owned()),
            _ => {}
        }
    }
}

/// How a container ended, in words. Above 128 the code names a signal, by the shells' custom.
pub(super) fn ending(code: Option<&str>, starved: bool) -> String {
    let why = if starved { ", out of memory" } else { "" };
    match code.and_then(|code| code.parse::<u32>().ok()) {
        Some(code @ 129..=192) => {
            format!("exited with status {code}, as after signal {}{why}", code - 128)
        }
        Some(code) => format!("exited with status {code}{why}"),
        None => format!("ended{why}"),
    }
}

impl Engine {
    /// Waits for the end of a container from now on.
    pub(super) fn watch(engine: &Arc<Self>, id: InstanceId, container: String) {
        engine.watched().insert(id, container);
        Self::follow(engine);
    }

    /// Listens to the engine, once for all.
    pub(super) fn follow(engine: &Arc<Self>) {
        if !std::mem::replace(&mut engine.watched().followed, true) {
            tokio::spawn(follow(Arc::downgrade(engine)));
        }
    }

    /// Looks at what is there: which of those watched have ended, and what is nobody's.
    async fn look(engine: &Arc<Self>) -> Result<(), ProviderError> {
        let watched = engine.watched().running();
        let list = engine.list().await?;
        engine.watched().take(&watched, &list);
        // With nobody left to know what is ours, nothing is known to be nobody's.
        if Arc::strong_count(engine) > 1 {
            let engine = Arc::clone(engine);
            // A task of its own: events are heard meanwhile.
            tokio::spawn(async move {
                engine.remains.look(async { Ok(engine.reap(&list).await) }).await;
            });
        }
        Ok(())
    }
}

/// Listens again and again for as long as the engine is of use to anybody.
async fn follow(engine: Weak<Engine>) {
    let (mut pause, mut failures) = (AGAIN.0, 0_u32);
    loop {
        let begun = Instant::now();
        let told = {
            let Some(engine) = engine.upgrade() else { return };
            let client = engine.client();
            let client = tokio::time::timeout(super::engine::ASIDE, client).await;
            client.unwrap_or(Err(Trouble::Late(super::engine::ASIDE))).map(|client| {
                let mut filters = body::filter(&engine.owner, "shadow");
                filters.insert("type".to_owned(), vec!["container".to_owned()]);
                let events = ["die", "oom", "destroy"].map(str::to_owned).to_vec();
                filters.insert("event".to_owned(), events);
                (client, EventsOptionsBuilder::new().filters(&filters).build())
            })
        };
        let error = match told {
            Ok((client, options)) => {
                let stream = client.events(Some(options));
                listen(&engine, Box::pin(stream), &mut failures).await
            }
            Err(trouble) => Some(trouble),
        };
        let Some(error) = error else { return };
        let name = engine.upgrade().map(|engine| engine.asked("tell of ends")).unwrap_or_default();
        failures = failures.saturating_add(1);
        if failures.is_power_of_two() {
            let error = error.told(name);
            tracing::warn!(%error, failures, "containers are taken to run until that works again");
        }
        // One that was heard for a while is asked again at once.
        pause = if begun.elapsed() > AGAIN.1 { AGAIN.0 } else { (pause * 2).min(AGAIN.1) };
        tokio::time::sleep(pause).await;
    }
}

/// Takes events until they end; nothing when nobody needs them any more.
async fn listen(
    engine: &Weak<Engine>,
    mut stream: impl futures_util::Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
    failures: &mut u32,
) -> Option<Trouble> {
    let nudge = Arc::clone(&engine.upgrade()?.nudge);
    let mut looks = LOOKS.into_iter();
    let mut due = Instant::now();
    // Events are heard while an engine takes its time to list.
    let mut looking = Fuse::terminated();
    loop {
        let nudged = async {
            tokio::select! {
                () = nudge.notified() => true,
                () = tokio::time::sleep_until(due) => false,
            }
        };
        tokio::select! {
            biased;
            event = stream.next() => match event {
                Some(Ok(event)) => engine.upgrade()?.watched().hear(&event),
                Some(Err(error)) => return Some(Trouble::from(error)),
                None => {
                    let text = "its stream of events ended".to_owned();
                    return Some(Trouble::Settings(Cause::Unreachable, text));
                }
            },
            looked = &mut looking => {
                match looked {
                    Ok(()) => *failures = 0,
                    Err(error) => {
                        *failures = failures.saturating_add(1);
                        if failures.is_power_of_two() {
                            tracing::warn!(%error, failures, "cannot see which containers run; those known are taken to run");
                        }
                    }
                }
                due = Instant::now() + looks.next().unwrap_or(LOOK);
            }
            nudged = nudged, if looking.is_terminated() => {
                if nudged {
                    looks = LOOKS.into_iter();
                }
                let here = engine.upgrade()?;
                looking = async move { Engine::look(&here).await }.boxed().fuse();
            }
        }
    }
}
