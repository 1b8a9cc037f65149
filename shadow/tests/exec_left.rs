//! What commands of a provider, failed creations and earlier runs leave behind, and how that is ended.

mod support;

use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};
use foreshadow_shadow::{Adoption, Cause, CreateRequest, ExecSpec, Sweep};
use support::exec::{handle, provider, told, with};
use support::{processes_with, request, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_is_ended_unless_it_was_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("DIR={}\0", dir.path().display());
    let script = r#"sleep 1000 & setsid sleep 1001 &
        env -u FORESHADOW_COMMAND setsid sh -c 'echo > "$DIR/let go"; exec sleep 1002' \
            > /dev/null 2>&1 < /dev/null &
        while ! [ -e "$DIR/let go" ]; do sleep 0.01; done; echo '{"instances": []}'"#;
    let provider = provider(dir.path(), script);
    // A pipe that is held open by what was left does not hold up the answer.
    assert_eq!(provider.sweep(&Sweep::default()).await.unwrap(), 0);
    let left = processes_with(&tag);
    let let_go = |pid: &u32| {
        let args = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&args).contains("1002")
    };
    assert!(left.len() == 1 && left.iter().all(let_go), "{left:?}");
    left.into_iter().for_each(support::kill);
}

#[tokio::test]
async fn a_creation_that_failed_is_undone_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"{ echo "$1"; cat; echo; } >> "$DIR/asked"; [ "$1" = destroy ]"#;
    provider(dir.path(), script).create(&request(7)).await.unwrap_err();
    let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
    let lines: Vec<&str> = asked.lines().collect();
    assert_eq!([lines[0], lines[2]], ["create", "destroy"]);
    let create: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    let destroy: serde_json::Value = serde_json::from_str(lines[3]).unwrap();
    let owner = &create["owner"];
    assert_eq!(owner.as_str().unwrap().len(), 16);
    let expected = serde_json::json!({
        "owner": owner, "instance": "i7", "service": "shop", "tier": "warm"
    });
    assert_eq!(create, expected);
    assert_eq!(destroy, serde_json::json!({ "owner": owner, "instance": "i7", "grace_ms": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_undone_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo "$1" >> "$DIR/asked"; [ "$1" = destroy ] && [ -e "$DIR/works" ]"#;
    let provider = provider(dir.path(), script);
    provider.create(&request(7)).await.unwrap_err();
    std::fs::write(dir.path().join("works"), "").unwrap();
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
    until("the next try", || (asked() == "create\ndestroy\ndestroy\n").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_that_cannot_be_undone_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    // That they are gone is seen in the list.
    let script = r#"[ "$1" = list ] || echo "$1" >> "$DIR/asked"
        [ "$1" != create ] && [ -e "$DIR/works" ] && echo '{"instances": []}'"#;
    let provider = provider(dir.path(), script);
    for id in 7..17 {
        provider.create(&request(id)).await.unwrap_err();
    }
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
    let creations = |text: &str| text.lines().filter(|line| *line == "create").count();
    assert_eq!(creations(&asked()), 5, "{}", asked());
    std::fs::write(dir.path().join("works"), "").unwrap();
    // Those that are left are ended first, and then the next one may be tried.
    let error = provider.create(&request(17)).await.unwrap_err();
    assert!(error.to_string().contains("to create i17"), "{error}");
    assert!(asked().ends_with("destroy\ncreate\ndestroy\n"), "{}", asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_was_put_off_is_done_without_a_creation() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"[ -e "$DIR/works" ] || exit 69
        [ "$1" = destroy ] && cat > "$DIR/destroyed"; echo '{"instances": []}'"#;
    let provider = provider(dir.path(), script);
    let sweep = Sweep { keep: vec![], lost: vec![InstanceId(2)] };
    assert_eq!(provider.sweep(&sweep).await.unwrap(), 0);
    std::fs::write(dir.path().join("works"), "").unwrap();
    let destroyed = || std::fs::read_to_string(dir.path().join("destroyed")).ok();
    let whose = until("it is swept", || destroyed().filter(|text| text.ends_with('}'))).await;
    assert!(whose.contains("\"instance\":\"i2\""), "{whose}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_seen_at_start_holds_up_creations_not_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo "$1 $(cat)" >> "$DIR/asked"
        [ -e "$DIR/works" ] || { echo 'no route' >&2; exit 69; }
        case $1 in
            list) echo '{"instances": [{"instance": "i3", "address": "127.0.0.1:3"}]}' ;;
            create) echo '{"instance": "i7", "address": "127.0.0.1:7"}' ;;
        esac"#;
    let quick = |spec: &mut ExecSpec| spec.traits.poll = Duration::from_secs(600);
    let provider = with(dir.path(), script, quick);
    let sweep = Sweep { keep: vec![], lost: vec![InstanceId(2)] };
    assert_eq!(provider.sweep(&sweep).await.unwrap(), 0);
    let (cause, text) = told(&provider.create(&request(7)).await.unwrap_err());
    assert_eq!(cause, Cause::Unreachable);
    assert!(text.contains("to list") && text.contains("no route"), "{text}");
    let asked = || {
        let text = std::fs::read_to_string(dir.path().join("asked")).unwrap();
        let of = |line: &str| {
            let (operation, ask) = line.split_once(' ').unwrap();
            let ask: serde_json::Value = serde_json::from_str(ask).unwrap();
            format!("{operation} {}", ask["instance"].as_str().unwrap_or("-"))
        };
        text.lines().map(of).collect::<Vec<_>>()
    };
    let lists = asked().iter().filter(|line| *line == "list -").count();
    assert!(lists >= 2 && asked().len() == lists, "nothing was made while that is not known");
    std::fs::write(dir.path().join("works"), "").unwrap();
    provider.create(&request(7)).await.unwrap();
    let mut orders = asked();
    orders.retain(|line| line != "list -");
    // Both at the same time.
    orders[..2].sort_unstable();
    assert_eq!(orders, ["destroy i2", "destroy i3", "create i7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_ended_keeps_none_from_its_end_and_no_other_service_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"ask=$(cat); echo "$1 $ask" >> "$DIR/asked"
        case "$1 $ask" in
            destroy*i2*) echo 'stuck' >&2; exit 1 ;;
            list*) echo '{"instances": [{"instance": "i2", "service": "shop"}, {"instance": "i3"}]}' ;;
            create*) id=$(echo "$ask" | grep -o '"instance":"i[0-9]*"')
                echo "{$id, \"address\": \"127.0.0.1:7\"}" ;;
        esac"#;
    let provider = provider(dir.path(), script);
    let sweep = Sweep { keep: vec![], lost: vec![InstanceId(2), InstanceId(3)] };
    assert_eq!(provider.sweep(&sweep).await.unwrap(), 0);
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap();
    until("the other one is ended", || {
        let ended = |line: &str| line.starts_with("destroy") && line.contains("\"i3\"");
        asked().lines().any(ended).then_some(())
    })
    .await;
    assert!(!provider.is_swept());
    provider.create(&request(8)).await.expect("little that is stuck stops nothing new");
    let other = CreateRequest { service: ServiceName::from("other"), ..request(7) };
    provider.create(&other).await.unwrap();
    // Another pass: what was made since is not taken for what was left.
    provider.create(&request(9)).await.unwrap();
    let ended = |line: &str| line.starts_with("destroy") && line.contains("\"i7\"");
    assert!(!asked().lines().any(ended), "{}", asked());
}

#[tokio::test]
async fn an_instance_that_was_made_by_another_command_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let adoption = provider(dir.path(), "echo '{\"instances\": []}'").adopt(&handle(5)).await;
    assert!(matches!(adoption.unwrap(), Adoption::OutOfReach(_)));
    let down = provider(dir.path(), "exit 1").adopt(&handle(5)).await.unwrap();
    assert!(matches!(down, Adoption::OutOfReach(_)));
}
