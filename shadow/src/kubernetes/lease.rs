//! Who owns the pods of a state directory: two that have the same one, as copies of a machine do,
//! must not both make and end instances under its name.
//!
//! A holder that does not renew is taken to be gone when its record has not changed for as long as the
//! lease is good, by our own clock: clocks of machines are not compared (as client-go's leader election
//! does it, `tools/leaderelection`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::Instant;

use super::body;
use super::cluster::Cluster;
use super::told::Trouble;
use crate::error::{Cause, ProviderError};

/// How often it is renewed while it is good.
const RENEWALS: u32 = 3;
/// Renewals in a row whose answers were lost that are remembered.
const MAYBE: usize = 8;

/// What is known of the lease.
pub(super) struct Claim {
    duration: Duration,
    me: String,
    standing: Mutex<Standing>,
    /// The times of renewal, in microseconds, that the record may have by our own writing; none before
    /// the first. Another one under our name is a copy's, down to its memory.
    written: Mutex<Vec<i64>>,
    /// One at a time asks for it.
    asking: tokio::sync::Mutex<()>,
    /// Whether a task renews it; one is enough.
    renewed: AtomicBool,
    /// Whether it was given back: then only who wants to make something asks for it again.
    given_back: AtomicBool,
}

#[derive(Clone, Debug)]
enum Standing {
    /// Nobody has asked yet, or it ran out.
    Unknown,
    /// Ours until then.
    Held { until: Instant },
    /// Somebody else's, whose record has been as it is since then.
    Foreign { version: String, since: Instant },
}

impl Claim {
    /// `marker` names the state directory on this machine.
    pub(super) fn new(duration: Duration, marker: &str) -> Self {
        Self {
            duration: duration.max(Duration::from_secs(1)),
            me: me(marker),
            standing: Mutex::new(Standing::Unknown),
            written: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            renewed: AtomicBool::new(false),
            given_back: AtomicBool::new(false),
        }
    }

    /// Whether another duration is wanted.
    pub(super) fn is_other(&self, duration: Duration) -> bool {
        self.duration != duration.max(Duration::from_secs(1))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the lease is ours now.
    pub(super) fn is_held(&self) -> bool {
        matches!(*self.standing(), Standing::Held { until } if Instant::now() < until)
    }

    fn written(&self) -> MutexGuard<'_, Vec<i64>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record is as we may have left it.
    fn is_ours(&self, spec: Option<&LeaseSpec>) -> bool {
        let is_mine = |spec: &LeaseSpec| spec.holder_identity.as_ref() == Some(&self.me);
        let at = |spec: &LeaseSpec| spec.renew_time.as_ref().map(|time| time.0.as_microsecond());
        let written = self.written();
        spec.is_some_and(|spec| {
            is_mine(spec) && (written.is_empty() || at(spec).is_none_or(|at| written.contains(&at)))
        })
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
        let now = MicroTime(now);
        let mine = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.me));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let seconds = i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: mine.map_or(Some(now.clone()), |spec| spec.acquire_time.clone()),
            renew_time: Some(now),
            lease_transitions: Some(if mine.is_some() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }
}

/// Who this is: another machine, the same one started anew, and another directory on it, is another
/// holder; a process that is started again is not, since the lock of its state directory keeps it alone
/// there.
fn me(marker: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let boot = read("/proc/sys/kernel/random/boot_id");
    format!("{}_{boot}_{marker}", read("/proc/sys/kernel/hostname"))
}

/// Renews the lease, and takes it again where it was lost and is free, for as long as the cluster is of
/// use to anybody.
async fn renew(cluster: Weak<Cluster>, every: Duration) {
    let mut lost = false;
    loop {
        tokio::time::sleep(every).await;
        let Some(cluster) = cluster.upgrade() else { return };
        let _turn = cluster.claim.asking.lock().await;
        if cluster.claim.given_back.load(Ordering::Acquire) {
            continue;
        }
        let had = cluster.claim.is_held();
        match cluster.ask(every).await {
            Ok(()) if had && !lost => {}
            Ok(()) => {
                lost = false;
                tracing::info!(cluster = cluster.name, "the lease on our pods is ours");
                // What was to be cleaned up had to wait for it.
                cluster.nudge.notify_one();
            }
            Err(error) if cluster.claim.is_held() => {
                tracing::warn!(%error, "the lease on our pods was not renewed; it is still good");
            }
            Err(error) if !lost => {
                lost = true;
                tracing::error!(
                    %error,
                    "the lease on our pods is not ours: nothing is made or cleaned up there before it is \
                     ours again; what runs goes on"
                );
            }
            Err(_) => {}
        }
    }
}

impl Cluster {
    /// Makes sure that the lease is ours, and keeps it from now on.
    pub(super) async fn own(self: &Arc<Self>, patience: Duration) -> Result<(), ProviderError> {
        if self.claim.is_held() {
            return Ok(());
        }
        let _turn = self.claim.asking.lock().await;
        if self.claim.is_held() {
            return Ok(());
        }
        self.claim.given_back.store(false, Ordering::Release);
        // Whatever comes of it: it is asked for again until it is ours.
        if !self.claim.renewed.swap(true, Ordering::AcqRel) {
            tokio::spawn(renew(Arc::downgrade(self), self.claim.duration / RENEWALS));
        }
        self.ask(patience).await
    }

    /// Gives the lease back, so that the next one does not wait for it to run out.
    pub(super) async fn release(&self, patience: Duration) -> Result<(), ProviderError> {
        let _turn = self.claim.asking.lock().await;
        self.claim.given_back.store(true, Ordering::Release);
        if !self.claim.is_held() {
            return Ok(());
        }
        *self.claim.standing() = Standing::Unknown;
        let name = &body::lease_name(&self.owner);
        let asked = || self.asked(format_args!("take back lease {name}"));
        let found = self.leases(patience, |leases| async move { leases.get_opt(name).await }).await;
        let Some(mut lease) = found.map_err(|trouble| trouble.told(asked()))? else {
            return Ok(());
        };
        if !self.claim.is_ours(lease.spec.as_ref()) {
            return Ok(());
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let lease = &lease;
        let given = self.leases(patience, |leases| async move {
            leases.replace(name, &PostParams::default(), lease).await.map(drop)
        });
        match given.await {
            Err(trouble) if !trouble.is_another() && !trouble.is_absent() => {
                Err(trouble.told(asked()))
            }
            _ => Ok(()),
        }
    }

    /// Takes or renews the lease, if nobody else has it.
    async fn ask(&self, patience: Duration) -> Result<(), ProviderError> {
        let name = body::lease_name(&self.owner);
        let asked = || self.asked(format_args!("take lease {name}"));
        let begun = Instant::now();
        let found = self.leases(patience, |leases| async move {
            leases.get_opt(&body::lease_name(&self.owner)).await
        });
        let found = found.await.map_err(|trouble| trouble.told(asked()))?;
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if !holder.is_empty() && !self.claim.is_ours(spec) {
            let version = found.as_ref().and_then(|l| l.metadata.resource_version.clone());
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
            let good = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            self.outlasted(&holder, version.unwrap_or_default(), good.max(self.claim.duration))
                .map_err(|text| Trouble::Told(Cause::NotOwned, text).told(asked()))?;
        }
        let now = Timestamp::now();
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: found.as_ref().and_then(|l| l.metadata.resource_version.clone()),
                labels: Some([(body::OWNER.to_owned(), self.owner.clone())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(self.claim.spec(spec, now)),
        };
        {
            // Until it is heard what came of it, it may be there or not.
            let mut written = self.claim.written();
            let surplus = written.len().saturating_sub(MAYBE);
            written.drain(..surplus);
            written.push(now.as_microsecond());
        }
        let is_there = found.is_some();
        let name = &name;
        let taken = self.leases(patience, |leases| async move {
            match is_there {
                true => leases.replace(name, &PostParams::default(), &lease).await,
                false => leases.create(&PostParams::default(), &lease).await,
            }
        });
        match taken.await {
            Ok(_) => {
                *self.claim.written() = vec![now.as_microsecond()];
                *self.claim.standing() = Standing::Held { until: begun + self.claim.duration };
                Ok(())
            }
            Err(trouble) if trouble.is_another() || trouble.is_name_taken() => {
                let text = "another foreshadow took it at the same moment".to_owned();
                Err(Trouble::Told(Cause::NotOwned, text).told(asked()))
            }
            Err(trouble) => Err(trouble.told(asked())),
        }
    }

    /// Whether somebody else's record has been as it is for too long.
    fn outlasted(&self, holder: &str, version: String, good: Duration) -> Result<(), String> {
        let now = Instant::now();
        let mut standing = self.claim.standing();
        let since = match &*standing {
            Standing::Foreign { version: known, since } if *known == version => *since,
            _ => now,
        };
        if now.duration_since(since) >= good {
            tracing::warn!(cluster = self.name, holder, "its lease ran out and is taken over");
            return Ok(());
        }
        *standing = Standing::Foreign { version, since };
        Err(format!(
            "{holder} has it, under the same name as this one; it is taken over when it has not been \
             renewed for {} s",
            good.as_secs()
        ))
    }

    async fn leases<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(Api<Lease>) -> F + Send,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, kube::Error>> + Send,
    {
        self.call(patience, |client| call(Api::namespaced(client, &self.namespace))).await
    }
}
