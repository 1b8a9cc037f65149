//! Virtual machines as written.

use super::read::table;
use super::{
    Bytes, Count, FilePath, List, OneOf, Ports, RawCpu, RawOutput, RawProcessLimits, Switch, Text,
    Time, Word,
};
use crate::Accel;

table! {
    /// Virtual machines on this machine, in QEMU; an image or a kernel must be there. In append and
    /// args, {id} and {service} stand for those of the instance.
    RawVm {
        /// A disk, qcow2 or raw, which is never written: each machine writes to a layer of its own.
        image: FilePath,
        /// A kernel that is started instead of what is on the disk.
        kernel: FilePath,
        /// The first file system of that kernel.
        initrd: FilePath,
        /// The command line of that kernel.
        append: Text,
        /// The emulator, by name or path. Default: qemu-system-x86_64.
        binary: Text,
        /// The kind of machine in QEMU's words, with PCI. Default: pc.
        machine: Text,
        /// kvm lets the processor run it, tcg the emulator; auto takes kvm where QEMU can open it.
        /// Default: auto.
        accel: OneOf<Accel>,
        /// Virtual processors, 1 to 1024. Default: 1.
        cpus: Count,
        /// Memory, whole MiB. Default: 256MiB.
        memory: Bytes,
        /// The port it serves on within the machine, on the address 10.0.2.15 or one that it gets by
        /// DHCP.
        port: Count = required,
        /// Whether it may open connections to the outside. That includes this machine's own loopback
        /// (as 10.0.2.2), and with it an admin interface without a token. Default: off.
        outbound: Switch,
        /// Added to QEMU's command.
        args: List<Word>,
        /// Whether QEMU gives up system calls that it has no use for (its -sandbox); off for one that was
        /// built without. Default: on.
        sandbox: Switch,
        /// The user QEMU runs as, by name or number; it must be able to pass through the state directory
        /// and to read the image. Default: that of Foreshadow.
        user: Word,
        /// The group it runs as, by name or number. Default: that of the user.
        group: Word,
        /// What QEMU is limited to, beside the CPU; its memory is that of the machine and some more.
        limits: RawProcessLimits,
        /// Ports of this machine that lead there. Default: 20000-29999.
        ports: Ports,
        /// How much of its serial console is kept, in `logs` of the state directory.
        output: RawOutput,
        /// Longest time for one answer of QEMU, 100ms to 1h; memory is saved and restored within ten
        /// times that. Default: 10s.
        timeout: Time,
        /// Longest time from its making until its health check passes, up to 1h. Default: 2m.
        start_timeout: Time,
        /// Time between its power button and its end, up to 1h. Default: 30s.
        stop_timeout: Time,
        /// CPU by tier.
        cpu: RawCpu,
    }
}
