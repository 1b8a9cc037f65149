//! What is told about machines of a service, and the command that starts one.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshadow_control::{InstanceId, ServiceName};

use super::place::{DISK, QMP};
use crate::hash::fnv1a;
use crate::process::{Confinement, OutputBounds, ProcessSpec};

/// How machines of a service are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSpec {
    /// The emulator, by name or path.
    pub binary: String,
    /// The kind of machine, in the emulator's words.
    pub machine: String,
    /// Who runs its instructions.
    pub accel: Accel,
    /// Virtual processors; at least 1.
    pub cpus: u32,
    /// Memory in MiB; at least 1.
    pub memory_mib: u64,
    /// A disk, qcow2 or raw, which is never written: each machine has a layer of its own over it.
    pub image: Option<PathBuf>,
    /// A kernel that is started instead of what is on the disk.
    pub kernel: Option<PathBuf>,
    /// The kernel's first file system.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line. `{id}` and `{service}` are replaced.
    pub append: String,
    /// The port it serves on within the machine.
    pub port: u16,
    /// Whether the machine may open connections to the outside.
    pub outbound: bool,
    /// Added to the emulator's command; `{id}` and `{service}` are replaced.
    pub args: Vec<String>,
    /// Ports of this machine that lead to that one.
    pub ports: RangeInclusive<u16>,
    /// How much of the serial console is kept.
    pub output: OutputBounds,
    /// Longest time for one answer of the emulator; saving and restoring memory have ten times it.
    pub timeout: Duration,
    /// What the emulator is held to; it always has a clean environment and can gain no rights.
    pub confinement: Confinement,
    /// Whether the emulator gives up the system calls that it has no use for.
    pub sandbox: bool,
    /// Which file the image is, so that another of its name is another; the provider fills it in.
    pub image_seen: Option<String>,
}

impl Default for VmSpec {
    /// Nothing to boot; one processor, 256 MiB, whatever runs fastest, port 80, nothing outbound.
    fn default() -> Self {
        Self {
            binary: "qemu-system-x86_64".to_owned(),
            machine: "pc".to_owned(),
            accel: Accel::Auto,
            cpus: 1,
            memory_mib: 256,
            image: None,
            kernel: None,
            initrd: None,
            append: String::new(),
            port: 80,
            outbound: false,
            args: Vec::new(),
            ports: 20_000..=29_999,
            output: OutputBounds::default(),
            timeout: Duration::from_secs(10),
            confinement: Confinement::default(),
            sandbox: true,
            image_seen: None,
        }
    }
}

/// Who runs the instructions of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accel {
    /// The processor where the emulator can make it, else the emulator.
    #[default]
    Auto,
    /// The processor, or it is an error.
    Kvm,
    /// The emulator.
    Tcg,
}

/// No old system calls, no other user, no other programs, no change of priorities.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

impl VmSpec {
    /// With paths that mean the same in another directory.
    pub(super) fn absolute(mut self) -> Self {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        for path in [&mut self.image, &mut self.kernel, &mut self.initrd] {
            *path = path.as_deref().map(whole);
        }
        if self.binary.contains('/') {
            self.binary = whole(Path::new(&self.binary)).display().to_string();
        }
        // Read once, not with each fingerprint: a file system that hangs must hold up nothing else.
        self.image_seen = self.image.as_deref().and_then(identity);
        self
    }

    /// Everything that makes a difference to instances, hashed since it may hold secrets.
    pub(super) fn fingerprint(&self) -> String {
        let plain = Self {
            timeout: Duration::ZERO,
            output: OutputBounds::default(),
            ports: 0..=0,
            ..self.clone()
        };
        fnv1a(format!("{plain:?}").into_bytes())
    }

    /// The files that must be there, with what they are.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("image", &self.image), ("kernel", &self.kernel), ("initrd", &self.initrd)];
        all.into_iter().filter_map(|(what, path)| Some((what, path.as_deref()?)))
    }

    /// The emulator for one instance, started in `dir`, which holds its disk and its socket: names
    /// within it are short, and hold no comma.
    pub(super) fn process(
        &self,
        id: InstanceId,
        address: SocketAddr,
        dir: &Path,
        service: &ServiceName,
        restored: bool,
    ) -> ProcessSpec {
        // Its words are filled in here: what stands in braces in a path is a name like any other.
        let fill = |text: &str| {
            text.replace("{id}", &id.to_string()).replace("{service}", service.as_str())
        };
        let mut command = vec![self.binary.clone()];
        let mut add = |words: &[&str]| command.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-name", &format!("foreshadow-{id}"), "-nodefaults", "-no-user-config"]);
        add(&["-display", "none", "-machine", &self.machine, "-cpu", "max"]);
        match self.accel {
            Accel::Auto => add(&["-accel", "kvm", "-accel", "tcg"]),
            Accel::Kvm => add(&["-accel", "kvm"]),
            Accel::Tcg => add(&["-accel", "tcg"]),
        }
        add(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        if self.sandbox {
            add(&["-sandbox", SANDBOX]);
        }
        // Its clock chip follows this machine's also while it stands still.
        add(&["-rtc", "base=utc,clock=host"]);
        // Opened once more, to append as others do: the file is emptied when it has grown.
        add(&["-chardev", "file,id=console,path=/dev/stdout,append=on"]);
        add(&["-serial", "chardev:console"]);
        add(&["-chardev", &format!("socket,id=qmp,path={QMP},server=on,wait=off")]);
        add(&["-mon", "chardev=qmp,mode=control"]);
        let restrict = if self.outbound { "" } else { ",restrict=on" };
        let (from, to) = (address, self.port);
        add(&["-netdev", &format!("user,id=net,hostfwd=tcp:{from}-:{to}{restrict}")]);
        add(&["-device", "virtio-net-pci,netdev=net,romfile="]);
        // A machine that restarts itself has lost what it was: that is an end.
        add(&["-action", "reboot=shutdown,shutdown=poweroff,panic=shutdown"]);
        if ["pc", "q35"].iter().any(|kind| self.machine.starts_with(kind)) {
            // One tells of panics, the other a restored guest that its random numbers are not its own.
            add(&["-device", "pvpanic", "-device", "vmgenid,guid=auto"]);
        }
        if self.image.is_some() {
            add(&["-drive", &format!("if=none,id=disk,file={DISK},format=qcow2")]);
            add(&["-device", "virtio-blk-pci,drive=disk"]);
        }
        for (option, path) in [("-kernel", &self.kernel), ("-initrd", &self.initrd)] {
            if let Some(path) = path {
                add(&[option, &path.display().to_string()]);
            }
        }
        if !self.append.is_empty() {
            add(&["-append", &fill(&self.append)]);
        }
        if restored {
            add(&["-incoming", "fd:0"]);
        }
        command.extend(self.args.iter().map(|word| fill(word)));
        ProcessSpec {
            command,
            verbatim: true,
            owns_output: true,
            dir: Some(dir.to_owned()),
            // What Foreshadow was told in secret is nothing to a machine.
            confinement: Confinement {
                clean_env: true,
                no_new_privileges: true,
                ..self.confinement.clone()
            },
            output: self.output,
            ..ProcessSpec::default()
        }
    }
}

/// A file as it is now.
fn identity(path: &Path) -> Option<String> {
    let about = path.metadata().ok()?;
    Some(format!(
        "{}:{}:{}",
        about.ino(),
        about.len(),
        about.mtime_nsec() + about.mtime() * 1_000_000_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(spec: &VmSpec, restored: bool) -> String {
        let (address, shop) = (SocketAddr::from(([127, 0, 0, 1], 20_001)), "shop".into());
        spec.process(InstanceId(7), address, Path::new("/x"), &shop, restored).command.join(" ")
    }

    #[test]
    fn braces_stand_for_something_in_words_only_and_an_emulator_is_held_to_something() {
        let spec = VmSpec {
            kernel: Some("/boot/{id}/{port}".into()),
            append: "name={service}-{id}".to_owned(),
            ..VmSpec::default()
        };
        let text = command(&spec, false);
        assert!(text.contains("-kernel /boot/{id}/{port} -append name=shop-i7"), "{text}");
        assert!(
            text.contains("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
            "{text}"
        );
        assert!(
            text.contains("-rtc base=utc,clock=host") && text.contains(",restrict=on"),
            "{text}"
        );
        let (address, shop) = (SocketAddr::from(([127, 0, 0, 1], 1)), "shop".into());
        let confinement = Confinement { tasks: Some(9), ..Confinement::default() };
        let spec = VmSpec { sandbox: false, confinement, ..spec };
        let process = spec.process(InstanceId(7), address, Path::new("/x"), &shop, false);
        let held = process.confinement;
        assert!(
            held.no_new_privileges && held.clean_env && held.tasks == Some(9) && process.verbatim
        );
        assert!(!command(&spec, false).contains("-sandbox"));
    }

    #[test]
    fn an_image_that_was_replaced_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let print =
            || VmSpec { image: Some(image.clone()), ..VmSpec::default() }.absolute().fingerprint();
        std::fs::write(&image, "one").unwrap();
        let one = print();
        assert_eq!(one, print());
        std::fs::write(dir.path().join("new"), "two").unwrap();
        std::fs::rename(dir.path().join("new"), &image).unwrap();
        assert_ne!(one, print());
    }

    #[test]
    fn a_command_says_what_was_asked_for() {
        let spec = VmSpec {
            kernel: Some("/boot/vmlinuz".into()),
            append: "quiet".to_owned(),
            accel: Accel::Tcg,
            outbound: false,
            args: vec!["-device".to_owned(), "virtio-rng-pci".to_owned()],
            ..VmSpec::default()
        };
        let text = command(&spec, false);
        for part in [
            "qemu-system-x86_64 -name foreshadow-i7 ",
            "-accel tcg -smp 1 -m 256M ",
            "hostfwd=tcp:127.0.0.1:20001-:80,restrict=on ",
            "-kernel /boot/vmlinuz -append quiet",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.ends_with("-device virtio-rng-pci"), "{text}");
        assert!(!text.contains("-incoming") && !text.contains("-drive"), "{text}");
        assert!(command(&spec, true).contains("-incoming fd:0"));
        let auto = VmSpec { accel: Accel::Auto, image: Some("/d,1".into()), ..spec };
        let text = command(&auto, false);
        assert!(text.contains("-accel kvm -accel tcg") && !text.contains("/d,1"), "{text}");
    }

    #[test]
    fn only_what_changes_a_machine_changes_its_fingerprint() {
        let spec = VmSpec::default();
        let same = VmSpec { timeout: Duration::from_secs(1), ports: 1..=2, ..spec.clone() };
        assert_eq!(spec.fingerprint(), same.fingerprint());
        let other = VmSpec { memory_mib: 128, ..spec.clone() };
        assert_ne!(spec.fingerprint(), other.fingerprint());
    }
}
