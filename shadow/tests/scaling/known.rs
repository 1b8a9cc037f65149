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

/// Who is ready, by the last part of the address.
fn ready(view: &ScaledService) -> Vec<u8> {
    let ready = view.primaries.iter().filter(|primary| primary.ready);
    let last = |primary: &ScaledPrimary| match primary.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => ip.octets()[15],
    };
    let mut last: Vec<u8> = ready.map(last).collect();
    last.sort_unstable();
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drops_most_of_them_is_not_believed_until_it_has_said_so_for_long() {
    const FOUR: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];
    let mut bench = Bench::start(Script::new(4, &FOUR)).await;
    bench.sees("all of them", |view| (ready(view).len() == 4).then_some(())).await;
    // One of four, and half of them, may go in two looks.
    bench.script.set(&FOUR[..3], &[]);
    bench.sees("one to be gone", |view| (view.primaries.len() == 3).then_some(())).await;
    bench.script.set(&FOUR, &[]);
    bench.sees("it to be back", |view| (ready(view).len() == 4).then_some(())).await;
    // Three of four are another thing. Whoever is new is taken all the same.
    bench.script.set(&["10.0.0.4:80", "10.0.0.5:80", "10.0.0.6:80", "10.0.0.7:80"], &[]);
    let doubted = bench.sees("the doubt", |view| view.trouble.clone()).await;
    let told = "its answer lists 3 of 4 ready primaries no longer, though 4 are wanted";
    assert!(doubted.contains(told) && doubted.contains("shadows stand in"), "{doubted}");
    bench.looks(5).await;
    let view = bench.view();
    assert_eq!(ready(&view), [1, 2, 3, 4, 5, 6, 7]);
    let unlisted = view.primaries.iter().filter(|primary| primary.unlisted);
    assert_eq!(
        unlisted.map(|primary| primary.address).collect::<Vec<_>>(),
        crate::addresses(&FOUR[..3])
    );
    // They are listed again: all is as before.
    bench.script.set(&FOUR, &["10.0.0.5:80", "10.0.0.6:80", "10.0.0.7:80"]);
    bench.sees("the doubt to be over", |view| view.trouble.is_none().then_some(())).await;
    assert!(bench.view().primaries.iter().all(|primary| !primary.unlisted));
    // That fewer are wanted is a reason to believe it at once.
    bench.script.answer.lock().unwrap().wanted = 1;
    bench.script.set(&FOUR[..1], &[]);
    bench.sees("the others to be gone", |view| (ready(view) == [1]).then_some(())).await;
    let failed = bench.events.iter().filter(|e| matches!(e, ScaleEvent::Failed { .. })).count();
    assert_eq!(failed, 1, "told once: {:?}", bench.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_primary_by_another_name_is_refused_and_no_primary_is_two() {
    let mut bench = Bench::start(Script::new(1, &["10.0.0.1:80"])).await;
    bench.sees("the number there is", |view| view.wanted).await;
    bench.script.set(&["[::ffff:10.0.0.1]:80", "10.0.0.1:80"], &[]);
    bench.looks(3).await;
    let primaries = bench.view().primaries;
    assert_eq!(primaries.len(), 1, "{primaries:?}");
    for address in ["[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"] {
        bench.script.set(&[address], &[]);
        let has = |view: &ScaledService| view.trouble.clone();
        let text = bench.sees("a refusal", has).await;
        assert!(text.contains("127.0.0.1:8080, where requests would go round"), "{text}");
        bench.script.set(&["10.0.0.1:80"], &[]);
        bench.sees("a good answer", |view| view.trouble.is_none().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_no_primary() {
    let mut bench = Bench::start(Script::new(1, &["10.0.0.1:80"])).await;
    bench.sees("the number there is", |view| view.wanted).await;
    let (id, address) = bench.shadow().await;
    bench.script.set(&["10.0.0.1:80", &address.to_string()], &[]);
    let text = bench.sees("a refusal", |view| view.trouble.clone()).await;
    assert!(text.contains(&format!("{address}, where shadow {id} of shop is")), "{text}");
    assert_eq!(find(&bench.view(), &address.to_string()), None);
    bench.looks(3).await;
    let view = bench.sees("one more look", |view| Some(view.clone())).await;
    assert!(view.trouble.is_some());
    let failed = bench.events.iter().filter(|e| matches!(e, ScaleEvent::Failed { .. })).count();
    assert_eq!(failed, 1, "told once: {:?}", bench.events);
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
