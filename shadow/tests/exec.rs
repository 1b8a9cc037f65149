//! What a command provider meets: commands that fail, hang, flood, lie and leave things behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_shadow::{
    Adoption, Capabilities, Cause, CpuShare, ExecProvider, ExecSpec, Facility, Handle, Sweep,
};
use support::exec::{handle, provider, told, with};
use support::{host, processes_with, request, until};

#[test]
fn role_entry() {
    support::play_role();
}

/// The cause and the text of what a script makes of a creation.
async fn refusal(script: &str) -> (Cause, String) {
    let dir = tempfile::tempdir().unwrap();
    let error = provider(dir.path(), script).create(&request(7)).await.unwrap_err();
    told(&error)
}

#[tokio::test]
async fn every_failure_says_what_was_asked_what_came_back_and_what_is_next() {
    let quota = r#"echo '{"error": {"kind": "quota", "message": "4 of 4 are used"}}'; exit 3"#;
    let (cause, text) = refusal(quota).await;
    assert_eq!(cause, Cause::Quota);
    assert!(
        text.starts_with("asked command \"/bin/sh\" to create i7: it exited with code 3"),
        "{text}"
    );
    assert!(text.contains("4 of 4 are used; raise the quota or lower the pool's `max`"), "{text}");

    let (cause, text) = refusal("echo 'you may not' >&2; exit 77").await;
    assert_eq!(cause, Cause::Denied);
    assert!(text.contains("its stderr ends: you may not; give this account the right"), "{text}");

    // A disk that is really full, or as good as that.
    let (cause, text) = refusal("env > /dev/full").await;
    assert_eq!(cause, Cause::DiskFull);
    assert!(text.contains("No space left on device"), "{text}");
    let full = r#"echo '{"error": {"kind": "disk_full", "message": "/var"}}'; exit 1"#;
    let (cause, text) = refusal(full).await;
    assert_eq!(cause, Cause::DiskFull);
    assert!(text.contains(": /var; make room on that disk"), "{text}");

    let (cause, text) = refusal("echo nonsense").await;
    assert_eq!(cause, Cause::Malformed);
    assert!(text.contains("\"nonsense\", which is no JSON"), "{text}");
    let (cause, text) = refusal(r#"echo '{"instance": "i8", "address": "127.0.0.1:1"}'"#).await;
    assert_eq!(cause, Cause::Malformed);
    assert!(text.contains("an answer about \"i8\""), "{text}");
    for address in ["", r#", "address": "0.0.0.0:80""#, r#", "address": "127.0.0.1:0""#] {
        let (cause, text) = refusal(&format!("echo '{{\"instance\": \"i7\"{address}}}'")).await;
        assert_eq!(cause, Cause::Malformed);
        assert!(text.contains("no address that could be connected to"), "{text}");
    }
    let (cause, text) = refusal("kill -9 $$").await;
    assert_eq!(cause, Cause::Failed);
    assert!(
        text.contains("it killed by signal 9") || text.contains("was killed by signal 9"),
        "{text}"
    );
}

#[tokio::test]
async fn a_command_that_is_missing_or_may_not_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = async |path: &str| {
        let command = vec![path.to_owned()];
        let other = with(dir.path(), "", |spec| spec.command = command);
        told(&other.create(&request(7)).await.unwrap_err())
    };
    let (cause, text) = run("/no/such/program").await;
    assert_eq!(cause, Cause::Missing);
    assert!(text.contains("\"/no/such/program\"") && text.contains("no such program"), "{text}");
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (cause, text) = run(plain.to_str().unwrap()).await;
    assert_eq!(cause, Cause::Denied);
    assert!(text.contains("it may not be run: Permission denied"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("DIR={}\0", dir.path().display());
    // One child in the same group, one in a session of its own, both deaf to SIGTERM.
    let script = r#"[ "$1" = create ] || exit 0
        trap '' TERM; sleep 1000 & setsid sleep 1000 & echo 'about to hang' >&2; wait"#;
    let provider =
        with(dir.path(), script, |spec| spec.traits.timeout = Duration::from_millis(600));
    let begun = Instant::now();
    let (cause, text) = told(&provider.create(&request(7)).await.unwrap_err());
    assert_eq!(cause, Cause::Late);
    assert!(text.contains("no end within 600 ms, so it was killed"), "{text}");
    assert!(text.contains("about to hang") && text.contains("raise `timeout`"), "{text}");
    assert!(begun.elapsed() >= Duration::from_millis(600));
    assert_eq!(processes_with(&tag), [] as [u32; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_hang_hold_up_neither_lists_nor_other_services() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"[ "$1" = destroy ] && { echo >> "$DIR/hang"; sleep 1000; }
        [ "$1" = list ] && { echo '{"instances": []}'; exit; }
        echo '{"instance": "i7", "address": "127.0.0.1:7"}'"#;
    let host = host(dir.path(), Facility::None);
    let of = |more: &str| {
        let script = format!("{script}{more}");
        let command = ["/bin/sh", "-c", &script, "provider"].map(str::to_owned).to_vec();
        let env = vec![("DIR".to_owned(), dir.path().display().to_string())];
        let mut spec = ExecSpec { command, env, ..ExecSpec::default() };
        (spec.traits.timeout, spec.traits.poll) =
            (Duration::from_secs(5), Duration::from_secs(600));
        ExecProvider::new(&host, spec)
    };
    let (hangs, other) = (of(""), of(" # another"));
    // As at any start, which ends the commands of the run before.
    assert_eq!(hangs.sweep(&Sweep::default()).await.unwrap(), 0);
    let mut orders = tokio::task::JoinSet::new();
    for id in 1..=20 {
        let provider = Arc::clone(&hangs);
        orders.spawn(async move { provider.destroy(&handle(id), Duration::from_secs(600)).await });
    }
    let begun = || std::fs::read_to_string(dir.path().join("hang")).unwrap_or_default().len();
    until("eight hang", || (begun() == 8).then_some(())).await;
    assert_eq!(
        hangs.sweep(&Sweep::default()).await.unwrap(),
        0,
        "its lists have turns of their own"
    );
    let (cause, text) = told(&hangs.create(&request(30)).await.unwrap_err());
    assert_eq!(cause, Cause::NotAsked, "{text}");
    assert!(text.contains("its turn did not come within 5000 ms"), "{text}");
    other.create(&request(7)).await.unwrap();
    assert_eq!(begun(), 8);
    orders.shutdown().await;
    let tag = format!("DIR={}\0", dir.path().display());
    until("all are ended", || processes_with(&tag).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_called_off_is_over_before_the_next_one_begins() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"if [ -e "$DIR/first" ]; then
            kill -0 "$(cat "$DIR/first")" && touch "$DIR/overlap"; exit 0
        fi
        echo $$ > "$DIR/fresh"; mv "$DIR/fresh" "$DIR/first"; sleep 1000"#;
    let provider = provider(dir.path(), script);
    let handle = handle(5);
    tokio::select! {
        _ = provider.destroy(&handle, Duration::from_secs(600)) => panic!("it hangs"),
        () = until("it has begun", || dir.path().join("first").exists().then_some(())) => {}
    }
    provider.destroy(&handle, Duration::ZERO).await.unwrap();
    assert!(!dir.path().join("overlap").exists());
}

#[test]
fn a_command_that_was_called_off_while_it_began_is_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let tag = format!("DIR={}\0", dir.path().display());
        let provider = provider(dir.path(), "sleep 1000");
        for id in 1..=5 {
            let handle = handle(id);
            let order = provider.destroy(&handle, Duration::ZERO);
            tokio::pin!(order);
            std::future::poll_fn(|context| {
                assert!(order.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        }
        // The only thread for it has begun all five now.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        until("all are ended", || processes_with(&tag).is_empty().then_some(())).await;
    });
}

#[tokio::test]
async fn a_flood_is_cut_off_and_only_the_end_of_complaints_is_kept() {
    let (cause, text) = refusal(r#"[ "$1" = create ] || exit 0; yes"#).await;
    assert_eq!(cause, Cause::Malformed);
    assert!(text.contains("more than 1048576 bytes on stdout"), "{text}");
    let script = "i=0; while [ $i -lt 5000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 1";
    let (_, text) = refusal(script).await;
    assert!(text.contains("line 4999") && !text.contains("line 100 "), "{text}");
    assert!(text.len() < 4_000, "{}", text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_instance_without_a_process_is_seen_in_lists() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"case $1 in
        create) echo '{"instance": "i7", "address": "127.0.0.1:7"}' ;;
        list) cat "$DIR/list" ;;
    esac"#;
    let list = |text: &str| {
        std::fs::write(dir.path().join("fresh"), text).unwrap();
        std::fs::rename(dir.path().join("fresh"), dir.path().join("list")).unwrap();
    };
    list(r#"{"instances": [{"instance": "i7"}]}"#);
    let quick = |spec: &mut ExecSpec| spec.traits.poll = Duration::from_millis(20);
    let provider = with(dir.path(), script, quick);
    let made = provider.create(&request(7)).await.unwrap();
    list(
        r#"{"instances": [{"instance": "i7", "state": "ended", "detail": "reclaimed", "log": ["a", "b"]}]}"#,
    );
    assert_eq!(provider.exited(&made).await.0, "ended: reclaimed");
    assert_eq!(provider.diagnose(&made).await.last_lines, ["a", "b", "reclaimed"]);
    provider.destroy(&made, Duration::ZERO).await.unwrap();

    let made = provider.create(&request(7)).await.unwrap();
    list("nonsense");
    list(r#"{"instances": []}"#);
    assert_eq!(provider.exited(&made).await.0, "it is no longer listed by its provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_another_process_by_now_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let script = format!(
        r#"case $1 in
        create) echo '{{"instance": "i7", "address": "127.0.0.1:7", "pid": {pid}}}' ;;
        list) echo '{{"instances": [{{"instance": "i7", "address": "127.0.0.1:7", "pid": {pid}}}]}}' ;;
    esac"#,
        pid = stranger.id()
    );
    let quick = |spec: &mut ExecSpec| spec.traits.poll = Duration::from_secs(600);
    let made = with(dir.path(), &script, quick).create(&request(7)).await.unwrap();
    // As after the process that was made has ended and its number was given out again.
    let mut state: serde_json::Value = serde_json::from_str(&made.state).unwrap();
    let ticks = state["process"]["start_ticks"].as_u64().unwrap();
    state["process"]["start_ticks"] = (ticks - 1).into();
    let older = Handle { state: state.to_string(), ..made.clone() };
    let (first, second) = (with(dir.path(), &script, quick), with(dir.path(), &script, quick));
    assert_eq!(first.adopt(&older).await.unwrap(), Adoption::Running);
    assert_eq!(second.adopt(&made).await.unwrap(), Adoption::Running);
    stranger.kill().unwrap();
    assert_eq!(second.exited(&made).await.0, format!("process {} ended", stranger.id()));
    let ended = first.exited(&older);
    tokio::pin!(ended);
    let once = std::future::poll_fn(|context| {
        std::task::Poll::Ready(ended.as_mut().poll(context).is_pending())
    });
    assert!(once.await, "the end of a stranger was taken for its end");
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_resize_carries_the_share_and_none_means_no_limit() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"cat >> "$DIR/asked"; echo >> "$DIR/asked""#;
    let can = Capabilities { resize: true, ..Capabilities::default() };
    let provider = with(dir.path(), script, |spec| spec.traits.can = can);
    for share in [CpuShare::Percent(20), CpuShare::Unlimited] {
        provider.set_share(&handle(5), share).await.unwrap();
    }
    let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
    let lines: Vec<serde_json::Value> =
        asked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["cpu_percent"], 20);
    assert_eq!(lines[1].get("cpu_percent"), None);
}
