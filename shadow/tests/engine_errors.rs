//! What goes wrong with a Docker Engine, shown by a fake one: each is told with what was asked, what
//! came back and what can be done, and nothing is left or pulled that should not be.

mod support;

use std::time::Duration;

use foreshadow_shadow::{
    Cause, CpuShare, DockerProvider, DockerSpec, EngineEndpoint, Provider as _, Pull, TlsFiles,
};
use support::fake_engine::{Fake, Reply, container, refusal};
use support::request;

/// The name that the engine is asked to give.
fn name_of(fake: &Fake) -> String {
    let asked = fake.asked();
    let found = asked.iter().find_map(|one| one.strip_prefix("DELETE /containers/"));
    found.unwrap_or_else(|| panic!("nothing was removed: {asked:?}")).to_owned()
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    let fake = Fake::start(|_, _| None);
    let endpoint = EngineEndpoint::Unix("/nowhere/docker.sock".into());
    let provider = fake.provider(DockerSpec { endpoint, ..fake.spec() });
    let (cause, text) = refusal(provider.create(&request(1)).await);
    assert_eq!(cause, Cause::Unreachable);
    assert!(
        text.contains("the engine at unix:///nowhere/docker.sock to create container"),
        "{text}"
    );
    assert!(text.contains("see whether it runs and the address is right"), "{text}");

    let spec = fake.spec();
    std::fs::remove_file(&fake.socket).unwrap();
    std::os::unix::net::UnixListener::bind(&fake.socket).map(drop).unwrap();
    let (cause, text) = refusal(fake.provider(spec).create(&request(1)).await);
    assert_eq!(cause, Cause::Unreachable, "a socket that nobody listens on: {text}");
}

#[tokio::test]
async fn a_socket_that_may_not_be_used_says_so() {
    if !support::is_root("a socket of another user's") {
        return;
    }
    let fake = Fake::start(|_, _| None);
    // The directory may be entered, so it is the socket that is refused.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(fake.dir.path(), mode(0o777)).unwrap();
    std::fs::set_permissions(&fake.socket, mode(0o600)).unwrap();
    let provider = fake.provider(fake.spec());
    let told = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { refusal(provider.create(&request(1)).await) })
    });
    let (cause, text) = tokio::task::spawn_blocking(|| told.join().unwrap()).await.unwrap();
    assert_eq!(cause, Cause::Denied, "{text}");
    assert!(text.contains("socket's group (docker)"), "{text}");
}

#[tokio::test]
async fn an_engine_too_old_to_be_of_use_says_its_version() {
    let fake = Fake::start(|asked, _| {
        (asked == "GET /version").then(|| Reply::Json(200, r#"{"ApiVersion": "1.24"}"#.to_owned()))
    });
    let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
    assert_eq!(cause, Cause::Version);
    assert!(text.contains("version 1.24 of its API, 1.40 is needed"), "{text}");
    assert!(text.contains("19.03"), "{text}");
    assert_eq!(fake.count("POST /containers/create"), 0);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_pulled_only_where_that_is_allowed() {
    let missing = |asked: &str, before: usize| match (asked, before) {
        ("POST /containers/create", 0) => Some(Reply::refused(404, "No such image: shop:1")),
        ("POST /images/create", _) => Some(Reply::Json(200, "{\"status\": \"done\"}\n".to_owned())),
        _ => None,
    };
    let fake = Fake::start(missing);
    let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
    assert_eq!(cause, Cause::NoImage);
    assert!(text.contains("of image shop:1: 404: No such image: shop:1"), "{text}");
    assert!(text.contains("docker pull") && text.contains("`pull: missing`"), "{text}");
    assert_eq!(fake.count("POST /images/create"), 0, "nothing is pulled");

    let fake = Fake::start(missing);
    let provider = fake.provider(DockerSpec { pull: Pull::Missing, ..fake.spec() });
    let made = provider.create(&request(1)).await.unwrap();
    assert_eq!(made.address, "10.9.8.7:8080".parse().unwrap());
    assert_eq!(fake.count("POST /images/create"), 1);

    let fake = Fake::start(|_, _| None);
    let provider = fake.provider(DockerSpec { pull: Pull::Always, ..fake.spec() });
    provider.create(&request(1)).await.unwrap();
    provider.create(&request(2)).await.unwrap();
    assert_eq!(fake.count("POST /images/create"), 2);
}

#[tokio::test]
async fn pulls_that_hang_keep_nothing_else_from_its_engine() {
    let fake = Fake::start(|asked, _| (asked == "POST /images/create").then_some(Reply::Hang));
    let host = support::host(fake.dir.path(), foreshadow_shadow::Facility::None);
    let made = DockerProvider::new(&host, fake.spec()).create(&request(1)).await.unwrap();
    let mut pulling = tokio::task::JoinSet::new();
    for id in 10..26 {
        let image = format!("shop:{}", id % 4);
        let spec = DockerSpec { pull: Pull::Always, image, ..fake.spec() };
        let provider = DockerProvider::new(&host, spec);
        pulling.spawn(async move { provider.create(&request(id)).await.map(drop) });
    }
    support::until("pulls hang", || (fake.count("POST /images/create") >= 2).then_some(())).await;
    DockerProvider::new(&host, fake.spec()).thaw(&made).await.unwrap();
    assert_eq!(fake.count("POST /images/create"), 2, "an engine fetches few images at a time");
}

#[tokio::test]
async fn a_pull_is_for_all_who_asked_before_it_began() {
    let fake = Fake::start(|asked, _| {
        let done = Reply::Json(200, "{\"status\": \"done\"}\n".to_owned());
        (asked == "POST /images/create").then_some(done)
    });
    let provider = DockerSpec { pull: Pull::Always, ..fake.spec() };
    let provider = std::sync::Arc::new(fake.provider(provider));
    let mut making = tokio::task::JoinSet::new();
    for id in 10..18 {
        let provider = std::sync::Arc::clone(&provider);
        making.spawn(async move { provider.create(&request(id)).await.map(drop) });
    }
    assert!(making.join_all().await.iter().all(Result::is_ok));
    let pulls = fake.count("POST /images/create");
    assert!((1..=2).contains(&pulls), "{pulls} pulls of one image at the same time");
}

#[tokio::test]
async fn a_pull_that_is_refused_says_why() {
    for (message, wanted) in [
        ("toomanyrequests: You have reached your pull rate limit", Cause::Quota),
        (
            "pull access denied for shop, repository does not exist or may require login",
            Cause::NoImage,
        ),
        ("Get \"https://r/v2/\": dial tcp: lookup r: no such host", Cause::Unreachable),
        ("write /var/lib/x: no space left on device", Cause::DiskFull),
    ] {
        let fake = Fake::start(move |asked, _| {
            let error =
                serde_json::json!({ "error": message, "errorDetail": { "message": message } });
            (asked == "POST /images/create").then(|| Reply::Json(200, format!("{error}\n")))
        });
        let provider = fake.provider(DockerSpec { pull: Pull::Always, ..fake.spec() });
        let (cause, text) = refusal(provider.create(&request(1)).await);
        assert_eq!(cause, wanted, "{text}");
        assert!(text.contains("to pull image shop:1"), "{text}");
        assert_eq!(fake.count("POST /containers/create"), 0);
    }
}

#[tokio::test]
async fn refusals_of_an_order_are_told_and_leave_nothing() {
    for (status, message, wanted) in [
        (500, "mkdir /var/lib/docker/overlay2/x: no space left on device", Cause::DiskFull),
        (403, "authorization denied by plugin limits", Cause::Denied),
        (429, "", Cause::Busy),
        (500, "disk quota exceeded", Cause::DiskFull),
        (500, "quota: 8 of 8 containers", Cause::Quota),
        (400, "invalid mount config: bind source path does not exist: /x", Cause::Absent),
        (500, "oops", Cause::Failed),
    ] {
        let fake = Fake::start(move |asked, _| {
            (asked == "POST /containers/create").then(|| Reply::refused(status, message))
        });
        let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
        assert_eq!(cause, wanted, "{text}");
        assert!(text.contains(&format!(": {status}: ")) && text.contains(message), "{text}");
        let removed = fake.asked().iter().any(|one| one.starts_with("DELETE"));
        assert!(!removed, "what was refused is not there: {:?}", fake.asked());

        let fake = Fake::start(move |asked, _| {
            (asked == "POST /containers/c1/start").then(|| Reply::refused(status, message))
        });
        let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
        assert_eq!(cause, wanted, "{text}");
        assert!(name_of(&fake).ends_with("-i1"), "what does not start is removed");
    }
}

#[tokio::test]
async fn a_name_of_somebody_elses_is_not_taken_from_them() {
    let taken =
        Reply::refused(409, "Conflict. The container name \"/x\" is already in use by \"c9\"");
    let conflict = {
        let taken = taken.clone();
        move |asked: &str, _| (asked == "POST /containers/create").then(|| taken.clone())
    };
    let others = move |asked: &str, before| match asked {
        _ if asked.ends_with("-i1/json") => {
            Some(Reply::Json(200, container(true, false).to_string()))
        }
        _ => conflict(asked, before),
    };
    let fake = Fake::start(others);
    let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
    assert_eq!(cause, Cause::Conflict);
    assert!(text.contains("remove or rename what has it"), "{text}");
    assert!(!fake.asked().iter().any(|one| one.starts_with("DELETE")), "{:?}", fake.asked());

    // One that is gone meanwhile was of an order that came to nothing.
    let fake = Fake::start(move |asked, before| match asked {
        "POST /containers/create" if before == 0 => Some(taken.clone()),
        _ if asked.ends_with("-i1/json") => Some(Reply::refused(404, "No such container")),
        _ => None,
    });
    fake.provider(fake.spec()).create(&request(1)).await.unwrap();
    assert_eq!(fake.count("POST /containers/create"), 2);
}

#[tokio::test]
async fn what_may_have_been_heard_is_undone() {
    let cut = b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{\"Id\": \"c".to_vec();
    for (reply, wanted) in [
        (Reply::Hang, Cause::Late),
        (Reply::Raw(Vec::new()), Cause::Unreachable),
        (Reply::Raw(cut), Cause::Unreachable),
        (Reply::Raw(b"\x16\x03\x01 nonsense\r\n\r\n".to_vec()), Cause::Malformed),
        (Reply::Json(201, "[1, 2".to_owned()), Cause::Malformed),
        (Reply::Json(201, "{\"Id\": 7}".to_owned()), Cause::Malformed),
    ] {
        let what = format!("{reply:?}");
        let fake = Fake::start(move |asked, _| {
            (asked == "POST /containers/create").then(|| reply.clone())
        });
        let provider = fake.provider(fake.spec());
        let (cause, text) = refusal(provider.create(&request(1)).await);
        assert_eq!(cause, wanted, "{what}: {text}");
        assert!(text.contains("asked the engine at unix://"), "{text}");
        assert!(name_of(&fake).ends_with("-i1"), "{what}");
    }
}

#[tokio::test]
async fn every_step_ends_when_the_engine_hangs() {
    let fake = Fake::start(|asked, _| {
        let makes = ["GET /version", "POST /containers/create", "POST /containers/c1/start"];
        let first = makes.contains(&asked) || asked == "GET /containers/c1/json";
        (!first).then_some(Reply::Hang)
    });
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let bounded = async {
        let late = |outcome| assert_eq!(refusal(outcome).0, Cause::Late);
        late(provider.freeze(&made).await);
        late(provider.thaw(&made).await);
        late(provider.set_share(&made, CpuShare::Percent(10)).await);
        late(provider.snapshot(&made).await.map(drop));
        late(provider.destroy(&made, Duration::ZERO).await);
        assert!(provider.diagnose(&made).await.last_lines[0].contains("no answer within"));
    };
    tokio::time::timeout(Duration::from_secs(20), bounded).await.expect("each has its bound");
}

#[tokio::test]
async fn what_is_so_already_is_no_error_and_what_is_not_is_one() {
    let fake = Fake::start(|asked, _| match asked {
        "POST /containers/c1/pause" => Some(Reply::refused(409, "is already paused")),
        "POST /containers/c1/unpause" => Some(Reply::refused(500, "is not paused")),
        "GET /containers/c1/json" => Some(Reply::Json(200, container(true, true).to_string())),
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    provider.freeze(&made).await.expect("it is paused");
    let (_, text) = refusal(provider.thaw(&made).await);
    assert!(text.contains("unpause container c1: 500: is not paused"), "{text}");
}

#[tokio::test]
async fn one_that_ends_at_once_is_told_with_how_and_removed() {
    let fake = Fake::start(|asked, _| {
        let ended = container(false, false).to_string();
        (asked == "GET /containers/c1/json").then_some(Reply::Json(200, ended))
    });
    let (cause, text) = refusal(fake.provider(fake.spec()).create(&request(1)).await);
    assert_eq!(cause, Cause::Failed);
    assert!(text.contains("exited with status 3 at once; it wrote: nothing"), "{text}");
    assert!(name_of(&fake).ends_with("-i1"));
}

#[tokio::test]
async fn an_end_is_seen_although_the_stream_of_events_breaks() {
    let torn = [
        Reply::Raw(Vec::new()),
        Reply::refused(500, "oops"),
        Reply::Stream("{\"Type\": nonsense}\n".to_owned()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
    ];
    let fake = Fake::start(move |asked, before| match asked {
        // Each break but the last; then it is quiet, and the list says what was missed.
        "GET /events" => torn.get(before).cloned(),
        "GET /containers/json" => {
            let state = if before >= 2 { "exited" } else { "running" };
            let one = serde_json::json!([{
                "Id": "c1", "State": state, "Status": "Exited (137) 2 seconds ago",
                "Labels": { "foreshadow.instance": "i1" },
            }]);
            Some(Reply::Json(200, one.to_string()))
        }
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(20), provider.exited(&made)).await;
    assert_eq!(seen.expect("it is seen").0, "ended: Exited (137) 2 seconds ago");
    assert!(fake.count("GET /events") > 1, "it was asked again");
}

#[tokio::test]
async fn events_tell_how_a_container_ended() {
    let event = |action: &str, id: &str, code: &str| {
        let attributes = serde_json::json!({ "foreshadow.instance": "i1", "exitCode": code });
        let actor = serde_json::json!({ "ID": id, "Attributes": attributes });
        format!(
            "{}\n",
            serde_json::json!({ "Type": "container", "Action": action, "Actor": actor })
        )
    };
    // Of an earlier container of that name, for want of memory, and its end.
    let told = event("die", "c0", "1") + &event("oom", "c1", "") + &event("die", "c1", "137");
    let fake = Fake::start(move |asked, _| match asked {
        "GET /events" => Some(Reply::Stream(told.clone())),
        "GET /containers/json" => Some(Reply::Hang),
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    let made = provider.create(&request(1)).await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(20), provider.exited(&made)).await;
    assert_eq!(seen.unwrap().0, "exited with status 137, as after signal 9, out of memory");
}

#[tokio::test]
async fn an_engine_behind_tls_needs_files_that_are_there() {
    let fake = Fake::start(|_, _| None);
    let files =
        TlsFiles { ca: "/no/ca.pem".into(), cert: "/no/c.pem".into(), key: "/no/k.pem".into() };
    let endpoint = EngineEndpoint::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    let spec = DockerSpec { endpoint, tls: Some(files), ..fake.spec() };
    let (cause, text) = refusal(fake.provider(spec).create(&request(1)).await);
    assert_eq!(cause, Cause::Absent);
    assert!(text.contains("/no/ca.pem cannot be used"), "{text}");
    let endpoint = EngineEndpoint::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    let (cause, text) =
        refusal(fake.provider(DockerSpec { endpoint, ..fake.spec() }).create(&request(1)).await);
    assert_eq!(cause, Cause::Unreachable, "{text}");
    assert!(text.contains("tcp://127.0.0.1:1"), "{text}");
}
