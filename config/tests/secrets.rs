//! What others may see of a configuration: neither secrets nor what came out of the environment.

use foreshadow_config::{Format, parse};

#[test]
fn what_others_may_see_holds_no_secret_and_nothing_out_of_the_environment() {
    let text = "listeners: [{ address: '${HOST:-127.0.0.1}:8080', routes: [{ service: s, match: { path: { prefix: '${PREFIX}' } } }] }]\n\
        workers: '${WORKERS}'\n\
        admin: { address: '127.0.0.1:9900', token: '${TOKEN}' }\n\
        services:\n  s:\n    primaries: ['127.0.0.1:1', '${SECOND}', { address: '127.0.0.1:3', zone: '${ZONE:-zone-default}' }]\n    \
        shadows: { provider: { process: { command: [./app, '--db=${DATABASE}', '{port}'], \
        env: { PLAIN: plain-secret, FROM_ENV: 'beside-${DATABASE}' } } } }\n";
    let env = |name: &str| {
        let value = match name {
            "HOST" => "127.0.0.9",
            "PREFIX" => "/hidden",
            "WORKERS" => "7",
            "TOKEN" => "token-secret",
            "SECOND" => "127.0.0.1:20202",
            "DATABASE" => "postgres://hidden",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let config = parse(text, Format::Yaml, "config.yaml", &env).unwrap();
    let masked = config.masked();
    let shown = masked.to_string();
    for secret in
        ["hidden", "secret", "beside", "127.0.0.9", "20202", "zone-default", "\"workers\":7"]
    {
        assert!(!shown.contains(secret), "{secret:?} is shown: {shown}");
    }
    let process = &masked["services"]["s"]["shadows"]["provider"]["process"];
    assert_eq!(process["env"]["PLAIN"], "***");
    assert_eq!(process["env"]["FROM_ENV"], "***");
    assert_eq!(process["command"][1], "--db=${DATABASE}");
    assert_eq!(masked["admin"]["token"], "***");
    assert_eq!(masked["admin"]["address"], "127.0.0.1:9900");
    assert_eq!(masked["workers"], "${WORKERS}");
    assert_eq!(masked["listeners"][0]["address"], "${HOST}:8080");
    let primaries = &masked["services"]["s"]["primaries"];
    assert_eq!(primaries[0]["address"], "127.0.0.1:1");
    assert_eq!(primaries[1]["address"], "***");
    assert_eq!(primaries[2]["zone"], "${ZONE}");
    // Whoever may read the file sees what it comes to, in a form that is read as the same.
    let printed = config.to_yaml().unwrap();
    assert!(
        printed.contains("postgres://hidden") && !printed.contains("token-secret"),
        "{printed}"
    );
    assert!(!format!("{config:?}").contains("token-secret"), "{config:?}");
}

#[test]
fn secrets_of_every_provider_are_covered() {
    for (kind, more) in [
        ("process", ""),
        ("exec", ""),
        (
            "docker",
            ", image: shop, port: 80, log: { driver: splunk, options: { splunk-token: hidden } }",
        ),
        ("kubernetes", ", namespace: a, image: shop, port: 80"),
    ] {
        let text = format!(
            "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ primaries: ['127.0.0.1:1'], shadows: {{ provider: {{ {kind}: {{ \
             command: [shop, '--port={{port}}', --token=hidden], env: {{ PASSWORD: hidden }}{more} }} }} }} }} }}\n"
        );
        let config = parse(&text, Format::Yaml, "config.yaml", &|_| None).unwrap();
        let shown = config.masked().to_string();
        assert!(!shown.contains("hidden") && shown.contains("PASSWORD"), "{kind}: {shown}");
    }
}

#[test]
fn secrets_in_the_template_of_a_pod_are_covered() {
    let text = "listeners: [{ address: ':80', routes: [{ service: s }] }]\n\
        services: { s: { primaries: ['127.0.0.1:1'], shadows: { provider: { kubernetes: {\n\
        namespace: a, port: 80, template: { spec: { containers: [{ name: b, image: shop,\n\
        args: [--token=hidden, --port=80], env: [{ name: PASSWORD, value: hidden }] }] } } } } } } }\n";
    let config = parse(text, Format::Yaml, "config.yaml", &|_| None).unwrap();
    let shown = config.masked().to_string();
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(shown.contains("PASSWORD") && shown.contains("--port=80"), "{shown}");
    let back = config.to_yaml().unwrap();
    assert_eq!(parse(&back, Format::Yaml, "printed.yaml", &|_| None).unwrap(), config, "{back}");
}

#[test]
fn secrets_that_a_machine_is_told_are_covered() {
    let text = "listeners: [{ address: ':80', routes: [{ service: s }] }]\n\
         services: { s: { primaries: ['127.0.0.1:1'], health: { path: / }, shadows: { provider: { vm: { kernel: /k, \
         append: 'quiet api_token=hidden ro', args: [--secret, hidden], port: 80 } } } } }\n";
    let config = parse(text, Format::Yaml, "config.yaml", &|_| None).unwrap();
    let shown = config.masked().to_string();
    assert!(
        !shown.contains("hidden") && shown.contains("quiet") && shown.contains(" ro"),
        "{shown}"
    );
}

#[test]
fn errors_for_others_leave_out_what_came_out_of_the_environment() {
    let env = |name: &str| (name == "SWITCH").then(|| "hidden-value".to_owned());
    for service in [
        "panic: '${SWITCH}'",
        "timeouts: { total: '${SWITCH}' }",
        "mode: '${SWITCH}'",
        "rules: { r: 'demand > ${SWITCH}rps -> hold' }",
        "primaries: ['${SWITCH}']",
    ] {
        let primaries =
            if service.starts_with("primaries") { "" } else { "primaries: ['127.0.0.1:1'], " };
        let text = format!(
            "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
             services: {{ s: {{ {primaries}{service} }} }}\nworkers: many\n"
        );
        let errors = parse(&text, Format::Yaml, "config.yaml", &env).unwrap_err();
        assert!(errors.to_string().contains("hidden"), "{service}: {errors}");
        let masked = errors.masked().to_string();
        assert!(!masked.contains("hidden"), "{service}: {masked}");
        assert!(masked.contains("found another value (with ${...} filled in)"), "{masked}");
        assert!(masked.contains("found \"many\""), "{masked}");
    }
}

#[test]
fn secrets_are_found_where_they_are_covered_and_plain_values_are_not() {
    let text = "listeners: [{ address: 127.0.0.1:1, routes: [{ service: s }] }]\n\
        admin: { token: owners-text, tokens: [{ name: a, role: read, token: readers-text }] }\n\
        services: { s: { primaries: [127.0.0.1:2], shadows: { provider: { process: { \
        command: [./s, '{port}', --password=pw-in-flag, --key-secret, pw-in-next], env: { \
        PASSWORD: envy, URL: 'db://me:pw-in-url@host/x', HOST: 127.0.0.1, STAGE: production, \
        BLOB: 'Zm9vYmFyYmF6', AT: 'a-{port}-b-c-d' } } } } } }\n";
    let config = parse(text, Format::Yaml, "test", &|_| None).unwrap();
    let found = config.secrets();
    let expected = [
        "Zm9vYmFyYmF6",
        "db://me:pw-in-url@host/x",
        "envy",
        "owners-text",
        "pw-in-flag",
        "pw-in-next",
        "pw-in-url",
        "readers-text",
    ];
    assert_eq!(found, expected);
    let shown = config.masked().to_string();
    assert!(expected.iter().all(|secret| !shown.contains(secret)), "{shown}");
}
