//! One step after the other, and what must be true after each.

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, Tier};
use foreshadow_shadow::{
    Adoption, CpuShare, CreateRequest, Fault, Handle, Provider, ProviderError, Snapshot, Sweep,
};

use super::Subject;
use crate::support::{answers, shop, until};

/// An end must be seen within this: far more than any poll, far less than a person's patience.
const SEEN: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

/// Everything but crashes.
pub(crate) async fn all(subject: &dyn Subject) {
    make_and_end(subject).await;
    freeze_and_thaw(subject).await;
    resize(subject).await;
    snapshot(subject).await;
    exit_is_seen(subject).await;
    disturb(subject).await;
    adopted(subject).await;
    swept(subject).await;
    assert_eq!(subject.running(), [], "the steps left something behind");
}

async fn made(provider: &Arc<dyn Provider>, id: u64) -> Handle {
    made_from(provider, id, None).await
}

async fn made_from(provider: &Arc<dyn Provider>, id: u64, from: Option<Snapshot>) -> Handle {
    let request = CreateRequest { id: InstanceId(id), service: shop(), tier: Tier::Shadow, from };
    let handle = provider.create(&request).await.expect("it is made");
    assert_eq!((handle.id, &handle.service), (request.id, &request.service));
    ready(&handle).await;
    handle
}

async fn ready(handle: &Handle) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while !answers(handle.address).await {
        assert!(tokio::time::Instant::now() < end, "{} never answers", handle.id);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn make_and_end(subject: &dyn Subject) {
    let provider = subject.provider();
    let (one, two) = (made(&provider, 1).await, made(&provider, 2).await);
    assert_ne!(one.address, two.address);
    assert_eq!(subject.running(), [one.id, two.id]);
    let text = serde_json::to_string(&one).unwrap();
    assert_eq!(serde_json::from_str::<Handle>(&text).unwrap(), one, "it survives the registry");
    provider.destroy(&one, GRACE).await.unwrap();
    assert_eq!(subject.running(), [two.id], "the other goes on");
    assert!(answers(two.address).await);
    provider.destroy(&one, GRACE).await.expect("ending what has ended is no error");
    provider.destroy(&two, Duration::ZERO).await.unwrap();
    assert_eq!(subject.running(), []);
}

async fn freeze_and_thaw(subject: &dyn Subject) {
    let provider = subject.provider();
    let handle = made(&provider, 11).await;
    if !provider.capabilities().freeze {
        unsupported(provider.freeze(&handle).await);
        unsupported(provider.thaw(&handle).await);
        return provider.destroy(&handle, GRACE).await.unwrap();
    }
    for _ in 0..2 {
        provider.freeze(&handle).await.expect("freezing twice is no error");
    }
    assert_eq!(subject.running(), [handle.id], "it keeps what it has");
    if !subject.freezes_by_size() {
        assert!(!answers(handle.address).await, "a frozen instance answers");
    }
    for _ in 0..2 {
        provider.thaw(&handle).await.expect("thawing twice is no error");
    }
    ready(&handle).await;
    provider.freeze(&handle).await.unwrap();
    provider.destroy(&handle, GRACE).await.expect("a frozen instance can be ended");
    assert_eq!(subject.running(), []);
}

async fn resize(subject: &dyn Subject) {
    let provider = subject.provider();
    let handle = made(&provider, 21).await;
    for share in [CpuShare::Percent(10), CpuShare::Percent(10), CpuShare::Unlimited] {
        let done = provider.set_share(&handle, share).await;
        if provider.capabilities().resize {
            done.unwrap();
            ready(&handle).await;
        } else {
            unsupported(done);
        }
    }
    provider.destroy(&handle, GRACE).await.unwrap();
}

/// Hurt from outside: the provider's own steps put right what can be.
async fn disturb(subject: &dyn Subject) {
    let provider = subject.provider();
    let handle = made(&provider, 81).await;
    let can = provider.capabilities();
    if provider.can_disturb(Fault::Kill).is_err() {
        for fault in [Fault::Kill, Fault::Hang, Fault::Slow { cpu_percent: 5 }] {
            unsupported(provider.disturb(&handle, fault).await);
        }
        return provider.destroy(&handle, GRACE).await.unwrap();
    }
    let slow = Fault::Slow { cpu_percent: 20 };
    assert_eq!(provider.can_disturb(slow).is_ok(), can.resize);
    if can.resize {
        provider.disturb(&handle, slow).await.unwrap();
        provider.set_share(&handle, CpuShare::Unlimited).await.unwrap();
        ready(&handle).await;
    }
    assert_eq!(provider.can_disturb(Fault::Hang).is_ok(), can.freeze);
    if can.freeze {
        provider.disturb(&handle, Fault::Hang).await.unwrap();
        assert!(!answers(handle.address).await, "one that hangs answers");
        provider.thaw(&handle).await.unwrap();
        ready(&handle).await;
    } else {
        unsupported(provider.disturb(&handle, Fault::Hang).await);
    }
    provider.disturb(&handle, Fault::Kill).await.unwrap();
    tokio::time::timeout(SEEN, provider.exited(&handle)).await.expect("its end is seen");
    provider.destroy(&handle, GRACE).await.expect("what has ended can be cleaned up");
    assert_eq!(subject.running(), []);
}

async fn snapshot(subject: &dyn Subject) {
    let provider = subject.provider();
    let handle = made(&provider, 31).await;
    let taken = provider.snapshot(&handle).await;
    if provider.capabilities().snapshot {
        let taken = taken.unwrap();
        assert!(answers(handle.address).await, "it goes on");
        let copy = made_from(&provider, 32, Some(taken.clone())).await;
        provider.destroy(&copy, GRACE).await.unwrap();
        for _ in 0..2 {
            provider.discard(&taken).await.expect("removing twice is no error");
        }
        let request = CreateRequest {
            id: InstanceId(33),
            service: shop(),
            tier: Tier::Shadow,
            from: Some(taken),
        };
        provider.create(&request).await.expect_err("nothing is left to begin from");
    } else {
        unsupported(taken.map(drop));
        let (service, from) = (shop(), Some(Snapshot("x".to_owned())));
        let request = CreateRequest { id: InstanceId(32), service, tier: Tier::Shadow, from };
        unsupported(provider.create(&request).await.map(drop));
    }
    provider.destroy(&handle, GRACE).await.unwrap();
    assert_eq!(subject.running(), []);
}

fn unsupported(outcome: Result<(), ProviderError>) {
    let error = outcome.expect_err("what cannot be done is said, not faked");
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error}");
}

async fn exit_is_seen(subject: &dyn Subject) {
    let provider = subject.provider();
    let handle = made(&provider, 41).await;
    let other = made(&provider, 42).await;
    let waiting = {
        let (provider, handle) = (Arc::clone(&provider), handle.clone());
        tokio::spawn(async move { provider.exited(&handle).await })
    };
    subject.kill(handle.id);
    let seen = tokio::time::timeout(SEEN, waiting).await.expect("its end is seen").unwrap();
    assert!(!seen.0.is_empty());
    let again = tokio::time::timeout(SEEN, provider.exited(&handle)).await;
    assert_eq!(again.expect("and seen again at once"), seen);
    let quiet = tokio::time::timeout(Duration::from_millis(50), provider.exited(&other)).await;
    assert!(quiet.is_err(), "the other has not ended: {quiet:?}");
    provider.destroy(&handle, GRACE).await.expect("what has ended by itself is cleaned up");
    assert_eq!(subject.running(), [other.id]);
    provider.destroy(&other, GRACE).await.unwrap();
}

async fn adopted(subject: &dyn Subject) {
    let first = subject.provider();
    let (stays, goes) = (made(&first, 51).await, made(&first, 52).await);
    drop(first);
    subject.kill(goes.id);
    let what = format!("{} is gone", goes.id);
    until(&what, || (!subject.running().contains(&goes.id)).then_some(())).await;

    let second = subject.provider();
    assert_eq!(second.adopt(&stays).await.unwrap(), Adoption::Running);
    let gone = second.adopt(&goes).await.unwrap();
    assert!(matches!(gone, Adoption::Gone(_)), "{gone:?}");
    let sweep = Sweep { keep: vec![stays.id], lost: vec![goes.id] };
    second.sweep(&sweep).await.unwrap();
    assert_eq!(subject.running(), [stays.id], "taken over, not made again");
    if second.capabilities().freeze {
        second.freeze(&stays).await.unwrap();
        second.thaw(&stays).await.unwrap();
    }
    ready(&stays).await;
    subject.kill(stays.id);
    let seen = tokio::time::timeout(SEEN, second.exited(&stays)).await;
    seen.expect("the end of one taken over is seen");
    second.destroy(&stays, GRACE).await.unwrap();
}

async fn swept(subject: &dyn Subject) {
    let first = subject.provider();
    let keep = made(&first, 61).await;
    made(&first, 62).await;
    let third = made(&first, 63).await;
    if first.capabilities().freeze {
        first.freeze(&third).await.unwrap();
    }
    drop(first);
    let second = subject.provider();
    assert_eq!(second.adopt(&keep).await.unwrap(), Adoption::Running);
    // The last was intended and never seen.
    let sweep = Sweep { keep: vec![keep.id], lost: vec![InstanceId(63), InstanceId(64)] };
    assert!(second.sweep(&sweep).await.unwrap() >= 2);
    assert_eq!(subject.running(), [keep.id]);
    assert_eq!(second.sweep(&sweep).await.unwrap(), 0, "nothing is left to sweep");
    assert!(answers(keep.address).await);
    second.destroy(&keep, GRACE).await.unwrap();
}
