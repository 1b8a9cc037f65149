//! What a start does with a Docker Engine, shown by a fake one: what is taken over, what is removed, and
//! what is waited for.

mod support;

use std::sync::Arc;
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use foreshadow_shadow::{
    Adoption, CreateRequest, DockerProvider, DockerSpec, EngineEndpoint, ProcessProvider,
    Provider as _, Sweep,
};
use support::fake_engine::{Fake, Reply, default};
use support::request;
use tokio::time::Instant;

#[tokio::test]
async fn nothing_is_made_before_an_engine_that_was_away_has_been_swept() {
    let fake = Fake::start(|asked, before| match asked {
        "GET /containers/json" if before == 0 => Some(Reply::refused(500, "starting")),
        "GET /containers/json" => {
            let one = |id: &str, name: &str| serde_json::json!({ "Id": id, "State": "paused", "Labels": { "foreshadow.instance": name } });
            let all = serde_json::json!([one("c7", "i7"), one("c8", "i8")]);
            Some(Reply::Json(200, all.to_string()))
        }
        _ => None,
    });
    let provider = Arc::new(fake.provider(fake.spec()));
    let what = Sweep { keep: vec![InstanceId(7)], lost: vec![InstanceId(8)] };
    // What follows events may look first, so either look may be the one that is refused.
    provider.sweep(&what).await.expect("a start does not wait for it");
    provider.create(&request(9)).await.unwrap();
    let asked = fake.asked();
    let at = |what: &str| asked.iter().position(|one| one == what);
    let (swept, made) = (at("DELETE /containers/c8"), at("POST /containers/create"));
    assert!(swept.is_some() && swept < made, "{asked:?}");
    assert_eq!(at("DELETE /containers/c7"), None, "{asked:?}");
}

#[tokio::test]
async fn what_an_earlier_run_had_ordered_is_removed_when_it_comes_late() {
    let fake = Fake::start(|asked, before| {
        let one = |id: &str, name: &str| serde_json::json!({ "Id": id, "State": "created", "Labels": { "foreshadow.instance": name } });
        // Ours from the third look on, and beside it one that nobody here ordered.
        let all = if before >= 2 { vec![one("c1", "i9"), one("c5", "i5")] } else { Vec::new() };
        (asked == "GET /containers/json")
            .then(|| Reply::Json(200, serde_json::json!(all).to_string()))
    });
    let provider = fake.provider(fake.spec());
    let what = Sweep { keep: Vec::new(), lost: vec![InstanceId(5)] };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0, "nothing is there yet");
    provider.create(&request(9)).await.unwrap();
    support::until("the late one is removed", || {
        (fake.count("DELETE /containers/c5") > 0).then_some(())
    })
    .await;
    assert_eq!(fake.count("DELETE /containers/c1"), 0, "ours stays");
}

#[tokio::test]
async fn a_container_is_taken_over_only_where_it_is_what_it_was() {
    let fake = Fake::start(|_, _| None);
    let made = fake.provider(fake.spec()).create(&request(1)).await.unwrap();
    assert_eq!(fake.provider(fake.spec()).adopt(&made).await.unwrap(), Adoption::Running);
    let mut moved = made.clone();
    moved.address = "10.9.8.6:8080".parse().unwrap();
    let gone = fake.provider(fake.spec()).adopt(&moved).await.unwrap();
    assert!(matches!(&gone, Adoption::Gone(why) if why.contains("now 10.9.8.7:8080")), "{gone:?}");

    let other = Fake::start(|asked, _| {
        asked.ends_with("/c1/json").then(|| Reply::refused(404, "No such container: c1"))
    });
    let elsewhere = other.provider(other.spec()).adopt(&made).await.unwrap();
    assert!(
        matches!(&elsewhere, Adoption::OutOfReach(why) if why.contains("endpoint")),
        "{elsewhere:?}"
    );

    let hung = Fake::start(|asked, _| (asked != "GET /version").then_some(Reply::Hang));
    let unseen = hung.provider(hung.spec()).adopt(&made).await.unwrap();
    assert!(matches!(unseen, Adoption::OutOfReach(_)), "{unseen:?}");
    let before = Fake::start(|asked, _| match default(asked) {
        Reply::Json(..) if asked.ends_with("/c1/json") => Some(Reply::refused(500, "starting")),
        _ => None,
    });
    let mut here: serde_json::Value = serde_json::from_str(&made.state).unwrap();
    here["place"] = before.provider(before.spec()).place().into();
    let here = foreshadow_shadow::Handle { state: here.to_string(), ..made };
    let taken = before.provider(before.spec()).adopt(&here).await.unwrap();
    assert_eq!(taken, Adoption::Running, "it ran when it was last seen");
}

#[tokio::test(start_paused = true)]
async fn a_start_does_not_wait_for_an_engine_that_hangs() {
    let fake = Fake::start(|_, _| None);
    let made = fake.provider(fake.spec()).create(&request(1)).await.unwrap();
    let hung = Fake::start(|_, _| Some(Reply::Hang));
    let provider = hung.provider(DockerSpec { timeout: Duration::from_secs(3_600), ..hung.spec() });
    let here = serde_json::json!({ "place": provider.place(), "container": "c1" });
    let here = foreshadow_shadow::Handle { state: here.to_string(), ..made };
    let begun = Instant::now();
    assert_eq!(provider.adopt(&here).await.unwrap(), Adoption::Running);
    let what = Sweep { keep: vec![InstanceId(1)], lost: Vec::new() };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0);
    let waited = begun.elapsed();
    assert!(waited <= Duration::from_secs(7), "{waited:?} on the paused clock");
}

#[tokio::test]
async fn one_that_cannot_be_removed_holds_up_nothing() {
    let fake = Fake::start(|asked, _| match asked {
        "GET /containers/json" => {
            let one = |id: &str, name: &str| serde_json::json!({ "Id": id, "State": "running", "Labels": { "foreshadow.instance": name, "foreshadow.service": "shop" } });
            let all = serde_json::json!([one("c7", "i7"), one("c8", "i8")]);
            Some(Reply::Json(200, all.to_string()))
        }
        "DELETE /containers/c7" => Some(Reply::refused(500, "device or resource busy")),
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    let what = Sweep { keep: Vec::new(), lost: vec![InstanceId(7), InstanceId(8)] };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0);
    assert!(fake.count("DELETE /containers/c8") > 0, "one that is stuck keeps none from its end");
    assert!(!provider.is_swept(), "it is still to be removed");
    provider.create(&request(9)).await.unwrap();
    let other = CreateRequest { service: ServiceName::from("other"), ..request(10) };
    provider.create(&other).await.unwrap();
}

/// Containers of earlier runs, by name and id.
fn listed(names: &[&str]) -> Reply {
    let one = |name: &&str| serde_json::json!({ "Id": format!("c{name}"), "State": "running", "Labels": { "foreshadow.instance": format!("i{name}"), "foreshadow.service": "shop" } });
    let all: Vec<_> = names.iter().map(one).collect();
    Reply::Json(200, serde_json::json!(all).to_string())
}

#[tokio::test(start_paused = true)]
async fn what_hangs_on_its_end_holds_up_no_service_while_it_is_little() {
    let fake = Fake::start(|asked, _| match asked {
        "GET /containers/json" => Some(listed(&["7", "8"])),
        "DELETE /containers/c7" | "DELETE /containers/c8" => Some(Reply::Hang),
        _ => None,
    });
    let provider = Arc::new(fake.provider(fake.spec()));
    let what = Sweep { keep: Vec::new(), lost: vec![InstanceId(7), InstanceId(8)] };
    assert_eq!(provider.sweep(&what).await.unwrap(), 0);
    let begun = Instant::now();
    let mut creating = tokio::task::JoinSet::new();
    for id in 10..13 {
        let provider = Arc::clone(&provider);
        let service = ServiceName::from(format!("other{id}").as_str());
        creating.spawn(async move {
            provider.create(&CreateRequest { service, ..request(id) }).await.map(drop)
        });
    }
    assert!(creating.join_all().await.into_iter().all(|made| made.is_ok()));
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(1), "{waited:?} on the paused clock");
    provider.create(&request(9)).await.expect("nor its own, as there is little of it");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(35), "one pass: {waited:?}");
    assert!(!provider.is_swept());
}

#[tokio::test]
async fn an_engine_that_is_named_after_the_start_is_swept_before_anything_is_made_there() {
    let fake = Fake::start(|asked, _| match asked {
        "GET /containers/json" => Some(listed(&["1", "7"])),
        _ => None,
    });
    let host = support::host(fake.dir.path(), foreshadow_shadow::Facility::None);
    let what = Sweep { keep: vec![InstanceId(1)], lost: Vec::new() };
    ProcessProvider::janitor(Arc::clone(&host)).sweep(&what).await.unwrap();
    let provider = DockerProvider::new(&host, fake.spec());
    provider.create(&request(9)).await.unwrap();
    let asked = fake.asked();
    let at = |what: &str| asked.iter().position(|one| one == what);
    let (swept, made) = (at("DELETE /containers/c7"), at("POST /containers/create"));
    assert!(swept.is_some() && swept < made, "{asked:?}");
    assert_eq!(at("DELETE /containers/c1"), None, "kept: {asked:?}");
}

#[tokio::test]
async fn what_a_failed_creation_left_is_removed_before_the_next_one_of_its_service() {
    let fake = Fake::start(|asked, before| match asked {
        "POST /containers/c1/start" if before == 0 => Some(Reply::refused(500, "oops")),
        _ if asked.starts_with("DELETE /containers/") && before == 0 => {
            Some(Reply::refused(500, "device or resource busy"))
        }
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    provider.create(&request(1)).await.unwrap_err();
    provider.create(&request(2)).await.unwrap();
    let asked = fake.asked();
    let removals = asked.iter().filter(|one| one.starts_with("DELETE") && one.ends_with("-i1"));
    assert_eq!(removals.count(), 2, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn ends_are_heard_while_what_is_nobodys_does_not_go() {
    let watched = Arc::new(std::sync::Mutex::new(None::<String>));
    let mark = Arc::clone(&watched);
    let fake = Fake::start(move |asked, before| match asked {
        "GET /containers/json" => Some(listed(&["7", "8", "1"])),
        "DELETE /containers/c7" | "DELETE /containers/c8" => Some(Reply::Hang),
        "GET /events" if before == 0 => Some(Reply::Later(Arc::clone(&mark))),
        _ => None,
    });
    let provider = fake.provider(fake.spec());
    let what = Sweep { keep: vec![InstanceId(1)], lost: Vec::new() };
    provider.sweep(&what).await.unwrap();
    let other = CreateRequest { service: ServiceName::from("other"), ..request(1) };
    let made = provider.create(&other).await.unwrap();
    // By now what follows events has looked as well, and would wait for what hangs.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let died = serde_json::json!({ "Type": "container", "Action": "die", "Actor": { "ID": "c1", "Attributes": { "foreshadow.instance": "i1", "exitCode": "3" } } });
    *watched.lock().unwrap() = Some(format!("{died}\n"));
    let ended = tokio::time::timeout(Duration::from_secs(5), provider.exited(&made)).await;
    assert_eq!(ended.expect("it is heard at once").0, "exited with status 3");
}

#[tokio::test]
async fn an_engine_is_one_by_whatever_links_its_socket_is_named() {
    let fake = Fake::start(|_, _| None);
    let host = support::host(fake.dir.path(), foreshadow_shadow::Facility::None);
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(fake.dir.path(), link.path().join("run")).unwrap();
    let at = |path: std::path::PathBuf| {
        let endpoint = EngineEndpoint::Unix(path);
        DockerProvider::new(&host, DockerSpec { endpoint, ..fake.spec() }).place()
    };
    let own = at(fake.socket.clone());
    assert_eq!(at(link.path().join("run/sock")), own);
    assert_ne!(at(link.path().join("run/other")), own);
    std::fs::remove_file(&fake.socket).unwrap();
    assert_eq!(at(link.path().join("run/sock")), own, "it is not there yet");
}
