//! What is told about machines of a service, and the command that starts one.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshadow_control::InstanceId;

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
}

impl Default for VmSpec {
    /// Nothing to boot; one processor, 256 MiB, whatever runs fastest, port 80.
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
            outbound: true,
            args: Vec::new(),
            ports: 20_000..=29_999,
            output: OutputBounds::default(),
            timeout: Duration::from_secs(10),
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
        restored: bool,
    ) -> ProcessSpec {
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
            add(&["-append", &self.append]);
        }
        if restored {
            add(&["-incoming", "fd:0"]);
        }
        command.extend(self.args.iter().cloned());
        ProcessSpec {
            command,
            dir: Some(dir.to_owned()),
            // What Foreshadow was told in secret is nothing to a machine.
            confinement: Confinement { clean_env: true, ..Confinement::default() },
            output: self.output,
            ..ProcessSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(spec: &VmSpec, restored: bool) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], 20_001));
        spec.process(InstanceId(7), address, Path::new("/x"), restored).command.join(" ")
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
