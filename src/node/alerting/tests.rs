//! What is told, in which order, and what becomes of it when nobody answers.

use std::collections::BTreeMap;

use foreshadow_config::Endpoint;
use foreshadow_control::{Alert, ServiceName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::turns::OVER_AFTER_TICKS;
use super::*;

fn shortage() -> Alert {
    Alert { kind: AlertKind::Shortage, text: "too little".to_owned(), rule: None }
}

fn news() -> News {
    let turns = Turns::default().follow(1, 5_000, &[shortage()]);
    turns[0].news(&ServiceName::from("shop"))
}

/// Tells all of it, and waits until it is told or given up.
async fn told_to<const N: usize>(
    counts: &Counts,
    all: [News; N],
    webhook: impl Fn() -> Option<AlertWebhook>,
) {
    let (queue, inbox) = mpsc::channel(N.max(1));
    all.into_iter().for_each(|news| queue.try_send(news).unwrap());
    drop(queue);
    run(counts, inbox, webhook).await;
}

fn webhook(authority: String) -> AlertWebhook {
    AlertWebhook {
        url: Endpoint::Tcp { authority, prefix: "/alerts".to_owned() },
        token: None,
        headers: BTreeMap::from([("x-key".to_owned(), "hush-hush".to_owned())]),
        timeout: Duration::from_secs(5),
        give_up: Duration::from_secs(600),
    }
}

/// Answers each request with the next of `statuses`, and gives what was sent.
async fn receiver(statuses: &'static [u16]) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).await.unwrap();
                text += std::str::from_utf8(&part[..read]).unwrap();
            }
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            seen.push(text);
        }
        seen
    });
    (address, task)
}

#[test]
fn an_alert_is_one_beginning_and_one_end_with_one_id() {
    let mut turns = Turns::default();
    let mut told = Vec::new();
    for tick in 0..1_000 {
        let alerts = if tick < 500 && tick % 3 == 0 { vec![shortage()] } else { Vec::new() };
        told.extend(turns.follow(tick, tick * 100, &alerts));
    }
    let news: Vec<News> = told.iter().map(|turn| turn.news(&ServiceName::from("shop"))).collect();
    assert_eq!(news.len(), 2);
    assert_eq!((news[0].state, news[1].state), (State::Begins, State::Ends));
    assert_eq!(news[0].id, news[1].id);
    assert_eq!(news[1].at_ms, (498 + OVER_AFTER_TICKS) * 100);
    assert_eq!(news[0].text, "too little");
}

#[test]
fn what_stands_ends_with_its_service() {
    let mut turns = Turns::default();
    turns.follow(1, 100, &[shortage()]);
    let over = turns.end(300);
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].begins.as_ref(), over[0].kind), (None, AlertKind::Shortage));
}

#[tokio::test]
async fn a_post_has_what_is_needed_and_a_refused_one_is_repeated() {
    let (address, seen) = receiver(&[503, 204]).await;
    let counts = Counts::default();
    told_to(&counts, [news()], || Some(webhook(address.clone()))).await;
    let seen = seen.await.unwrap();
    assert!(seen[0].starts_with("POST /alerts HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("x-key: hush-hush"), "{}", seen[0]);
    let body = |text: &str| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body(&seen[0]), body(&seen[1]), "the same again");
    let told: serde_json::Value = serde_json::from_str(&body(&seen[1]).unwrap()).unwrap();
    assert_eq!(told["id"], "shop/shortage/5000");
    assert_eq!((&told["alert"], &told["state"]), (&"shortage".into(), &"begins".into()));
    assert_eq!(counts.sent.into_inner(), 1);
    assert_eq!(counts.failed_tries.into_inner(), 1);
}

#[tokio::test]
async fn what_the_endpoint_refuses_is_not_asked_again() {
    let (address, seen) = receiver(&[429, 400]).await;
    let counts = Counts::default();
    told_to(&counts, [news()], || Some(webhook(address.clone()))).await;
    assert_eq!(seen.await.unwrap().len(), 2, "too many for now may pass; refused is refused");
    assert_eq!((counts.sent.into_inner(), counts.dropped.into_inner()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_given_up_after_its_time_and_counted() {
    let counts = Counts::default();
    let start = Instant::now();
    let nobody = AlertWebhook {
        url: Endpoint::Unix("/nonexistent/alerts.sock".into()),
        ..webhook(String::new())
    };
    told_to(&counts, [news()], || Some(nobody.clone())).await;
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(480) && waited <= Duration::from_secs(600), "{waited:?}");
    assert_eq!(counts.dropped.into_inner(), 1);
    let tries = counts.failed_tries.into_inner();
    assert!((10..25).contains(&tries), "pauses grow: {tries}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_without_an_endpoint_ends_the_trying() {
    let counts = Counts::default();
    told_to(&counts, [news()], || None).await;
    assert_eq!((counts.sent.into_inner(), counts.dropped.into_inner()), (0, 0));
}

#[test]
fn the_queue_is_bounded_and_the_loop_never_waits() {
    let (alerting, _inbox) = Alerting::new();
    alerting.tell((0..QUEUE + 10).map(|_| news()));
    assert_eq!(alerting.told(), Told { dropped: 10, ..Told::default() });
}

#[tokio::test]
async fn one_that_is_not_taken_does_not_hold_up_the_next() {
    let (address, seen) = receiver(&[500, 204, 204]).await;
    let counts = Counts::default();
    let other = News { id: "shop/no_capacity/7".to_owned(), ..news() };
    told_to(&counts, [news(), other], || Some(webhook(address.clone()))).await;
    let seen = seen.await.unwrap();
    assert!(seen[1].contains("shop/no_capacity/7"), "the other is told before the second try");
    assert!(seen[2].contains("shop/shortage/5000"), "{}", seen[2]);
    assert_eq!((counts.sent.into_inner(), counts.dropped.into_inner()), (2, 0));
}
