//! Virtual machines: what is particular to them. The suite that every provider passes is in
//! `providers.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use foreshadow_control::InstanceId;
use foreshadow_shadow::{
    Accel, Adoption, Cause, CreateRequest, Handle, Provider, ProviderError, Snapshot, Sweep, VmSpec,
};
use support::machine::{Scratch, emulators, guest, left, provider};
use support::{request, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LONG: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

/// What the guest says, once it does.
async fn answer(provider: &dyn Provider, handle: &Handle) -> String {
    told(provider, handle, b"?").await
}

/// The same, with an order.
async fn told(provider: &dyn Provider, handle: &Handle, order: &[u8]) -> String {
    let begun = Instant::now();
    loop {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(handle.address).await?;
            stream.write_all(order).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.map(|_| text)
        };
        match tokio::time::timeout(Duration::from_secs(2), ask).await {
            Ok(Ok(text)) if !text.is_empty() => return text,
            _ => {}
        }
        let seen = provider.diagnose(handle).await;
        assert!(begun.elapsed() < LONG, "it never answers: {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn from(id: u64, snapshot: &Snapshot) -> CreateRequest {
    CreateRequest { from: Some(snapshot.clone()), ..request(id) }
}

/// The guest counts on its disk, which is a layer over this.
fn with_disk(spec: VmSpec, dir: &Path) -> VmSpec {
    let image = dir.join("image");
    let mut sectors = vec![0; 1 << 20];
    sectors[..3].copy_from_slice(b"100");
    std::fs::write(&image, sectors).unwrap();
    let append = format!("{} guest.disk", spec.append);
    VmSpec { image: Some(image), append, ..spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_booted_stopped_saved_and_another_goes_on_from_there() {
    let Some(spec) = guest("boot, disk and snapshot") else { return };
    let dir = Scratch::new();
    let spec = with_disk(spec, dir.path());
    let image = std::fs::read(spec.image.as_ref().unwrap()).unwrap();
    let vms = provider(dir.path(), spec.clone());
    let mut took = Vec::new();
    let ms = |begun: Instant| begun.elapsed().as_secs_f64() * 1e3;

    let begun = Instant::now();
    let one = vms.create(&request(1)).await.unwrap();
    assert_eq!(answer(&*vms, &one).await, "100", "what the image holds");
    took.push(("start to ready", ms(begun)));
    assert_eq!(told(&*vms, &one, b"+").await, "101");
    for (what, is_frozen) in [("stop", true), ("cont", false)] {
        let begun = Instant::now();
        match is_frozen {
            true => vms.freeze(&one).await.unwrap(),
            false => vms.thaw(&one).await.unwrap(),
        }
        took.push((what, ms(begun)));
    }
    assert_eq!(told(&*vms, &one, b"+").await, "102");

    let begun = Instant::now();
    let saved = vms.snapshot(&one).await.unwrap();
    took.push(("snapshot", ms(begun)));
    assert_eq!(told(&*vms, &one, b"+").await, "103", "it goes on as before");

    let begun = Instant::now();
    let two = vms.create(&from(2, &saved)).await.unwrap();
    assert_eq!(answer(&*vms, &two).await, "102", "memory and disk are those of the snapshot");
    took.push(("restore to ready", ms(begun)));
    assert_eq!(told(&*vms, &two, b"+").await, "103");
    assert_eq!(told(&*vms, &one, b"+").await, "104", "each has a disk of its own");

    // Frozen it can be saved, too, more than once, and stays frozen.
    vms.freeze(&two).await.unwrap();
    for _ in 0..2 {
        let saved = vms.snapshot(&two).await.unwrap();
        vms.discard(&saved).await.unwrap();
    }
    vms.thaw(&two).await.unwrap();
    assert_eq!(answer(&*vms, &two).await, "103");
    saving_without_room(&*vms, &one, dir.path()).await;

    let other = VmSpec { memory_mib: 128, ..spec.clone() };
    let error = provider(dir.path(), other).create(&from(3, &saved)).await.unwrap_err().to_string();
    assert!(error.contains("a machine with other settings"), "{error}");

    let begun = Instant::now();
    vms.destroy(&one, GRACE).await.unwrap();
    took.push(("power off", ms(begun)));
    assert!(begun.elapsed() < GRACE, "it heeds its power button");
    let begun = Instant::now();
    vms.destroy(&two, Duration::ZERO).await.unwrap();
    took.push(("kill", ms(begun)));
    vms.discard(&saved).await.unwrap();
    assert_eq!(std::fs::read(spec.image.unwrap()).unwrap(), image, "the image is never written");
    assert_eq!((emulators(dir.path()), left(dir.path())), (Vec::new(), Vec::new()));
    let took: Vec<String> = took.iter().map(|(what, ms)| format!("{what} {ms:.1}")).collect();
    println!("ms under TCG: {}", took.join(", "));
}

/// A disk without room for a snapshot: it is told, the machine goes on, and half of it is not kept.
async fn saving_without_room(vms: &dyn Provider, handle: &Handle, dir: &Path) {
    if !support::is_root("a snapshot on a full disk") {
        return;
    }
    let snapshots = dir.join("vm/snapshots");
    let before = left(dir);
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(&snapshots)
        .status()
        .unwrap();
    if !mounted.success() {
        return support::not_tested("a snapshot on a full disk", "no tmpfs can be mounted");
    }
    let failed = vms.snapshot(handle).await;
    let kept = std::fs::read_dir(&snapshots).unwrap().count();
    let unmounted = Command::new("umount").arg(&snapshots).status().unwrap();
    assert!(unmounted.success());
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("make room on that disk"), "{error}");
    assert_eq!((kept, left(dir)), (0, before));
    answer(vms, handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_panics_is_an_end_with_its_reason() {
    let Some(spec) = guest("a panic") else { return };
    let dir = Scratch::new();
    let append = format!("{} guest.panic", spec.append);
    let vms = provider(dir.path(), VmSpec { append, ..spec });
    let made = vms.create(&request(1)).await.unwrap();
    let ended = tokio::spawn({
        let (vms, made) = (std::sync::Arc::clone(&vms), made.clone());
        async move { vms.exited(&made).await.0 }
    });
    // It panics at the first connection that reaches it.
    let begun = Instant::now();
    while !ended.is_finished() {
        assert!(begun.elapsed() < LONG, "it does not end: {:?}", vms.diagnose(&made).await);
        let asked = tokio::net::TcpStream::connect(made.address);
        tokio::time::timeout(Duration::from_millis(200), asked).await.map(drop).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let how = ended.await.unwrap();
    assert!(how.starts_with("the guest's kernel panicked; exited with code"), "{how}");
    let words = vms.diagnose(&made).await.last_lines;
    assert!(words.len() > 1 && words.ends_with(&["its kernel panicked".to_owned()]), "{words:?}");
    assert!(!words.iter().any(|line| line.contains('\u{fffd}')), "{words:?}");
    vms.destroy(&made, GRACE).await.unwrap();
    assert_eq!(left(dir.path()), Vec::<String>::new());
}

/// A machine that was being saved when Foreshadow ended is not left standing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_snapshot_is_given_up_by_the_next_start() {
    let Some(spec) = guest("an unfinished snapshot") else { return };
    // Nothing need be booted to stand still.
    let spec = VmSpec { kernel: None, initrd: None, append: String::new(), ..spec };
    let dir = Scratch::new();
    let first = provider(dir.path(), spec.clone());
    let made = first.create(&request(1)).await.unwrap();
    // As it is between the note and the end.
    first.freeze(&made).await.unwrap();
    std::fs::write(dir.path().join("vm/i1/saving"), "ran").unwrap();
    std::fs::create_dir_all(dir.path().join("vm/snapshots/i1-0.part")).unwrap();
    drop(first);
    let second = provider(dir.path(), spec);
    assert_eq!(second.adopt(&made).await.unwrap(), Adoption::Running);
    let sweep = Sweep { keep: vec![InstanceId(1)], lost: Vec::new() };
    assert_eq!(second.sweep(&sweep).await.unwrap(), 0);
    assert_eq!(left(dir.path()), ["i1"]);
    assert!(!dir.path().join("vm/i1/saving").exists());
    let saved = second.snapshot(&made).await.expect("it runs, and can be saved");
    second.destroy(&made, Duration::ZERO).await.unwrap();
    assert_eq!(left(dir.path()), std::slice::from_ref(&saved.0));
    second.discard(&saved).await.unwrap();
}

/// An emulator that is a script.
fn fake(dir: &Path, script: &str) -> VmSpec {
    let path = dir.join("fake-qemu");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    VmSpec { binary: path.display().to_string(), ..VmSpec::default() }
}

/// What comes of making one; nothing may be left of it.
async fn refused(dir: &Path, spec: VmSpec) -> ProviderError {
    let vms = provider(dir, spec);
    let error = vms.create(&request(1)).await.unwrap_err();
    assert_eq!(left(dir), Vec::<String>::new(), "{error}");
    let sweep = Sweep { keep: Vec::new(), lost: vec![InstanceId(1)] };
    assert_eq!(vms.sweep(&sweep).await.unwrap(), 0, "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_what_to_do() {
    let dir = Scratch::new();
    let at = |name: &str| Some(dir.path().join(name));
    let missing = VmSpec { binary: "qemu-of-nobody".to_owned(), ..VmSpec::default() };
    let empty = at("empty");
    std::fs::write(empty.as_ref().unwrap(), "").unwrap();
    for (spec, cause, text) in [
        (missing, Cause::NoEmulator, "asked to run qemu-of-nobody, which was looked for in PATH="),
        (VmSpec { image: at("x"), ..VmSpec::default() }, Cause::Absent, "asked for the image /"),
        (VmSpec { kernel: at("x"), ..VmSpec::default() }, Cause::Absent, "asked for the kernel /"),
        (
            VmSpec { initrd: Some(dir.path().to_owned()), ..VmSpec::default() },
            Cause::Absent,
            "is a directory; make it there or correct the provider's settings",
        ),
        (VmSpec { image: empty, ..VmSpec::default() }, Cause::Absent, "a disk of 0 bytes"),
    ] {
        let error = refused(dir.path(), spec).await;
        assert!(
            matches!(&error, ProviderError::Refused { cause: c, .. } if *c == cause),
            "{error}"
        );
        assert!(error.to_string().contains(text), "{error}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = refused(dir.path(), VmSpec { ports: port..=port, ..VmSpec::default() }).await;
    assert!(matches!(error, ProviderError::NoPort { .. }), "{error}");
    let unknown = from(1, &Snapshot("i9-9".to_owned()));
    let error = provider(dir.path(), VmSpec::default()).create(&unknown).await.unwrap_err();
    assert!(error.to_string().contains("snapshot \"i9-9\": there is none"), "{error}");
}

/// What an emulator says before it ends reaches the operator.
#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_ends_at_once_is_quoted() {
    let dir = Scratch::new();
    for (said, cause, next) in [
        ("Could not access KVM kernel module: Permission denied", Cause::NoKvm, "`accel: tcg`"),
        (
            "-netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:20000-:80'",
            Cause::Conflict,
            "remove or rename what has it",
        ),
        ("qemu: write: No space left on device", Cause::DiskFull, "make room on that disk"),
    ] {
        let script = format!("#!/bin/sh\necho \"{said}\" >&2\nexit 1\n");
        let spec = VmSpec { accel: Accel::Kvm, ..fake(dir.path(), &script) };
        let error = refused(dir.path(), spec).await;
        assert!(
            matches!(&error, ProviderError::Refused { cause: c, .. } if *c == cause),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains("to start i1: it exited with code 1 at once; it wrote: "), "{text}");
        assert!(text.contains(said) && text.contains(next), "{text}");
    }
}

/// One that listens, accepts and says nothing.
const SILENT: &str = "#!/usr/bin/env python3
import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind('qmp.sock')
s.listen()
held = []
while True:
    held.append(s.accept())
";

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_is_silent_is_given_up_in_time_and_ended() {
    let dir = Scratch::new();
    let spec = VmSpec { timeout: Duration::from_millis(300), ..fake(dir.path(), SILENT) };
    let error = refused(dir.path(), spec).await;
    assert!(matches!(error, ProviderError::Refused { cause: Cause::Late, .. }), "{error}");
    let text = error.to_string();
    let wanted = "asked the emulator of i1 to take orders: no answer within 300 ms";
    assert!(text.contains(wanted) && text.contains("raise `timeout`"), "{text}");
}

/// One that greets, and from then on says nothing.
const HUNG: &str = "#!/usr/bin/env python3
import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind('qmp.sock')
s.listen()
c, _ = s.accept()
c.sendall(b'{\"QMP\": {}}\\n')
c.recv(1000)
c.sendall(b'{\"return\": {}}\\n')
while c.recv(1000):
    pass
time.sleep(1000)
";

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_hangs_later_fails_each_step_in_time_and_is_killed() {
    let dir = Scratch::new();
    let spec = VmSpec { timeout: Duration::from_secs(20), ..fake(dir.path(), HUNG) };
    let made = provider(dir.path(), spec.clone());
    let handle = made.create(&request(1)).await.unwrap();
    drop(made);
    // Adopted, it is asked with less patience.
    let vms = provider(dir.path(), VmSpec { timeout: Duration::from_millis(200), ..spec });
    assert_eq!(vms.adopt(&handle).await.unwrap(), Adoption::Running);
    for step in [vms.freeze(&handle).await, vms.snapshot(&handle).await.map(drop)] {
        let error = step.unwrap_err().to_string();
        assert!(error.contains("no answer within 200 ms"), "{error}");
    }
    let words = vms.diagnose(&handle).await.last_lines.join(" ");
    assert!(words.contains("its console is silent") && words.contains("`accel: tcg`"), "{words}");
    let pid = handle.pid.unwrap();
    vms.destroy(&handle, Duration::from_millis(100)).await.unwrap();
    until("it is gone", || (!support::exists(pid)).then_some(())).await;
    assert_eq!(left(dir.path()), Vec::<String>::new());
}

/// A state directory may have any name.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_of_the_state_directory_is_no_obstacle() {
    let Some(spec) = guest("a long path") else { return };
    let spec = VmSpec { kernel: None, initrd: None, append: String::new(), ..spec };
    let dir = Scratch::new();
    let long: PathBuf = dir.path().join("x,".repeat(60));
    let vms = provider(&long, spec);
    let made = vms.create(&request(1)).await.unwrap();
    let saved = vms.snapshot(&made).await.unwrap();
    vms.destroy(&made, Duration::ZERO).await.unwrap();
    vms.discard(&saved).await.unwrap();
    assert_eq!(left(&long), Vec::<String>::new());
}
