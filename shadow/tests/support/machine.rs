//! A small guest for virtual machines: a kernel of Debian's, and a first file system made here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use foreshadow_control::InstanceId;
use foreshadow_shadow::{Accel, VmProvider, VmSpec};

/// What the guest needs of its kernel, beside what these need themselves.
const MODULES: [&str; 6] =
    ["virtio_pci", "virtio_net", "virtio_blk", "button", "evdev", "pvpanic-mmio"];

/// What it takes to boot one; else the reason stands in the test's output, which is shown at the end of
/// the run (`.config/nextest.toml`).
pub(crate) fn guest(test: &str) -> Option<VmSpec> {
    match made() {
        Ok(spec) => Some(spec),
        Err(why) => {
            super::not_tested(&format!("virtual machines: {test}"), &why);
            None
        }
    }
}

/// Where `scripts/setup.sh` puts the kernel and its modules.
fn kernel() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("FORESHADOW_TEST_KERNEL").unwrap_or_else(|| {
        let home = || set("HOME").unwrap_or_default().join(".cache");
        set("XDG_CACHE_HOME").unwrap_or_else(home).join("foreshadow/kernel")
    })
}

fn made() -> Result<VmSpec, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let binary = VmSpec::default().binary;
    if !path.split(':').any(|dir| Path::new(dir).join(&binary).is_file()) {
        return Err(format!("there is no {binary}; `make setup` installs it on Debian"));
    }
    let dir = kernel();
    let kernel = dir.join("vmlinuz");
    if !kernel.is_file() {
        return Err(format!("there is no {}; `make setup` fetches it on Debian", kernel.display()));
    }
    Ok(VmSpec {
        // Whether a machine that offers KVM can run any kernel with it is not what is tested.
        accel: Accel::Tcg,
        memory_mib: 96,
        initrd: Some(initrd(&dir)?),
        kernel: Some(kernel),
        append: "console=ttyS0 quiet panic=-1 mitigations=off nokaslr".to_owned(),
        ..VmSpec::default()
    })
}

/// Builds the guest's program and packs it, where that was not done before.
fn initrd(modules: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/guest/init.rs");
    let packed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest.cpio");
    let age = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if age(&packed).is_some_and(|made| Some(made) > age(&source)) {
        return Ok(packed);
    }
    // Tests that run beside this one, each in a process, may do the same.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
    let init = scratch.path().join("init");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let built = Command::new(compiler)
        .args(["--edition", "2024", "-C", "opt-level=s", "-C", "panic=abort"])
        .args(["-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .args([source.as_os_str(), "-o".as_ref(), init.as_os_str()])
        .output()
        .map_err(|error| format!("rustc cannot be run: {error}"))?;
    if !built.status.success() {
        return Err(format!("rustc: {}", String::from_utf8_lossy(&built.stderr)));
    }
    let mut order = Vec::new();
    let mut loaded = BTreeMap::new();
    MODULES.iter().try_for_each(|name| with_needs(modules, name, &mut order, &mut loaded))?;
    let mut archive = Archive::default();
    ["dev", "proc", "modules"].iter().for_each(|dir| archive.add(dir, 0o40_755, b""));
    archive.device("dev/console", 0o20_600, (5, 1));
    archive.add("init", 0o100_755, &fs::read(init).unwrap());
    archive.add("modules/order", 0o100_644, order.join("\n").as_bytes());
    for (name, bytes) in loaded {
        archive.add(&format!("modules/{name}"), 0o100_644, &bytes);
    }
    archive.add("TRAILER!!!", 0, b"");
    let whole = scratch.path().join("cpio");
    fs::write(&whole, archive.bytes).unwrap();
    fs::rename(whole, &packed).unwrap();
    Ok(packed)
}

/// Adds a module behind those that it says it depends on.
fn with_needs(
    dir: &Path,
    name: &str,
    order: &mut Vec<String>,
    loaded: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), String> {
    let file = format!("{name}.ko");
    if loaded.contains_key(&file) {
        return Ok(());
    }
    let bytes = fs::read(dir.join(&file)).map_err(|error| format!("module {name}: {error}"))?;
    let mark = b"\0depends=";
    let at = bytes.windows(mark.len()).position(|found| found == mark);
    let needs: String = at.map_or_else(String::new, |at| {
        let text = bytes[at + mark.len()..].iter().take_while(|byte| **byte != 0);
        text.map(|byte| char::from(*byte)).collect()
    });
    loaded.insert(file.clone(), bytes);
    for need in needs.split(',').filter(|need| !need.is_empty()) {
        with_needs(dir, need, order, loaded)?;
    }
    order.push(file);
    Ok(())
}

/// A first file system, as the kernel's `Documentation/driver-api/early-userspace` has it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, mode, data, (0, 0));
    }

    fn device(&mut self, name: &str, mode: u32, number: (u32, u32)) {
        self.entry(name, mode, b"", number);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8], (major, minor): (u32, u32)) {
        self.entries += 1;
        let length = |length: usize| u32::try_from(length).unwrap();
        let (data_length, name_length) = (length(data.len()), length(name.len()) + 1);
        let (entry, rest) = (self.entries, [0, 0, 1, 0]);
        let mut head = format!("070701{entry:08x}{mode:08x}");
        let fields = rest.into_iter().chain([data_length, 0, 0, major, minor, name_length, 0]);
        fields.for_each(|field| head.push_str(&format!("{field:08x}")));
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A provider of that guest, as a start of Foreshadow makes it.
pub(crate) fn provider(dir: &Path, spec: VmSpec) -> Arc<VmProvider> {
    Arc::new(VmProvider::new(super::host(dir, foreshadow_shadow::Facility::Auto), spec))
}

/// Emulators that run below a state directory, by what the kernel says they are and where.
pub(crate) fn emulators(dir: &Path) -> Vec<(InstanceId, u32)> {
    let place = dir.canonicalize().unwrap().join("vm");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<(InstanceId, u32)> = pids
        .filter_map(|pid| {
            let is_one = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            is_one.to_str()?.contains("qemu-system").then_some(())?;
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            let name = cwd.strip_prefix(&place).ok()?.to_str()?;
            Some((InstanceId(name.strip_prefix('i')?.parse().ok()?), pid))
        })
        .collect();
    found.sort_unstable();
    found
}

/// A state directory whose machines end with the test, whatever ends that.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        emulators(self.path()).into_iter().for_each(|(_, pid)| super::kill_if_there(pid));
    }
}

/// What is left of machines and snapshots in a state directory.
pub(crate) fn left(dir: &Path) -> Vec<String> {
    let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().collect::<Vec<_>>();
    let place = dir.join("vm");
    let all = below(&place).into_iter().chain(below(&place.join("snapshots")));
    let names = all.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name != "snapshots").collect()
}
