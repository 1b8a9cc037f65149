//! What is refused of virtual machines.

use crate::only_error;

#[test]
fn machines_that_could_not_be_made_are_refused_where_they_are_written() {
    for (vm, message) in [
        ("{ image: a }", "found no \"port\""),
        ("{ port: 80 }", "found neither image nor kernel, expected one of them, or both"),
        ("{ image: a, port: 0 }", "at least 1"),
        ("{ image: a, port: 80, accel: kvn }", "did you mean \"kvm\"?"),
        ("{ image: a, port: 80, initrd: b }", "found initrd without kernel, expected a kernel"),
        ("{ image: a, port: 80, append: quiet }", "found append without kernel"),
        ("{ image: a, port: 80, memory: 1000000B }", "at least 1MiB"),
        ("{ image: a, port: 80, memory: 1100000B }", "expected whole MiB, such as 512MiB"),
        ("{ image: a, port: 80, cpus: 0 }", "at least 1"),
        ("{ image: a, port: 80, machine: -pc }", "found \"-pc\", expected a name or a path"),
        ("{ image: a, port: 80, args: [-m, 1G] }", "found \"-m\" in args, expected memory beside"),
        ("{ image: a, port: 80, args: [--accel, kvm] }", "expected accel beside args"),
        ("{ image: a, port: 80, args: [-daemonize] }", "options that foreshadow leaves open"),
        ("{ image: a, port: 80, args: ['{port}'] }", "expected one of {id}, {service}"),
        ("{ image: a, port: 80, ports: 20000-20001 }", "the most shadows of the pool"),
        ("{ image: a, port: 80, args: [-version] }", "found \"-version\" in args"),
        ("{ image: a, port: 80, args: [-sandbox, off] }", "expected sandbox beside args"),
        ("{ image: a, port: 80, group: shop }", "found a group without a user"),
        ("{ image: a, port: 80, timeout: 1ms }", "at least 100ms"),
    ] {
        let text = format!("health: {{ path: / }}\nshadows: {{ provider: {{ vm: {vm} }} }}");
        let found = only_error("", &text);
        assert!(found.contains(message), "{vm}: {found}");
    }
}

/// An accepted connection is QEMU's, not the guest's.
#[test]
fn a_machine_that_is_not_asked_for_an_answer_is_refused() {
    for health in ["", "health: { type: tcp }\n", "health: { interval: 2s }\n"] {
        let text = format!("{health}shadows: {{ provider: {{ vm: {{ image: a, port: 80 }} }} }}");
        let found = only_error("", &text);
        assert!(found.contains("services.s.shadows: found virtual machines beside"), "{found}");
        assert!(found.contains("such as health: { path: / }"), "{found}");
    }
}
