//! Orders: the newest wish, one call at a time, failures, and what a restart knows of them.

use std::sync::atomic::Ordering;

use foreshadow_shadow::{ScaleEvent, ScaledService};

use crate::support::until;
use crate::{Bench, Script};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_wish_is_asked_for_and_one_call_is_made_at_a_time() {
    let script = Script::new(1, &["10.0.0.1:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("the number there is", |view| view.wanted).await;
    bench.script.gate.forget_permits(1_000);
    bench.wish(Some(3));
    until("the first order", || (bench.script.orders().len() == 1).then_some(())).await;
    bench.wish(Some(4));
    bench.wish(Some(5));
    bench.script.gate.add_permits(10);
    bench.sees("the newest to be taken", |view| (view.asked == Some(5)).then_some(())).await;
    assert_eq!(bench.script.orders(), ["scale 3", "scale 5"]);
    // One that was taken is not asked for again while it stands, and is when it is given anew.
    bench.looks(3).await;
    assert_eq!(bench.script.orders().len(), 2);
    bench.wish(None);
    bench.looks(2).await;
    bench.wish(Some(5));
    until("the order to be given anew", || (bench.script.orders().len() == 3).then_some(())).await;
    let taken = |event: &&ScaleEvent| matches!(event, ScaleEvent::Taken { .. });
    assert!(bench.events.iter().filter(taken).count() >= 1, "{:?}", bench.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_once_asked_again_after_pauses_and_dropped_when_withdrawn() {
    let script = Script::new(1, &["10.0.0.1:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("the number there is", |view| view.wanted).await;
    bench.script.fails.store(true, Ordering::Release);
    bench.wish(Some(3));
    bench.sees("two failures", |view| (view.failures >= 2).then_some(())).await;
    let view = bench.view();
    assert_eq!((view.asked, view.asking), (None, Some(3)));
    assert!(view.trouble.unwrap().contains("asked the test: it fails"));
    assert!(view.retry_in_ms <= 60_000 && view.calls.1 >= 2);
    let known: Vec<_> = view.primaries.iter().map(|primary| primary.address.to_string()).collect();
    assert_eq!(known, ["10.0.0.1:80"], "nobody is taken away for it");
    let failed = |event: &&ScaleEvent| matches!(event, ScaleEvent::Failed { .. });
    assert_eq!(bench.events.iter().filter(failed).count(), 1, "{:?}", bench.events);
    let before = bench.script.orders().len();
    bench.wish(None);
    bench.script.fails.store(false, Ordering::Release);
    bench.sees("an answer", |view| view.trouble.is_none().then_some(())).await;
    assert_eq!(bench.script.orders().len(), before, "what is withdrawn is not asked for again");
    let recovered = |event: &ScaleEvent| matches!(event, ScaleEvent::Recovered { .. });
    assert!(bench.events.iter().any(recovered), "{:?}", bench.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_refused_does_not_keep_from_looking() {
    let script = Script::new(1, &["10.0.0.1:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("the number there is", |view| view.wanted).await;
    bench.script.refuses.store(true, Ordering::Release);
    bench.wish(Some(3));
    bench.sees("the refusal", |view| view.trouble.clone()).await;
    bench.script.set(&["10.0.0.1:80", "10.0.0.2:80"], &[]);
    let two = |view: &ScaledService| (view.primaries.len() == 2).then_some(());
    bench.sees("another primary all the same", two).await;
    let view = bench.view();
    assert!(view.trouble.unwrap().contains("no more of them"), "it stands while the order does");
    assert!(bench.script.orders().len() <= 2, "{:?}", bench.script.orders());
    bench.wish(None);
    bench.sees("the end of it", |view| view.trouble.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_heard_the_answer_to_is_found_after_a_restart() {
    let script = Script::new(1, &["10.0.0.1:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("the number there is", |view| view.wanted).await;
    bench.script.gate.forget_permits(1_000);
    bench.wish(Some(3));
    until("the order", || (bench.script.orders().len() == 1).then_some(())).await;
    // It is carried out there, and the answer is never heard.
    let mut bench = bench.restart().await;
    let view = bench.sees("what was asked", |view| view.asked.map(|_| view.clone())).await;
    assert_eq!((view.asked, view.wanted, view.original), (Some(3), Some(3), Some(1)));
    assert_eq!(bench.script.orders().len(), 1, "it is not asked twice");
    // One that was not carried out is forgotten.
    bench.wish(Some(4));
    until("another order", || (bench.script.orders().len() == 2).then_some(())).await;
    bench.script.answer.lock().unwrap().wanted = 3;
    let bench = bench.restart().await;
    bench.looks(2).await;
    assert_eq!((bench.view().asked, bench.view().wanted), (Some(3), Some(3)));
}
