//! What is refused of containers.

use foreshadow_config::Format;

use crate::{errors, only_error, read};

#[test]
fn containers_that_could_not_be_made_are_refused_where_they_are_written() {
    for (docker, message) in [
        ("{ image: a }", "found no \"port\""),
        ("{ port: 1 }", "found no \"image\""),
        ("{ image: a, port: 0 }", "at least 1"),
        ("{ image: 'a b', port: 1 }", "such as shop:1.4"),
        ("{ image: a, port: 1, pull: allways }", "did you mean \"always\"?"),
        (
            "{ image: a, port: 1, endpoint: 'ssh://me@there' }",
            "expected unix:///PATH or tcp://HOST:PORT",
        ),
        (
            "{ image: a, port: 1, endpoint: /run/docker.sock }",
            "found \"/run/docker.sock\", expected unix:///PATH",
        ),
        (
            "{ image: a, port: 1, tls: { ca: a, cert: b, key: c } }",
            "found tls for unix:///var/run/docker.sock",
        ),
        (
            "{ image: a, port: 1, command: ['{address}'] }",
            "expected one of {port}, {id}, {service}",
        ),
        (
            "{ image: a, port: 1, aliases: [b], isolate: off }",
            "found aliases with isolate: off, expected isolate: on",
        ),
        (
            "{ image: a, port: 1, mirror: b, publish: 127.0.0.1 }",
            "found publish beside isolate: on, expected one of them",
        ),
        (
            "{ image: a, port: 1, networks: [host] }",
            "found \"host\", expected a network with addresses",
        ),
        (
            "{ image: a, port: 1, mounts: [{ source: ./x, target: /x }] }",
            "an absolute path or a volume's name",
        ),
        ("{ image: a, port: 1, limits: { warm_memory: 8MiB } }", "warm_memory without memory"),
        ("{ image: a, port: 1, limits: { ulimits: { nofiles: 9 } } }", "did you mean \"nofile\"?"),
        (
            "{ image: a, port: 1, limits: { ulimits: { core: { soft: 2, hard: 1 } } } }",
            "found soft 2 above hard 1",
        ),
    ] {
        let text = format!("shadows: {{ provider: {{ docker: {docker} }} }}");
        let found = only_error("", &text);
        assert!(found.contains(message), "{docker}: {found}");
    }
}

#[test]
fn an_engine_is_reached_in_one_way_by_all_services() {
    let file = |first: &str, second: &str| {
        let of = |name: &str, at: u8, docker: &str| {
            format!(
                "  {name}:\n    primaries: ['127.0.0.1:{at}']\n    \
                 shadows: {{ provider: {{ docker: {{ image: a, port: 1, {docker} }} }} }}\n"
            )
        };
        format!(
            "listeners: [{{ address: ':80', routes: [{{ service: a }}] }}]\nservices:\n{}{}",
            of("a", 1, first),
            of("b", 2, second)
        )
    };
    let here = "endpoint: 'tcp://a:1'";
    let with_tls = format!("{here}, tls: {{ ca: /a, cert: /b, key: /c }}");
    let others = ["tcp://a:1/", "tcp://a:01", "tcp://A:1"]
        .map(|at| format!("endpoint: '{at}', tls: {{ ca: /a, cert: /b, key: /d }}"));
    for second in others.iter().map(String::as_str).chain([here]) {
        let found = errors(&file(&with_tls, second), Format::Yaml);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].0.ends_with("services.b.shadows.provider.docker.endpoint"), "{found:#?}");
        assert!(found[0].1.contains("tcp://a:1 with another tls than that of \"a\""), "{found:#?}");
    }
    let tls = |at: &str, key: &str| {
        format!("endpoint: 'tcp://a{at}', tls: {{ ca: /a, cert: /b, key: {key} }}")
    };
    let found = errors(&file(&tls("", "/c"), &tls(":2376", "/d")), Format::Yaml);
    assert_eq!(found.len(), 1, "the port that goes without saying: {found:#?}");
    for (first, second) in [
        (with_tls.as_str(), with_tls.as_str()),
        (here, here),
        (with_tls.as_str(), "endpoint: 'tcp://a:2'"),
    ] {
        read(&file(first, second), Format::Yaml).unwrap();
    }
}
