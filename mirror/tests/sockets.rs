//! The mirrorer against real sockets: what a target receives, and what is made of its answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foreshadow_control::{InstanceId, MirrorSummary, ServiceName};
use foreshadow_mirror::{MirrorPolicy, Mirrorer, Original};
use http::{HeaderMap, HeaderValue, Method, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

const ONE: InstanceId = InstanceId(1);
const TWO: InstanceId = InstanceId(2);

/// What a target does with a request.
#[derive(Clone)]
enum Answer {
    /// Answers with this.
    With(&'static str),
    /// Answers with this, then closes without saying so in the answer.
    ThenClose(&'static str),
    /// Holds the request until a permit is there, then answers 200.
    Held(Arc<Semaphore>),
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const ERROR: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// A target that tells of every connection and the head of every request.
struct Backend {
    address: SocketAddr,
    heads: mpsc::UnboundedReceiver<String>,
    connections: Arc<Mutex<u32>>,
}

impl Backend {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (tell, heads) = mpsc::unbounded_channel();
        let connections = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().expect("nobody panics with it") += 1;
                tokio::spawn(serve(stream, answer.clone(), tell.clone()));
            }
        });
        Self { address, heads, connections }
    }

    async fn next_head(&mut self) -> String {
        within(self.heads.recv()).await.expect("the backend runs as long as its test")
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, tell: mpsc::UnboundedSender<String>) {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&chunk[..n]),
        }
        let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head: Vec<u8> = read.drain(..end + 4).collect();
        if tell.send(String::from_utf8_lossy(&head).into_owned()).is_err() {
            return;
        }
        let text = match &answer {
            Answer::With(text) | Answer::ThenClose(text) => text,
            Answer::Held(permits) => {
                permits.acquire().await.expect("it is never closed").forget();
                OK
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err()
            || matches!(answer, Answer::ThenClose(_))
        {
            return;
        }
    }
}

fn shop() -> ServiceName {
    "shop".into()
}

fn everything() -> MirrorPolicy {
    MirrorPolicy { share: 1.0, timeout: Duration::from_secs(10), ..MirrorPolicy::default() }
}

fn mirrorer(policy: MirrorPolicy) -> Mirrorer {
    Mirrorer::spawn(BTreeMap::from([(shop(), policy)]), Handle::current())
}

fn original() -> Original {
    Original {
        service: shop(),
        method: Method::GET,
        uri: Uri::from_static("/cart?id=7"),
        headers: HeaderMap::from_iter([(
            http::header::HOST,
            HeaderValue::from_static("shop.test"),
        )]),
        status: 200,
        latency_ms: 5.0,
    }
}

async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("should have happened long ago")
}

/// Waits until so many copies of an instance have been compared.
async fn compared(mirrorer: &Mirrorer, instance: InstanceId, count: u64) -> MirrorSummary {
    within(async {
        loop {
            let summary = mirrorer.summaries().get(&instance).copied().unwrap_or_default();
            if summary.compared >= count {
                return summary;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_copy_reaches_every_target_marked_and_agreement_is_counted() {
    let mut good = Backend::start(Answer::With(OK)).await;
    let mut bad = Backend::start(Answer::With(ERROR)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, good.address), (TWO, bad.address)]);

    assert!(mirrorer.wants(&shop(), &Method::GET));
    assert!(mirrorer.offer(original()));

    for backend in [&mut good, &mut bad] {
        let head = backend.next_head().await;
        assert!(head.starts_with("GET /cart?id=7 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nx-foreshadow-mirror: 1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: shop.test\r\n"), "{head}");
    }
    let agreed = compared(&mirrorer, ONE, 1).await;
    assert_eq!((agreed.compared, agreed.agreed), (1, 1));
    assert!((agreed.original_sum_ms - 5.0).abs() < 1e-9, "{agreed:?}");
    assert!(agreed.copy_sum_ms > 0.0, "{agreed:?}");
    let disagreed = compared(&mirrorer, TWO, 1).await;
    assert_eq!((disagreed.compared, disagreed.agreed), (1, 0));
    let stats = mirrorer.stats();
    assert_eq!((stats.offered, stats.sent, stats.failed, stats.dropped), (1, 2, 0, 0));
}

#[tokio::test]
async fn requests_with_side_effects_are_refused_whatever_was_wanted() {
    let mut backend = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);

    assert!(!mirrorer.wants(&shop(), &Method::POST));
    assert!(!mirrorer.offer(Original { method: Method::POST, ..original() }));
    assert_eq!(mirrorer.stats().refused, 1);

    // What arrives first is the request offered second.
    assert!(mirrorer.offer(Original { uri: Uri::from_static("/second"), ..original() }));
    assert!(backend.next_head().await.starts_with("GET /second "));
    assert_eq!(mirrorer.stats().sent, 1);
}

#[tokio::test]
async fn what_failed_in_service_is_no_yardstick_for_a_shadow() {
    let mut shadow = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(InstanceId(1), shadow.address)]);
    assert!(!mirrorer.offer(Original { status: 500, ..original() }));
    assert!(mirrorer.offer(original()));
    let summary = compared(&mirrorer, InstanceId(1), 1).await;
    assert_eq!((summary.compared, summary.agreed), (1, 1));
    shadow.next_head().await;
    assert_eq!(mirrorer.stats().sent, 1);
}

#[tokio::test]
async fn nothing_is_kept_of_instances_that_no_longer_exist() {
    let shadow = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(everything());
    let at = |id| (InstanceId(id), shadow.address);
    mirrorer.set_targets(&shop(), &[at(1), at(2)]);
    mirrorer.set_targets(&shop(), &[at(2)]);
    mirrorer.retain(|instance| instance == InstanceId(2));
    assert_eq!(mirrorer.summaries().into_keys().collect::<Vec<_>>(), [InstanceId(2)]);
}

#[tokio::test]
async fn nothing_is_wanted_without_targets_policy_or_share() {
    let backend = Backend::start(Answer::With(OK)).await;
    let mirrored = mirrorer(everything());
    assert!(!mirrored.wants(&shop(), &Method::GET), "no targets");
    assert!(!mirrored.offer(original()), "no targets");
    mirrored.set_targets(&"other".into(), &[(ONE, backend.address)]);
    assert!(!mirrored.wants(&"other".into(), &Method::GET), "no policy");

    let never = mirrorer(MirrorPolicy { share: 0.0, ..everything() });
    never.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!((0..1000).all(|_| !never.wants(&shop(), &Method::GET)));

    let half = mirrorer(MirrorPolicy { share: 0.5, ..everything() });
    half.set_targets(&shop(), &[(ONE, backend.address)]);
    let wanted = (0..10_000).filter(|_| half.wants(&shop(), &Method::GET)).count();
    // Ten standard deviations of a fair draw to either side.
    assert!((4_500..=5_500).contains(&wanted), "{wanted} of 10000");
}

#[tokio::test]
async fn a_full_queue_drops_and_never_blocks_or_disturbs_other_targets() {
    let permits = Arc::new(Semaphore::new(0));
    let mut held = Backend::start(Answer::Held(Arc::clone(&permits))).await;
    let quick = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(MirrorPolicy { max_in_flight: 1, queue: 2, ..everything() });
    mirrorer.set_targets(&shop(), &[(ONE, held.address)]);

    assert!(mirrorer.offer(original()));
    held.next_head().await;
    // One copy is under way now and nothing waits: two more fit, the rest does not.
    let taken: Vec<bool> = (0..6).map(|_| mirrorer.offer(original())).collect();
    assert_eq!(taken, [true, true, false, false, false, false]);
    assert_eq!(mirrorer.stats().dropped, 4);

    mirrorer.set_targets(&shop(), &[(ONE, held.address), (TWO, quick.address)]);
    assert!(mirrorer.offer(original()), "the other target has room");
    assert_eq!(compared(&mirrorer, TWO, 1).await.agreed, 1);
    assert_eq!(mirrorer.summaries()[&ONE].compared, 0);

    permits.add_permits(3);
    assert_eq!(compared(&mirrorer, ONE, 3).await.agreed, 3);
    assert_eq!(*held.connections.lock().unwrap(), 1, "one connection carries them all");
}

#[tokio::test]
async fn a_target_that_is_gone_fails_and_disagrees() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, address)]);
    assert!(mirrorer.offer(original()));
    let summary = compared(&mirrorer, ONE, 1).await;
    assert_eq!((summary.compared, summary.agreed), (1, 0));
    assert_eq!(mirrorer.stats().failed, 1);
}

#[tokio::test]
async fn a_silent_target_runs_into_the_timeout() {
    let mut backend = Backend::start(Answer::Held(Arc::new(Semaphore::new(0)))).await;
    let timeout = Duration::from_millis(50);
    let mirrorer = mirrorer(MirrorPolicy { timeout, ..everything() });
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(original()));
    backend.next_head().await;
    let summary = compared(&mirrorer, ONE, 1).await;
    assert_eq!(summary.agreed, 0);
    assert!(summary.copy_sum_ms >= 50.0, "{summary:?}");
    assert_eq!(mirrorer.stats().failed, 1);
}

#[tokio::test]
async fn an_answer_that_is_not_http_disagrees() {
    let backend = Backend::start(Answer::With("SSH-2.0-nonsense\r\n\r\n")).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(original()));
    assert_eq!(compared(&mirrorer, ONE, 1).await.agreed, 0);
    assert_eq!(mirrorer.stats().failed, 1);
}

#[tokio::test]
async fn connections_closed_while_idle_are_not_held_against_the_target() {
    let backend = Backend::start(Answer::ThenClose(OK)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    for sent in 1..=20 {
        assert!(mirrorer.offer(original()));
        let summary = compared(&mirrorer, ONE, sent).await;
        assert_eq!(summary.agreed, sent, "{:?}", mirrorer.stats());
    }
    assert_eq!(mirrorer.stats().failed, 0);
}

#[tokio::test]
async fn copies_to_a_removed_target_are_abandoned_and_do_not_count() {
    let permits = Arc::new(Semaphore::new(0));
    let mut backend = Backend::start(Answer::Held(Arc::clone(&permits))).await;
    let mirrorer = mirrorer(MirrorPolicy { max_in_flight: 1, ..everything() });
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(original()));
    assert!(mirrorer.offer(Original { uri: Uri::from_static("/waiting"), ..original() }));
    backend.next_head().await;

    mirrorer.set_targets(&shop(), &[]);
    assert!(!mirrorer.wants(&shop(), &Method::GET));
    assert!(!mirrorer.offer(original()));

    // Back again: the copy that waited before is not what arrives next.
    permits.add_permits(100);
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(Original { uri: Uri::from_static("/back"), ..original() }));
    assert!(backend.next_head().await.starts_with("GET /back "));
    let summary = compared(&mirrorer, ONE, 1).await;
    assert_eq!((summary.compared, summary.agreed), (1, 1));
}

#[tokio::test]
async fn a_forgotten_instance_leaves_nothing_behind() {
    let backend = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(original()));
    compared(&mirrorer, ONE, 1).await;
    mirrorer.forget(ONE);
    assert!(mirrorer.summaries().is_empty());
    assert!(!mirrorer.wants(&shop(), &Method::GET));
}

#[tokio::test]
async fn a_reload_keeps_targets_and_what_is_known_of_them() {
    let backend = Backend::start(Answer::With(OK)).await;
    let mirrorer = mirrorer(everything());
    mirrorer.set_targets(&shop(), &[(ONE, backend.address)]);
    assert!(mirrorer.offer(original()));
    compared(&mirrorer, ONE, 1).await;

    let slower = MirrorPolicy { max_in_flight: 1, ..everything() };
    mirrorer.set_policies(BTreeMap::from([(shop(), slower)]));
    assert!(mirrorer.offer(original()));
    assert_eq!(compared(&mirrorer, ONE, 2).await.agreed, 2);

    mirrorer.set_policies(BTreeMap::new());
    assert!(!mirrorer.wants(&shop(), &Method::GET));
    assert!(!mirrorer.offer(original()));
}
