//! Virtual machines: when they are ready, what they are held to, and what cannot be removed of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshadow_control::{Action, Fact, Tier};
use foreshadow_shadow::{
    Confinement, Manager, ManagerSettings, Provider, ServiceShadows, Sweep, VmSpec,
};
use support::machine::{Scratch, emulators, guest, left, provider};
use support::{SaysOk, not_tested, request, shop, until};

async fn manager(dir: &Path, spec: VmSpec, start_timeout: Duration) -> Manager {
    let vms = provider(dir, spec);
    let service =
        ServiceShadows { start_timeout, parked_check: None, ..ServiceShadows::new(shop(), vms) };
    let settings = ManagerSettings {
        state_dir: dir.to_owned(),
        services: vec![service],
        janitors: Vec::new(),
        concurrent_creates: 1,
    };
    Manager::start(settings, Arc::new(SaysOk)).await.unwrap()
}

/// QEMU accepts for a guest that is not there; what asks for an answer is not deceived.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_nothing_to_boot_accepts_and_is_never_ready() {
    let Some(spec) = guest("readiness without a guest") else { return };
    let spec = VmSpec { kernel: None, initrd: None, append: String::new(), ..spec };
    let dir = Scratch::new();
    let manager = manager(dir.path(), spec, Duration::from_secs(3)).await;
    manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    let address = until("it is made", || manager.snapshot().first()?.address).await;
    tokio::net::TcpStream::connect(address).await.expect("QEMU accepts");
    let error = until("it is given up", || {
        manager.take_facts().into_iter().find_map(|(_, fact)| match fact {
            Fact::StepFailed { error, .. } => Some(error),
            Fact::TierReached { .. } => panic!("nothing answers there: {fact:?}"),
            _ => None,
        })
    })
    .await;
    assert!(error.contains("not ready at"), "{error}");
    manager.shutdown().await;
    assert_eq!(left(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_ready_when_its_guest_answers_and_not_before() {
    let Some(spec) = guest("readiness of a guest") else { return };
    let dir = Scratch::new();
    let manager = manager(dir.path(), spec, Duration::from_secs(60)).await;
    manager.apply(&shop(), &[Action::create(Tier::Shadow)]);
    let begun = Instant::now();
    let parked = loop {
        if let Some(one) = manager.snapshot().into_iter().find(|one| one.tier == Tier::Shadow) {
            break one;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", manager.take_facts());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let console = dir.path().join(format!("logs/{}.log", parked.id));
    let console = std::fs::read(console).unwrap();
    assert!(String::from_utf8_lossy(&console).contains("guest: it listens"), "it was not up yet");
    manager.shutdown().await;
}

/// An emulator runs as whom it is told, and can neither gain rights nor make all system calls.
#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_is_held_to_a_user_and_its_system_calls() {
    let Some(spec) = guest("an emulator's user") else { return };
    if !support::is_root("an emulator's user") {
        return;
    }
    let dir = Scratch::new();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o644)).unwrap();
    let spec = VmSpec {
        kernel: None,
        initrd: None,
        append: String::new(),
        image: Some(image),
        confinement: Confinement { user: Some("nobody".to_owned()), ..Confinement::default() },
        ..spec
    };
    let vms = provider(dir.path(), spec);
    let made = vms.create(&request(1)).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", made.pid.unwrap())).unwrap();
    let line = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_ne!(line("Uid:"), "0", "{status}");
    assert_eq!((line("NoNewPrivs:").as_str(), line("Seccomp:").as_str()), ("1", "2"), "{status}");
    for step in [vms.freeze(&made).await, vms.thaw(&made).await] {
        step.unwrap();
    }
    let saved = vms.snapshot(&made).await.unwrap();
    vms.discard(&saved).await.unwrap();
    vms.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!((emulators(dir.path()), left(dir.path())), (Vec::new(), Vec::new()));
}

/// What cannot be removed now is put off, and removed when it can be.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_removed_keep_nothing_from_starting() {
    let what = "files that cannot be removed";
    if !support::is_root(what) {
        return;
    }
    let dir = Scratch::new();
    let stuck = dir.path().join("vm/i99");
    let other = dir.path().join("vm/i98");
    for path in [&stuck, &other] {
        std::fs::create_dir_all(path).unwrap();
    }
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&stuck).status().unwrap();
    if !mounted.success() {
        return not_tested(what, "no tmpfs can be mounted");
    }
    let vms = provider(dir.path(), VmSpec::default());
    let swept = vms.sweep(&Sweep::default()).await;
    let put_off = !vms.is_swept();
    let unmounted = Command::new("umount").arg(&stuck).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(swept.unwrap(), 0);
    assert!(put_off && !other.exists(), "what can be removed is");
    until("it is removed at last", || (vms.is_swept() && !stuck.exists()).then_some(())).await;
}
