//! Who is there by the answers: joined, leaving, gone, and what is not believed.

use std::sync::atomic::Ordering;

use foreshadow_shadow::{ScaleEvent, ScaledPrimary, ScaledService};

use crate::{Bench, Script};

fn find(view: &ScaledService, address: &str) -> Option<ScaledPrimary> {
    view.primaries.iter().find(|primary| primary.address.to_string() == address).copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_join_leave_and_are_not_lost_by_one_answer() {
    let script = Script::new(2, &["10.0.0.1:80", "10.0.0.2:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("those that were there", |view| find(view, "10.0.0.2:80")).await;
    let view = bench.view();
    assert!(view.primaries.iter().all(|primary| primary.joined_ms.is_none() && primary.ready));
    assert!(find(&view, "10.0.0.1:80").unwrap().configured);
    assert!(!find(&view, "10.0.0.2:80").unwrap().configured);

    bench.script.set(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], &[]);
    let joined = bench.sees("the new one", |view| find(view, "10.0.0.3:80")).await;
    assert!(joined.joined_ms.is_some() && joined.ready);
    bench.script.set(&["10.0.0.1:80", "10.0.0.2:80"], &["10.0.0.3:80"]);
    let leaving = |view: &ScaledService| find(view, "10.0.0.3:80").filter(|p| p.leaving);
    assert!(!bench.sees("it to leave", leaving).await.ready);
    bench.script.set(&["10.0.0.1:80", "10.0.0.2:80"], &[]);
    let gone = |address: &'static str| {
        move |view: &ScaledService| find(view, address).is_none().then_some(())
    };
    bench.sees("it to be gone", gone("10.0.0.3:80")).await;
    // Without a word: it takes two answers in a row, and the same address is the same instance.
    bench.script.set(&["10.0.0.1:80"], &[]);
    bench.sees("it to be gone", gone("10.0.0.2:80")).await;
    bench.script.set(&["10.0.0.1:80", "10.0.0.3:80"], &[]);
    let again = bench.sees("it to be back", |view| find(view, "10.0.0.3:80")).await;
    assert_eq!(again.id, joined.id);
    let told = |wanted: ScaleEvent| bench.events.iter().filter(|e| **e == wanted).count();
    assert_eq!(told(ScaleEvent::Joined(joined.id, joined.address)), 2, "{:?}", bench.events);
    assert_eq!(told(ScaleEvent::Left(joined.id, joined.address)), 1, "{:?}", bench.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_known_serves_after_a_restart_before_anybody_answers() {
    let script = Script::new(2, &["10.0.0.1:80", "10.0.0.2:80"]);
    let mut bench = Bench::start(script).await;
    let before = bench.sees("both", |view| find(view, "10.0.0.2:80")).await;
    bench.looks(2).await;
    bench.script.fails.store(true, Ordering::Release);
    let bench = bench.restart().await;
    let view = bench.view();
    assert_eq!(view.wanted, None, "nobody has said it");
    let after = find(&view, "10.0.0.2:80").expect("it is known");
    assert_eq!((after.id, after.ready, after.joined_ms), (before.id, true, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_no_primary_is_told_and_nothing_of_that_answer_is_taken() {
    let script = Script::new(1, &["10.0.0.1:80"]);
    let mut bench = Bench::start(script).await;
    bench.sees("the number there is", |view| view.wanted).await;
    let cases = [
        ("10.0.0.9:0", "10.0.0.9:0, to which nobody can connect"),
        ("0.0.0.0:80", "0.0.0.0:80, to which nobody can connect"),
        ("127.0.0.1:8080", "go round in a circle"),
    ];
    for (address, told) in cases {
        bench.script.set(&[address, "10.0.0.2:80"], &[]);
        let has = |view: &ScaledService| view.trouble.clone().filter(|text| text.contains(told));
        let text = bench.sees(told, has).await;
        assert!(text.contains("the test scaler for the primaries of shop"), "{text}");
        assert!(text.contains("see docs/scaling.md; it is asked again"), "{text}");
        assert_eq!(find(&bench.view(), "10.0.0.2:80"), None);
        assert!(find(&bench.view(), "10.0.0.1:80").is_some());
        bench.script.set(&["10.0.0.1:80"], &[]);
        bench.sees("a good answer", |view| view.trouble.is_none().then_some(())).await;
    }
    let many: Vec<String> =
        (0..1_001).map(|n| format!("10.0.{}.{}:80", n / 250, 1 + n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.script.set(&many, &[]);
    let has = |view: &ScaledService| {
        view.trouble.clone().filter(|text| text.contains("1001 primaries, and 1000 are the most"))
    };
    bench.sees("too many", has).await;
}
