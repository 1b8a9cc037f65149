//! What is said of wrong configurations: everything at once, and where.

mod docker;
mod kubernetes;
mod learning;
mod scaling;
mod ten;
mod vm;

use foreshadow_config::{Config, Errors, Format, parse};
use ten::{TEN, TEN_JSON, TEN_TOML, TEN_YAML};

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8081".to_owned()),
        "WORKERS" => Some("3".to_owned()),
        "WORD" => Some("many".to_owned()),
        _ => None,
    }
}

fn read(text: &str, format: Format) -> Result<Config, Errors> {
    let name = match format {
        Format::Yaml => "config.yaml",
        Format::Toml => "config.toml",
        Format::Json => "config.json",
    };
    parse(text, format, name, &env)
}

/// Each error as `line:column path`, and its message.
fn errors(text: &str, format: Format) -> Vec<(String, String)> {
    let errors = read(text, format).expect_err("the text is wrong");
    errors.iter().map(|d| (format!("{}:{} {}", d.line, d.column, d.path), d.message())).collect()
}

#[test]
fn ten_errors_are_found_in_one_run_in_every_format() {
    let texts = [(TEN_YAML, Format::Yaml), (TEN_TOML, Format::Toml), (TEN_JSON, Format::Json)];
    for (index, (text, format)) in texts.into_iter().enumerate() {
        let found = errors(text, format);
        let all: Vec<_> = found.iter().map(|(place, m)| format!("{place} {m}")).collect();
        for ((place, message), (path, start, places)) in found.iter().zip(TEN) {
            assert_eq!(*place, format!("{} {path}", places[index]), "{format:?} {all:#?}");
            assert!(message.starts_with(&format!("{path}: {start}")), "{message}");
        }
        assert_eq!(found.len(), 10, "{format:?} {all:#?}");
    }
}

#[test]
fn errors_print_like_those_of_a_compiler() {
    let text = TEN_YAML.replace("service: shpo", "service: shop");
    let shown = read(&text, Format::Yaml).unwrap_err().to_string();
    let expected = "\
config.yaml:11:11: services.shop.mode: found \"atc\", expected one of observe, advise, act; \
did you mean \"act\"?
   11 |     mode: atc
      |           ^^^
";
    assert!(shown.contains(expected), "{shown}");
    assert!(shown.contains("      = help: set CAPACITY, or give a default: ${CAPACITY:-...}"));
}

#[test]
fn a_listener_on_all_addresses_leaves_none_of_its_port() {
    let on = |first: &str, second: &str| {
        let listener =
            |address: &str| format!("  - {{ address: '{address}', routes: [{{ service: s }}] }}\n");
        let text = format!(
            "listeners:\n{}{}services:\n  s:\n    primaries: ['127.0.0.1:1']\n",
            listener(first),
            listener(second)
        );
        read(&text, Format::Yaml).err().map(|errors| errors.to_string())
    };
    for (first, second) in [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("[::]:80", "0.0.0.0:80"),
    ] {
        let shown = on(first, second).expect("one takes the other's");
        let expected = format!("found {second}, expected an address that {first} leaves free");
        assert!(shown.contains(&expected), "{shown}");
    }
    for (first, second) in
        [("127.0.0.1:80", "127.0.0.2:80"), ("0.0.0.0:80", "[::1]:80"), ("[::]:80", "[::]:81")]
    {
        assert_eq!(on(first, second), None, "{first} and {second}");
    }
}

/// A sound configuration with `more` in its service and `top` beside it.
fn with(top: &str, more: &str) -> String {
    format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
         services:\n  s:\n    primaries: ['127.0.0.1:1']\n    {}\n{top}\n",
        more.replace('\n', "\n    ")
    )
}

fn only_error(top: &str, more: &str) -> String {
    let text = with(top, more);
    let mut found = errors(&text, Format::Yaml);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    found.remove(0).1
}

#[test]
fn figures_that_do_not_fit_each_other_are_refused() {
    for (more, message) in [
        ("health: { interval: 1s, timeout: 2s }", "found 2s, expected at most the interval, 1s"),
        ("timeouts: { connect: 2s, total: 1s }", "found 2s, expected at most the total, 1s"),
        ("timeouts: { first_byte: 2s, total: 1s }", "found 2s, expected at most the total, 1s"),
        ("timeouts: { stall: 2s, total: 1s }", "found 2s, expected at most the total, 1s"),
        ("timeouts: { stall: 0s }", "found 0s, expected at least 1ms"),
        ("ejection: { base: 1m, max: 1s }", "found 1s, expected at least the base, 1m"),
        (
            "forecast: { quantiles: { commit: 60%, warm: 50% } }",
            "expected commit <= warm <= prepare",
        ),
        ("objective: { latency_p50: 1s, latency_p99: 2s }", "found another latency, latency_p99"),
        ("health: { type: tcp, path: / }", "found path in a tcp check"),
        ("forecast: { horizon: 11m }", "found 11m, expected at most 10m"),
        ("target_utilisation: 0%", "found 0%, expected at least 1%"),
        ("target_utilisation: 75", "found 75, expected a share such as 75% or 0.75"),
        ("capacity: 0", "found 0, expected auto, or requests per second"),
        ("panic: 50%", "found \"50%\", expected on or off"),
        ("ejection: { probation: 10s }", "found unknown key \"probation\", expected one of"),
        ("ejection: { probation_requests: 0 }", "found 0, expected at least 1"),
        ("ejection: { probation_requests: 101 }", "found 101, expected at most 100"),
        ("ejection: { consecutive_errors: 65536 }", "found 65536, expected at most 1000"),
        ("retries: { on: [reset, gateway_eror] }", "did you mean \"gateway_error\"?"),
        ("connections: { max_idle: 64 }", "found unknown key \"connections\""),
        (
            "shadows: { provider: { nomad: {} } }",
            "nomad\", expected one of process, docker, kubernetes, vm, exec, webhook",
        ),
        ("shadows: { provider: { proces: {} } }", "did you mean \"process\"?"),
        (
            "shadows: { provider: {} }",
            "found no provider, expected one of process, docker, kubernetes, vm, exec, webhook",
        ),
        (
            "shadows: { provider: { exec: { command: [a] }, webhook: { url: 'http://a:1' } } }",
            "found webhook beside exec, expected one of",
        ),
        ("shadows: { provider: { exec: {} } }", "found no \"command\""),
        ("shadows: { provider: { exec: { command: [] } } }", "found an empty list"),
        ("shadows: { provider: { exec: { command: [a], can: [freez] } } }", "mean \"freeze\"?"),
        (
            "shadows: { provider: { exec: { command: [a], can: [thaw] } } }",
            "expected one of freeze, resize",
        ),
        ("shadows: { provider: { exec: { command: [a], poll: 1ms } } }", "at least 100ms"),
        ("shadows: { provider: { webhook: {} } }", "found no \"url\""),
        ("shadows: { provider: { webhook: { url: 'https://a:1' } } }", "expected http://HOST:PORT"),
        ("shadows: { provider: { webhook: { url: 'http://a' } } }", "http://HOST:PORT"),
        ("shadows: { provider: { webhook: { url: 'http://a:1', token: { env: NONE } } } }", "NONE"),
        (
            "shadows: { provider: { webhook: { url: 'http://a:1', concurrency: { warm: 9, full: 8 } } } }",
            "found 8, expected at least 9",
        ),
        ("health: { timeout: 1s, interval: 500 }", "found 500, expected a duration"),
        ("health: { timeout: 3s, interval: 5 }", "found 5, expected a duration"),
        ("health: { timeout: 3s, interval: 2h }", "found 2h, expected at most 1h"),
        ("shadows: {}", "found no \"provider\""),
        ("zone: a", "zone: found unknown key"),
    ] {
        let found = only_error("", more);
        assert!(found.contains(message), "{more}: {found}");
    }
}

#[test]
fn shadows_are_checked_as_a_whole() {
    let shadows = |process: &str, rest: &str| {
        only_error("", &format!("shadows: {{ provider: {{ process: {{ {process} }} }} {rest} }}"))
    };
    for (process, rest, message) in [
        ("command: [./a]", "", "found a command without {port}"),
        ("command: [./a, '{prot}']", "", "did you mean \"{port}\"?"),
        ("command: []", "", "found an empty list, expected a program"),
        ("command: [a, '{port}'], ports: 30-20", "", "expected auto, or a range of ports"),
        ("command: [a, '{port}'], ports: 10-12", "", "expected at least 4, the most shadows"),
        (
            "command: [a, '{port}']",
            ", pool: { shadow: 1, warm: 2, max: 2 }",
            "at least 3: shadow 1 + warm 2 + full 0",
        ),
        ("command: [a, '{port}'], env: { 'A B': x }", "", "the name of an environment variable"),
        ("command: [a, '{port}'], group: web", "", "found a group without a user"),
        ("command: [a, '{port}'], user: 'a:b'", "", "expected a name or a number"),
        ("command: [a, '{port}'], umask: '888'", "", "expected an octal mask in quotes"),
        ("command: [a, '{port}'], umask: 27", "", "expected an octal mask in quotes"),
        ("command: [a, '{port}'], network: host", "", "expected one of shared, private"),
        ("command: [a, '{port}'], limits: { memory: 1KiB }", "", "expected at least 1MiB"),
        ("command: [a, '{port}'], limits: { memmory: 1MiB }", "", "did you mean \"memory\"?"),
        ("command: [a, '{port}'], output: { keep: 101 }", "", "expected at most 100"),
    ] {
        let found = shadows(process, rest);
        assert!(found.contains(message), "{process} {rest}: {found}");
    }
    let text =
        with("", "shadows: { provider: { process: { command: [a], env: { P: '{port}' } } } }");
    assert!(read(&text, Format::Yaml).is_ok());
    let text =
        with("", r#"shadows: { provider: { process: { command: [a, '{"x": {}}{port}'] } } }"#);
    assert!(read(&text, Format::Yaml).is_ok());
}

#[test]
fn duplicates_name_both_lines() {
    let text = with("", "mode: act\nmode: observe");
    let found = errors(&text, Format::Yaml);
    assert_eq!(found[0].0, "6:5 services.s.mode");
    assert!(found[0].1.ends_with("expected each key once; it is also on line 5"), "{found:?}");

    let routes = "listeners:\n- address: ':80'\n  routes:\n  - service: s\n  - match: { path: { \
                  prefix: / } }\n    service: s\nservices: { s: { primaries: ['127.0.0.1:1'] } }";
    let found = errors(routes, Format::Yaml);
    assert_eq!(found.len(), 1);
    assert!(found[0].1.contains("found a route for */ again"), "{found:?}");
    assert!(found[0].1.ends_with("it is also on line 4"), "{found:?}");

    let json = r#"{ "listeners": [], "services": {}, "workers": 1, "workers": 2 }"#;
    let found = errors(json, Format::Json);
    assert_eq!(found[1].0, "1:50 workers", "{found:?}");

    let toml = "workers = 1\nworkers = 2\n";
    assert!(errors(toml, Format::Toml)[0].0.starts_with("2:1"), "{:?}", errors(toml, Format::Toml));
}

#[test]
fn variables_stand_for_numbers_and_addresses() {
    let text = "listeners: [{ address: \"127.0.0.1:${PORT}\", routes: [{ service: s }] }]\n\
                services: { s: { primaries: ['127.0.0.1:${BACKEND:-9001}'], capacity: auto } }\n\
                workers: ${WORKERS:-4}\nreload: { watch: \"${WATCH:-false}\" }\n";
    let config = read(text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listeners[0].address.port(), 8081);
    assert_eq!(config.services["s"].primaries[0].address.port(), 9001);
    assert_eq!((config.workers, config.reload.watch), (3, false));

    let found = only_error("workers: ${WORD}", "");
    assert!(found.contains("found \"many\" (with ${...} filled in), expected a whole"), "{found}");
    let found = only_error("workers: '4'", "");
    assert!(found.contains("found \"4\", expected a whole number"), "{found}");
}

#[test]
fn addresses_say_what_is_wrong_with_them() {
    for (address, help) in [
        ("web:8080", "host names are not resolved"),
        ("127.0.0.1", "add the port"),
        ("'::1'", "add the port"),
        ("127.0.0.1:0", "a port is a number"),
        ("127.0.0.1:70000", "a port is a number"),
        ("http://127.0.0.1:80", "without the scheme"),
    ] {
        let text = format!(
            "listeners: [{{ address: {address}, routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['127.0.0.1:1'] }} }}"
        );
        let errors = read(&text, Format::Yaml).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
        assert!(errors.to_string().contains(help), "{errors}");
    }
    for address in [":8080", "'*:8080'", "localhost:8080", "'[::1]:8080'", "0.0.0.0:8080"] {
        let text = format!(
            "listeners: [{{ address: {address}, routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['127.0.0.1:1'] }} }}"
        );
        assert!(read(&text, Format::Yaml).is_ok(), "{address}");
    }
}

#[test]
fn what_this_version_lacks_is_said() {
    let text = "listeners: [{ address: ':80', protocol: tcp, routes: [{ service: s }] }]\n\
                services: { s: { primaries: ['127.0.0.1:1'] } }";
    let errors = read(text, Format::Yaml).unwrap_err().to_string();
    assert!(errors.contains("tcp is not available in this version"), "{errors}");
    for (key, help) in [
        ("uid: 1000", "write user, which takes a name or a number"),
        ("gid: 1000", "write group, which takes a name or a number"),
        ("memory_limit: 512MiB", "write limits: { memory: 512MiB }"),
    ] {
        let process = format!("process: {{ command: [a, '{{port}}'], {key} }}");
        let text = with("", &format!("shadows: {{ provider: {{ {process} }} }}"));
        let errors = read(&text, Format::Yaml).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors}");
        assert!(errors.to_string().contains(&format!("help: {help}")), "{errors}");
    }
    let text = with("", "shadows: { provider: { webhook: { url: 'https://a:1' } } }");
    let errors = read(&text, Format::Yaml).unwrap_err().to_string();
    assert!(errors.contains("help: this version speaks no TLS to providers"), "{errors}");
}

#[test]
fn an_endpoint_has_one_token() {
    let file = |first: &str, second: &str| {
        let of = |name: &str, at: u8, webhook: &str| {
            format!(
                "  {name}:\n    primaries: ['127.0.0.1:{at}']\n    \
                 shadows: {{ provider: {{ webhook: {{ {webhook} }} }} }}\n"
            )
        };
        format!(
            "listeners: [{{ address: ':80', routes: [{{ service: a }}] }}]\nservices:\n{}{}",
            of("a", 1, first),
            of("b", 2, second)
        )
    };
    let (here, token) = ("url: 'http://a:1/x'", "token: tokentoken");
    let with_token = format!("{here}, {token}");
    for second in [here.to_owned(), "url: 'http://a:1/x/', token: othertoken".to_owned()] {
        let found = errors(&file(&with_token, &second), Format::Yaml);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].0.ends_with("services.b.shadows.provider.webhook.url"), "{found:#?}");
        let text = &found[0].1;
        assert!(text.contains("http://a:1/x with another token than that of \"a\""), "{text}");
        assert!(!text.contains("tokentoken") && !text.contains("othertoken"), "{text}");
    }
    let unread =
        errors(&file(&with_token, &format!("{here}, token: {{ env: NONE }}")), Format::Yaml);
    assert_eq!(unread.len(), 1, "said once: {unread:#?}");
    for (first, second) in [
        (with_token.as_str(), with_token.as_str()),
        (here, here),
        (with_token.as_str(), "url: 'http://a:1/y'"),
    ] {
        read(&file(first, second), Format::Yaml).unwrap();
    }
}

#[test]
fn a_misspelt_key_is_not_missing_too() {
    let text = "listenrs: []\nservices: { s: { primarys: ['127.0.0.1:1'] } }";
    let found = errors(text, Format::Yaml);
    let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["1:1 listenrs", "2:18 services.s.primarys"], "{found:#?}");
}

#[test]
fn a_service_is_not_the_proxy_itself() {
    for (listener, primary, circle) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "127.0.0.1:81", false),
        ("0.0.0.0:80", "192.0.2.1:80", false),
        ("0.0.0.0:80", "[::ffff:127.0.0.1]:80", true),
    ] {
        let text = format!(
            "listeners: [{{ address: '{listener}', routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['{primary}'] }} }}"
        );
        let found = read(&text, Format::Yaml).map_err(|errors| errors.to_string());
        assert_eq!(found.is_err(), circle, "{listener} {primary}");
        if let Err(shown) = found {
            assert!(shown.contains("round in a circle"), "{shown}");
        }
    }
    let text = "listeners: [{ address: '127.0.0.1:80', routes: [{ service: s }] }]\n\
                admin: { address: '127.0.0.1:81' }\n\
                services: { s: { primaries: ['127.0.0.1:81'] } }";
    let shown = read(text, Format::Yaml).map(drop).unwrap_err().to_string();
    assert!(shown.contains("an address that is not the admin API's"), "{shown}");
}

#[test]
fn a_small_pool_needs_no_more_than_its_bound() {
    for (pool, expected) in [
        ("{ max: 1 }", (0, 1, 0, 1)),
        ("{ max: 2 }", (1, 1, 0, 2)),
        ("{}", (1, 1, 0, 4)),
        ("{ shadow: 6 }", (6, 0, 0, 6)),
        ("{ warm: 0, max: 1 }", (1, 0, 0, 1)),
    ] {
        let process = "process: { command: [a, '{port}'] }";
        let text = with("", &format!("shadows: {{ provider: {{ {process} }}, pool: {pool} }}"));
        let config = read(&text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}"));
        let spec = config.service_specs()[0].pool.unwrap();
        assert_eq!((spec.shadow, spec.warm, spec.full, spec.max), expected, "{pool}");
    }
}
