//! What is refused of pods.

use crate::only_error;

#[test]
fn pods_that_could_not_be_made_are_refused_where_they_are_written() {
    for (pods, message) in [
        ("{ namespace: a, image: b }", "found no \"port\""),
        ("{ image: b, port: 1 }", "found no \"namespace\""),
        (
            "{ namespace: a, port: 1 }",
            "found no image, expected one of image, template, mirror, claim",
        ),
        ("{ namespace: A, image: b, port: 1 }", "found \"A\", expected a name of small letters"),
        (
            "{ namespace: a..b, image: b, port: 1 }",
            "found \"a..b\", expected a name of small letters",
        ),
        ("{ namespace: a.b, image: b, port: 1 }", "found \"a.b\", expected up to 63 small letters"),
        (
            "{ namespace: a, mirror: b, container: c.d, port: 1 }",
            "found \"c.d\", expected up to 63 small letters",
        ),
        (
            "{ namespace: a, image: b, port: 1, labels: { 'Foo Bar!!/x': y } }",
            "found the name \"Foo Bar!!/x\", expected up to",
        ),
        (
            "{ namespace: a, image: b, port: 1, labels: { a.b/c/d: e } }",
            "found the name \"a.b/c/d\"",
        ),
        ("{ namespace: a, image: b, port: 0 }", "at least 1"),
        (
            "{ namespace: a, image: b, mirror: c, port: 1 }",
            "found mirror beside image, expected one of image, template, mirror",
        ),
        ("{ namespace: a, mirror: b, env: { A: b }, port: 1 }", "found env without image"),
        ("{ namespace: a, image: b, container: c, port: 1 }", "found container beside image"),
        ("{ namespace: a, image: b, port: 1, context: c }", "found a context without a kubeconfig"),
        ("{ namespace: a, image: b, port: 1, command: ['{address}'] }", "expected one of {port}"),
        ("{ namespace: a, image: b, port: 1, limits: { memory: 1MiB } }", "at least 6MiB"),
        ("{ namespace: a, image: b, port: 1, lease: 1s }", "at least 3s"),
        (
            "{ namespace: a, image: b, port: 1, labels: { app: 'a b' } }",
            "found \"a b\", expected up to",
        ),
        (
            "{ namespace: a, image: b, port: 1, labels: { foreshadow.dev/owner: b } }",
            "expected a label of your own",
        ),
        ("{ namespace: a, template: 1, port: 1 }", "found 1, expected a pod template"),
        ("{ namespace: a, template: { metadata: {} }, port: 1 }", "found no \"spec\""),
        ("{ namespace: a, template: { spec: {} }, port: 1 }", "found no \"containers\""),
        (
            "{ namespace: a, template: { spec: { containers: [] } }, port: 1 }",
            "at least one container",
        ),
        (
            "{ namespace: a, template: { spec: { containers: [{ name: b }] } }, port: 1 }",
            "found a container without image",
        ),
        (
            "{ namespace: a, template: { sepc: {}, spec: { containers: [{ name: b, image: c }] } }, port: 1 }",
            "found unknown key \"sepc\"",
        ),
        (
            "{ namespace: a, template: { spec: { restartPolicy: Always, containers: [{ name: b, image: c }] } }, port: 1 }",
            "found another restartPolicy, expected restartPolicy: Never",
        ),
    ] {
        let text = format!("shadows: {{ provider: {{ kubernetes: {pods} }} }}");
        let found = only_error("", &text);
        assert!(found.contains(message), "{pods}: {found}");
    }
}
