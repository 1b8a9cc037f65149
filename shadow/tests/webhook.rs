//! What a webhook provider meets: endpoints that are away, busy, slow, wordy or wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreshadow_control::{InstanceId, Tier};
use foreshadow_shadow::{
    Adoption, BearerToken, Capabilities, Cause, Concurrency, CpuShare, CreateRequest, Facility,
    Handle, Provider, ProviderError, ServiceShadows, Sweep, Traits, WebhookProvider, WebhookSpec,
};
use support::{endpoint_at, host, shop};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// What was asked: the request line, headers by small name, the body.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// An endpoint that gives one whole answer after the other, the last one again and again.
async fn endpoint(answers: Vec<String>) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/base", listener.local_addr().unwrap());
    (address, serve(listener, answers))
}

fn serve(listener: TcpListener, answers: Vec<String>) -> Log {
    let log = Log::default();
    let kept = Arc::clone(&log);
    tokio::spawn(async move {
        for turn in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            let headers: Vec<_> = head[1..]
                .iter()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let mut asked = Asked { line: head[0].clone(), headers, body: String::new() };
            let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            asked.body = String::from_utf8(body).unwrap();
            kept.lock().unwrap().push(asked);
            let answer = &answers[answers.len().min(turn + 1) - 1];
            if answer == "hang" {
                let held = stream;
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                });
            } else if stream.write_all(answer.as_bytes()).await.is_err() {
                // It had heard enough.
            }
        }
    });
    log
}

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

const MADE: &str = r#"{"instance": "i7", "address": "127.0.0.1:7"}"#;

fn provider(
    dir: &Path,
    endpoint: &str,
    change: impl FnOnce(&mut WebhookSpec),
) -> Arc<dyn Provider> {
    let traits = Traits { poll: Duration::from_secs(600), ..Traits::default() };
    let token = Some(BearerToken("secret-token".to_owned()));
    let mut spec = WebhookSpec { endpoint: endpoint_at(endpoint), token, traits };
    change(&mut spec);
    WebhookProvider::new(&host(dir, Facility::None), spec)
}

fn request(id: u64) -> CreateRequest {
    CreateRequest { id: InstanceId(id), service: shop(), tier: Tier::Warm, from: None }
}

async fn make(endpoint: &str) -> Result<Handle, (Cause, String)> {
    let dir = tempfile::tempdir().unwrap();
    provider(dir.path(), endpoint, |_| {}).create(&request(7)).await.map_err(|error| match &error {
        ProviderError::Refused { cause, .. } => (*cause, error.to_string()),
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn an_order_is_repeated_with_its_key_after_the_pause_that_was_asked_for() {
    let busy = answer("429 Too Many Requests", "retry-after: 1\r\n", "");
    let broken = answer("503 Service Unavailable", "", "oops");
    let (address, log) = endpoint(vec![busy, broken, answer("200 OK", "", MADE)]).await;
    let begun = Instant::now();
    let made = make(&address).await.unwrap();
    assert_eq!(made.address, "127.0.0.1:7".parse().unwrap());
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After was not kept");
    let asked: Vec<Asked> =
        log.lock().unwrap().iter().filter(|a| a.line.starts_with("PUT")).cloned().collect();
    assert_eq!(asked.len(), 3);
    let owner = asked[0].header("idempotency-key").unwrap().split('-').next().unwrap().to_owned();
    for ask in &asked {
        assert_eq!(ask.line, format!("PUT /base/v1/owners/{owner}/instances/i7 HTTP/1.1"));
        assert_eq!(ask.header("idempotency-key").unwrap(), format!("{owner}-i7-create"));
        assert_eq!(ask.header("authorization").unwrap(), "Bearer secret-token");
        let body: serde_json::Value = serde_json::from_str(&ask.body).unwrap();
        let expected = serde_json::json!({
            "owner": owner, "instance": "i7", "service": "shop", "tier": "warm"
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn what_passes_is_tried_four_times_and_what_lasts_once() {
    let (address, log) = endpoint(vec![answer("500 Internal Server Error", "", "")]).await;
    let (cause, text) = make(&address).await.unwrap_err();
    assert_eq!(cause, Cause::Failed);
    assert!(text.contains("/instances/i7 4 times: 500 Internal Server Error"), "{text}");
    let count =
        |method: &str| log.lock().unwrap().iter().filter(|a| a.line.starts_with(method)).count();
    assert_eq!((count("PUT"), count("DELETE")), (4, 4), "and what it may have made is undone");

    let quota = r#"{"error": {"kind": "quota", "message": "8 of 8"}}"#;
    let (address, log) = endpoint(vec![answer("429 Too Many Requests", "", quota)]).await;
    let (cause, text) = make(&address).await.unwrap_err();
    assert_eq!(cause, Cause::Quota);
    assert!(text.contains(": 8 of 8; raise the quota"), "{text}");
    assert_eq!(log.lock().unwrap().len(), 2, "one order, one undoing");

    let later = answer("503 Service Unavailable", "retry-after: 3600\r\n", "");
    let (address, log) = endpoint(vec![later]).await;
    let (cause, text) = make(&address).await.unwrap_err();
    assert_eq!(cause, Cause::Busy);
    assert!(text.contains("to be asked again after 3600 s"), "{text}");
    assert_eq!(log.lock().unwrap().len(), 2, "nobody waits an hour in a step");
}

#[tokio::test]
async fn an_endpoint_that_is_away_denies_or_has_a_full_disk_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (cause, text) = make(&format!("http://{free}")).await.unwrap_err();
    assert_eq!(cause, Cause::NotAsked);
    let begin = format!("asked http://{free} to create: PUT /v1/owners/");
    assert!(text.starts_with(&begin), "{text}");
    assert!(
        text.contains("no connection: Connection refused") && text.contains("the address is right"),
        "{text}"
    );
    let (cause, text) = make("unix:/no/such/socket").await.unwrap_err();
    assert_eq!(cause, Cause::NotAsked);
    assert!(text.contains("No such file"), "{text}");
    for (status, expected, says) in [
        ("401 Unauthorized", Cause::Denied, "set the right token"),
        ("403 Forbidden", Cause::Denied, "give this account the right"),
        ("507 Insufficient Storage", Cause::DiskFull, "make room"),
        ("404 Not Found", Cause::Failed, "404 Not Found with \"nothing here\""),
    ] {
        let (address, _log) = endpoint(vec![answer(status, "", "nothing here")]).await;
        let (cause, text) = make(&address).await.unwrap_err();
        assert_eq!(cause, expected);
        assert!(text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_hangs_floods_or_breaks_off_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (address, _log) = endpoint(vec!["hang".to_owned()]).await;
    let short = |spec: &mut WebhookSpec| spec.traits.timeout = Duration::from_millis(200);
    let error = provider(dir.path(), &address, short).create(&request(7)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { cause: Cause::Late, .. }), "{error}");
    assert!(error.to_string().contains("no answer within 200 ms"), "{error}");

    let (address, _log) = endpoint(vec![answer("200 OK", "", &" ".repeat(2 << 20))]).await;
    let (cause, text) = make(&address).await.unwrap_err();
    assert_eq!(cause, Cause::Malformed);
    assert!(text.contains("more than 1048576 bytes"), "{text}");

    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    let (address, _log) = endpoint(vec![cut]).await;
    let (cause, text) = make(&address).await.unwrap_err();
    assert_eq!(cause, Cause::Unreachable);
    assert!(text.contains("no whole answer"), "{text}");
    let (address, _log) = endpoint(vec!["what?\r\n\r\n".to_owned()]).await;
    assert_eq!(make(&address).await.unwrap_err().0, Cause::Unreachable);
}

#[tokio::test]
async fn what_is_already_gone_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (address, log) =
        endpoint(vec![answer("200 OK", "", MADE), answer("404 Not Found", "", "")]).await;
    let provider = provider(dir.path(), &address, |_| {});
    let made = provider.create(&request(7)).await.unwrap();
    provider.destroy(&made, Duration::from_secs(3)).await.unwrap();
    let asked = log.lock().unwrap().clone();
    let delete = asked.iter().find(|a| a.line.starts_with("DELETE")).unwrap();
    assert!(delete.line.contains("/instances/i7?grace_ms=3000 "), "{}", delete.line);
}

#[tokio::test]
async fn the_tiers_of_a_function_are_figures_of_concurrency() {
    let dir = tempfile::tempdir().unwrap();
    let (address, log) = endpoint(vec![answer("200 OK", "", MADE)]).await;
    let figures = Concurrency { shadow: 0, warm: 2, full: 50 };
    let provider = provider(dir.path(), &address, |spec| spec.traits.concurrency = Some(figures));
    let can = Capabilities { freeze: true, resize: true, snapshot: false };
    assert_eq!(provider.capabilities(), can);
    let made = provider.create(&request(7)).await.unwrap();
    provider.freeze(&made).await.unwrap();
    provider.set_share(&made, CpuShare::Percent(20)).await.unwrap();
    provider.thaw(&made).await.unwrap();
    provider.set_share(&made, CpuShare::Unlimited).await.unwrap();
    let asked = log.lock().unwrap().clone();
    let figures: Vec<u64> = asked
        .iter()
        .filter(|a| a.line.starts_with("PUT"))
        .map(|a| {
            serde_json::from_str::<serde_json::Value>(&a.body).unwrap()["concurrency"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(figures, [50, 0, 2, 2, 50], "made at full size, parked, warmed, thawed, full");
    let sizes = asked.iter().filter(|a| a.line.contains("/instances/i7/size "));
    assert_eq!(sizes.count(), 4);
}

#[tokio::test]
async fn an_endpoint_that_is_away_at_start_holds_up_creations_not_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = provider(dir.path(), &format!("http://{free}"), |_| {});
    let sweep = Sweep { keep: vec![], lost: vec![InstanceId(2)] };
    assert_eq!(provider.sweep(&sweep).await.unwrap(), 0);
    let error = provider.create(&request(7)).await.unwrap_err();
    assert!(error.to_string().contains("to list"), "{error}");
    let known = Handle {
        id: InstanceId(5),
        service: shop(),
        address: "127.0.0.1:9".parse().unwrap(),
        pid: None,
        state: format!("{{\"place\": {:?}}}", provider.place()),
    };
    assert_eq!(provider.adopt(&known).await.unwrap(), Adoption::Running, "taken to run");
    let elsewhere = Handle { state: "{\"place\": \"x\"}".to_owned(), ..known };
    let adoption = provider.adopt(&elsewhere).await.unwrap();
    assert!(matches!(adoption, Adoption::OutOfReach(_)), "{adoption:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_hang_do_not_keep_a_balancer_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), Facility::None);
    let mut services = Vec::new();
    let mut logs = Vec::new();
    for name in ["a", "b", "c"] {
        let (address, log) = endpoint(vec!["hang".to_owned()]).await;
        let spec = WebhookSpec {
            endpoint: endpoint_at(&address),
            token: None,
            traits: Traits { timeout: Duration::from_secs(600), ..Traits::default() },
        };
        services.push(ServiceShadows::new(name.into(), WebhookProvider::new(&host, spec)));
        logs.push(log);
    }
    let start = support::start(dir.path(), &host, services);
    // Each of the three would be waited for ten minutes.
    let started = tokio::time::timeout(Duration::from_secs(60), start).await;
    let manager = started.expect("it waits for a provider that hangs").unwrap();
    assert!(logs.iter().all(|log| !log.lock().unwrap().is_empty()), "each was asked");
    manager.shutdown().await;
}

#[tokio::test]
async fn what_was_never_asked_is_not_undone() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = provider(dir.path(), &format!("http://{free}/base"), |_| {});
    let error = provider.create(&request(7)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Refused { cause: Cause::NotAsked, .. }), "{error}");
    let made = answer("200 OK", "", MADE).replace("i7", "i8");
    let log = serve(TcpListener::bind(free).await.unwrap(), vec![made]);
    let made = provider.create(&request(8)).await.unwrap();
    let asked: Vec<String> = log.lock().unwrap().iter().map(|a| a.line.clone()).collect();
    assert!(asked.iter().all(|line| !line.starts_with("DELETE")), "{asked:?}");
    provider.destroy(&made, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_new_token_serves_shadows_made_under_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (address, log) = endpoint(vec![answer("200 OK", "", MADE)]).await;
    let host = host(dir.path(), Facility::None);
    let of = |token: &str| {
        let spec = WebhookSpec {
            endpoint: endpoint_at(&address),
            token: Some(BearerToken(token.to_owned())),
            traits: Traits { poll: Duration::from_secs(600), ..Traits::default() },
        };
        WebhookProvider::new(&host, spec)
    };
    let old = of("old-token");
    let made = old.create(&request(7)).await.unwrap();
    let new = of("new-token");
    // Another service that names none takes none away; the configuration refuses that anyway.
    let mut without =
        WebhookSpec { endpoint: endpoint_at(&address), token: None, traits: Traits::default() };
    without.traits.poll = Duration::from_secs(600);
    let other = WebhookProvider::new(&host, without);
    assert_eq!(old.place(), other.place());
    assert_eq!(old.fingerprint(), new.fingerprint(), "no reason to replace anything");
    old.destroy(&made, Duration::ZERO).await.unwrap();
    let asked = log.lock().unwrap().clone();
    let delete = asked.iter().find(|a| a.line.starts_with("DELETE")).unwrap();
    assert_eq!(delete.header("authorization").unwrap(), "Bearer new-token");
}
