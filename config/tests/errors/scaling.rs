//! What is refused of scaling.

use crate::{errors, only_error, read};
use foreshadow_config::Format;

#[test]
fn what_could_not_be_scaled_is_refused_where_it_is_written() {
    let webhook = "by: { webhook: { url: 'http://a:1' } }";
    let kubernetes =
        |rest: &str| format!("{{ max: 2, by: {{ kubernetes: {{ namespace: a, {rest} }} }} }}");
    for (scaling, message) in [
        (format!("{{ {webhook} }}"), "found no \"max\""),
        ("{ max: 2 }".to_owned(), "found no \"by\""),
        (
            "{ max: 2, by: {} }".to_owned(),
            "found nothing that scales, expected one of webhook, exec, kubernetes",
        ),
        (
            "{ max: 2, by: { exec: { command: [a] }, webhook: { url: 'http://a:1' } } }".to_owned(),
            "found webhook beside exec",
        ),
        ("{ max: 2, by: { proces: {} } }".to_owned(), "found unknown key \"proces\""),
        ("{ max: 2, by: { exec: { command: [] } } }".to_owned(), "expected a program"),
        ("{ max: 2, by: { webhook: { url: 'a:1' } } }".to_owned(), "found \"a:1\""),
        (format!("{{ {webhook}, max: 0 }}"), "at least 1"),
        (format!("{{ {webhook}, max: 2, min: 3 }}"), "found 3, expected at most max, 2"),
        (format!("{{ {webhook}, max: 2, max_step: 0 }}"), "at least 1"),
        (format!("{{ {webhook}, max: 2, lead_time: 1ms }}"), "at least 1s"),
        (
            format!("{{ {webhook}, max: 2, target: 80% }}"),
            "found 80%, expected at most target_utilisation, 75%",
        ),
        (kubernetes("port: 1"), "found no deployment, expected one of deployment, statefulset"),
        (
            kubernetes("port: 1, deployment: a, statefulset: b"),
            "found statefulset beside deployment",
        ),
        (kubernetes("deployment: a"), "found no \"port\""),
        (kubernetes("deployment: A, port: 1"), "found \"A\", expected a name of small letters"),
        (kubernetes("deployment: a, port: 1, context: c"), "a context without a kubeconfig"),
    ] {
        let error = only_error("", &format!("scaling: {scaling}"));
        assert!(error.contains(message), "{scaling}: {error}");
    }
}

fn scaled(scaling: &str) -> String {
    format!(
        "listeners: [{{ address: 127.0.0.1:80, routes: [{{ service: a }}] }}]\n\
         services: {{ a: {{ primaries: [], scaling: {scaling} }} }}\n"
    )
}

#[test]
fn primaries_may_be_found_and_what_is_secret_stays_so() {
    let by = "{ max: 2, by: { webhook: { url: 'http://a:1', token: a-token-of-16-chars } } }";
    let config = read(&scaled(by), Format::Yaml).unwrap();
    let shown = config.masked().to_string();
    assert!(!shown.contains("a-token") && shown.contains("\"token\":\"***\""), "{shown}");
    assert!(config.secrets().contains(&"a-token-of-16-chars".to_owned()));
    let by =
        "{ max: 2, by: { exec: { command: [a, --password, hunter22], env: { A: hunter33 } } } }";
    let config = read(&scaled(by), Format::Yaml).unwrap();
    let shown = config.masked().to_string();
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(config.secrets().contains(&"hunter22".to_owned()), "{:?}", config.secrets());
    let alone = "listeners: [{ address: 127.0.0.1:80, routes: [{ service: a }] }]\n\
                 services: { a: { primaries: [] } }\n";
    let found = errors(alone, Format::Yaml);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1.contains("at least one instance"), "{found:?}");
}
