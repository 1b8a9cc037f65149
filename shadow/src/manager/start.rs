//! Starting: lock, registry, and what to do with the instances of the run before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::{Fact, InstanceId, ServiceName, Tier};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::creates::Creates;
use super::runner::Runner;
use super::{Inner, State, replace, steps};
use crate::error::{ProviderError, ShadowError};
use crate::facts::Facts;
use crate::ground::Ground;
use crate::ids::Ids;
use crate::lifecycle::Lifecycle;
use crate::provider::{Adoption, Handle, Provider, Sweep};
use crate::registry::{Registry, Row};
use crate::settings::{ManagerSettings, Readiness, ServiceShadows};
use crate::state_dir::StateLock;

/// An instance of the run before that still runs.
pub(super) struct Found {
    pub(super) handle: Handle,
    pub(super) fingerprint: String,
    pub(super) outdated: bool,
    pub(super) tier_age: Duration,
}

/// Name of the database in the state directory, shared with the other parts.
const DATABASE: &str = "foreshadow.db";

pub(super) async fn start(
    settings: ManagerSettings,
    readiness: Arc<dyn Readiness>,
    ground: Arc<Ground>,
) -> Result<Arc<Inner>, ShadowError> {
    let lock = StateLock::take(&settings.state_dir).await?;
    let registry = Registry::open(&settings.state_dir.join(DATABASE), &ground).await?;
    let ids = Ids::new(registry.clone()).await?;
    settings.services.iter().for_each(steps::tell_gaps);
    let services = settings.services.into_iter();
    let services = services.map(|s| ((s.service.clone(), s.place.clone()), Arc::new(s))).collect();
    let inner = Arc::new(Inner {
        state: Mutex::new(State { services, ..State::default() }),
        facts: Facts::default(),
        ids,
        registry,
        ground,
        readiness,
        creates: Creates::new(settings.concurrent_creates),
        running: watch::channel(0).0,
        hurry: watch::channel(false).0,
        disturbed: watch::Sender::default(),
        runtime: tokio::runtime::Handle::current(),
        origin: Instant::now(),
        lock_of_dir: Mutex::new(Some(lock)),
    });
    let mut kept = BTreeSet::new();
    let mut runners = Vec::new();
    let mut forgotten = Vec::new();
    // All at once: a provider that takes its time delays a start by that time, not by as many times.
    let mut looks = JoinSet::new();
    for row in inner.registry.rows().await? {
        let (inner, janitors) = (Arc::clone(&inner), settings.janitors.clone());
        looks.spawn(async move {
            let (id, provider) = (row.id, row.provider.clone());
            (id, provider, adopt(&inner, &janitors, row).await)
        });
    }
    let mut fates = looks.join_all().await;
    fates.sort_by_key(|(id, ..)| *id);
    for (id, provider, fate) in fates {
        match fate {
            Fate::Goes(runner) => {
                kept.insert(id);
                runners.push(*runner);
            }
            Fate::Lost => forgotten.push((id, provider)),
            // Another service may lead to the place it is in: the sweep there is not its end.
            Fate::Remembered => {
                kept.insert(id);
            }
        }
    }
    let (put_off, swept) = sweep(&inner, &settings.janitors, &kept, &forgotten).await;
    // Only now is it sure that nothing of these runs; what was not swept is looked at by a later start.
    for (id, _) in forgotten.into_iter().filter(|(_, kind)| !put_off.contains(kind.as_str())) {
        inner.registry.ended(id).await?;
    }
    {
        let mut state = inner.lock();
        state.swept = swept;
        let services: BTreeSet<ServiceName> =
            state.services.keys().map(|(service, _)| service.clone()).collect();
        for service in services {
            if state.entries.values().any(|e| e.view.service == service && e.view.outdated) {
                replace::begin(&mut state, &service);
            }
            replace::retire(&mut state, &service);
        }
    }
    for runner in runners {
        inner.spawn(runner);
    }
    Ok(inner)
}

/// What becomes of a recorded instance.
enum Fate {
    /// It is taken over.
    Goes(Box<Runner>),
    /// The sweep ends what may be left of it; then it is forgotten.
    Lost,
    /// Nobody here can tell whether it runs, or end it: it stays recorded for a later start.
    Remembered,
}

/// Takes over one instance.
async fn adopt(inner: &Arc<Inner>, janitors: &[Arc<dyn Provider>], mut row: Row) -> Fate {
    let keepers = keepers(inner, janitors, &row);
    if keepers.is_empty() {
        tracing::error!(
            service = %row.service, instance = %row.id, provider = row.provider,
            "an instance of an earlier run may still be running, and nothing here can end it; \
             configure its service with that provider for one more start, or end it by hand"
        );
        return Fate::Remembered;
    }
    // One that was never ready, or never recorded, is ended by the sweep.
    let Some(handle) = row.handle.take().filter(|_| row.tier != Tier::Cold) else {
        return Fate::Lost;
    };
    let mut out_of_reach = String::new();
    for (settings, is_wanted) in keepers {
        let adoption = asked_to_adopt(&*settings.provider, &handle).await;
        if let Ok(Adoption::OutOfReach(why)) = adoption {
            tracing::debug!(service = %row.service, instance = %row.id, why, "it is in another place");
            out_of_reach = why;
            continue;
        }
        return taken(inner, row, handle, settings, is_wanted, adoption);
    }
    tracing::error!(service = %row.service, instance = %row.id, why = out_of_reach, "it may still run");
    Fate::Remembered
}

/// What cannot be told now, as for want of descriptors, may be told in a moment; who is not asked again
/// ends an instance that runs.
async fn asked_to_adopt(
    provider: &dyn Provider,
    handle: &Handle,
) -> Result<Adoption, ProviderError> {
    const PAUSES: [Duration; 3] =
        [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_500)];
    for pause in PAUSES {
        match provider.adopt(handle).await {
            Err(error) => tracing::warn!(instance = %handle.id, %error, "asking again"),
            told => return told,
        }
        tokio::time::sleep(pause).await;
    }
    provider.adopt(handle).await
}

/// Who may know an instance, with whether its service still wants it: the provider of its place, where that
/// is gone those of the other places of its service, then any of the same kind, each place once. Where a
/// service was taken out, or moved, another may lead to the place its instances are in.
fn keepers(
    inner: &Inner,
    janitors: &[Arc<dyn Provider>],
    row: &Row,
) -> Vec<(Arc<ServiceShadows>, bool)> {
    let state = inner.lock();
    let at = (row.service.clone(), row.place.clone());
    let wanted: Vec<Arc<ServiceShadows>> = match state.services.get(&at) {
        Some(settings) => vec![Arc::clone(settings)],
        None => {
            let others = state.services.iter().filter(|((service, _), _)| *service == row.service);
            let as_it_was = |settings: &Arc<ServiceShadows>| {
                Arc::new(ServiceShadows { place: row.place.clone(), ..(**settings).clone() })
            };
            others.map(|(_, settings)| as_it_was(settings)).collect()
        }
    };
    let mut places = BTreeSet::new();
    let of_its_kind = |settings: &Arc<ServiceShadows>| settings.provider.name() == row.provider;
    let mut keepers: Vec<_> = wanted
        .into_iter()
        .filter(of_its_kind)
        .filter(|settings| places.insert(settings.provider.place()))
        .map(|settings| (settings, true))
        .collect();
    let configured = state.services.values().map(|settings| &settings.provider);
    for provider in janitors.iter().chain(configured) {
        if provider.name() == row.provider && places.insert(provider.place()) {
            let janitor = ServiceShadows::new(row.service.clone(), Arc::clone(provider));
            keepers.push((Arc::new(ServiceShadows { place: row.place.clone(), ..janitor }), false));
        }
    }
    keepers
}

/// What becomes of an instance by the word of a provider that knows its place.
fn taken(
    inner: &Arc<Inner>,
    row: Row,
    handle: Handle,
    settings: Arc<ServiceShadows>,
    is_wanted: bool,
    adoption: Result<Adoption, ProviderError>,
) -> Fate {
    match adoption {
        Err(error) => {
            // The sweep decides: it ends the instance, or that is put off.
            tracing::error!(service = %row.service, instance = %row.id, %error, "cannot be taken over");
            Fate::Lost
        }
        Ok(Adoption::Gone(why)) => {
            tracing::info!(service = %row.service, instance = %row.id, why, "not taken over");
            Fate::Lost
        }
        Ok(Adoption::OutOfReach(_)) => Fate::Remembered,
        Ok(Adoption::Running) => {
            let now_ms = (inner.ground.unix_ms)();
            let mut machine = Lifecycle::adopted(row.tier);
            if !is_wanted {
                machine.aim(Tier::Cold);
            }
            let at = (row.service.clone(), row.place.clone());
            let is_place_gone = !inner.lock().services.contains_key(&at);
            let found = Found {
                handle,
                outdated: is_place_gone || row.fingerprint != settings.provider.fingerprint(),
                fingerprint: row.fingerprint,
                tier_age: Duration::from_millis(now_ms.saturating_sub(row.tier_since_ms)),
            };
            if is_wanted {
                let fact = Fact::Adopted { instance: row.id, tier: row.tier };
                inner.facts.push(&row.service, fact);
            }
            tracing::info!(service = %row.service, instance = %row.id, tier = %row.tier, "taken over");
            let mut state = inner.lock();
            let runner = inner.enter(&mut state, row.id, settings, machine, Some(found), 0);
            Fate::Goes(Box::new(runner))
        }
    }
}

/// Lets every provider end what is not among the instances taken over, each place once; returns the
/// kinds of those that have not done so yet, and how many instances each kind ended.
async fn sweep(
    inner: &Inner,
    janitors: &[Arc<dyn Provider>],
    kept: &BTreeSet<InstanceId>,
    lost: &[(InstanceId, String)],
) -> (BTreeSet<&'static str>, Vec<(&'static str, usize)>) {
    let mut providers: Vec<Arc<dyn Provider>> = janitors.to_vec();
    for settings in inner.lock().services.values() {
        let same = |known: &Arc<dyn Provider>| {
            (known.name(), known.place()) == (settings.provider.name(), settings.provider.place())
        };
        if !providers.iter().any(same) {
            providers.push(Arc::clone(&settings.provider));
        }
    }
    let mut sweeps = JoinSet::new();
    for provider in providers {
        let of_kind = lost.iter().filter(|(_, name)| name == provider.name());
        let what = Sweep {
            keep: kept.iter().copied().collect(),
            lost: of_kind.map(|(id, _)| *id).collect(),
        };
        sweeps.spawn(async move {
            let ended = provider.sweep(&what).await;
            (provider.name(), ended, provider.is_swept())
        });
    }
    let (mut put_off, mut swept) = (BTreeSet::new(), Vec::new());
    for (provider, ended, is_swept) in sweeps.join_all().await {
        if !is_swept || ended.is_err() {
            put_off.insert(provider);
        }
        let ended = ended.unwrap_or_else(|error| {
            tracing::error!(
                provider, %error,
                "what earlier runs left behind cannot be ended; the next start tries again"
            );
            0
        });
        if ended > 0 {
            tracing::warn!(provider, ended, "ended what a crash had left behind");
            swept.push((provider, ended));
        }
    }
    (put_off, swept)
}
