//! Who may reach the admin API, and that its token is never shown.

use foreshadow_config::{AdminAddress, Config, Errors, Format, Role, Token, parse};

const TOKEN: &str = "correct-horse-battery";

fn read(admin: &str) -> Result<Config, Errors> {
    let text = format!(
        "listeners: [{{ address: ':80', routes: [{{ service: s }}] }}]\n\
         services: {{ s: {{ primaries: ['127.0.0.1:1'] }} }}\nadmin: {admin}\n"
    );
    parse(&text, Format::Yaml, "config.yaml", &|name| {
        (name == "ADMIN_TOKEN").then(|| TOKEN.to_owned())
    })
}

fn error(admin: &str) -> String {
    let errors = read(admin).expect_err(admin);
    assert_eq!(errors.len(), 1, "{errors}");
    errors.to_string()
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    for address in ["127.0.0.1:4", "'[::1]:4'", "unix:/run/foreshadow.sock", "localhost:4"] {
        assert!(read(&format!("{{ address: {address} }}")).is_ok(), "{address}");
    }
    let shown = error("{ address: 0.0.0.0:9900 }");
    assert!(shown.contains("without a token"), "{shown}");
    assert!(shown.contains("add `token: { env: NAME }`"), "{shown}");
    assert!(read(&format!("{{ address: ':9900', token: {TOKEN} }}")).is_ok());
    let unix = read("{ address: unix:/run/x.sock }").unwrap().admin.address;
    assert_eq!(unix, AdminAddress::Unix("/run/x.sock".into()));
    // The listener of the text is on :80.
    assert!(error(&format!("{{ address: ':80', token: {TOKEN} }}")).contains("listener"));
}

#[test]
fn a_token_comes_from_the_file_the_environment_or_another_file() {
    let secret =
        |config: &Config| config.admin.token.as_ref().unwrap().secret().expose().to_owned();
    let config = read(&format!("{{ token: {TOKEN} }}")).unwrap();
    assert_eq!(secret(&config), TOKEN);

    let config = read("{ token: { env: ADMIN_TOKEN } }").unwrap();
    assert_eq!(secret(&config), TOKEN);
    assert!(error("{ token: { env: OTHER } }").contains("OTHER, which is not set"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let config = read(&format!("{{ token: {{ file: '{}' }} }}", path.display())).unwrap();
    assert_eq!(secret(&config), TOKEN);
    std::fs::write(&path, "short").unwrap();
    let shown = error(&format!("{{ token: {{ file: '{}' }} }}", path.display()));
    assert!(shown.contains("at least 8") && !shown.contains("\"short\""), "{shown}");
    let shown = error(&format!("{{ token: {{ file: '{}/none' }} }}", dir.path().display()));
    assert!(shown.contains("cannot be read"), "{shown}");
    assert!(error("{ token: {} }").contains("neither env nor file"));
    assert!(error("{ token: { env: ADMIN_TOKEN, file: x } }").contains("env and file"));
}

#[test]
fn a_token_is_never_shown() {
    let config = read(&format!("{{ token: {TOKEN} }}")).unwrap();
    let shown = [
        format!("{config:?}"),
        config.to_yaml().unwrap(),
        serde_json::to_string(&config).unwrap(),
        error(&format!("{{ token: {TOKEN}, adress: x }}")),
        error("{ token: 'correct-horse-battery staple' }"),
    ];
    for text in shown {
        assert!(!text.contains("horse"), "{text}");
    }
    let yaml = config.to_yaml().unwrap();
    let errors = parse(&yaml, Format::Yaml, "printed.yaml", &|_| None).unwrap_err().to_string();
    assert!(errors.contains("stands for a token that was not printed"), "{errors}");

    let config = read("{ token: { env: ADMIN_TOKEN } }").unwrap();
    let yaml = config.to_yaml().unwrap();
    assert!(yaml.contains("env: ADMIN_TOKEN") && !yaml.contains("horse"), "{yaml}");
    assert!(matches!(config.admin.token, Some(Token::Env { .. })));
}

#[test]
fn tokens_have_names_and_roles_that_tell_them_apart() {
    let one = |more: &str| format!("{{ address: ':9900', tokens: [{more}] }}");
    let text = one("{ name: grafana, role: read, token: readers-token }, \
         { name: on-call, role: operate, token: { env: ADMIN_TOKEN } }");
    let admin = read(&text).unwrap().admin;
    let known: Vec<_> = admin.every_token().map(|(name, role, _)| (name, role)).collect();
    assert_eq!(known, [("grafana", Role::Read), ("on-call", Role::Operate)]);
    let shown = serde_json::to_string(&read(&text).unwrap().masked()).unwrap();
    assert!(shown.contains("grafana") && !shown.contains("readers-token"), "{shown}");
    for (tokens, message) in [
        ("", "an empty list"),
        ("{ name: a, role: write, token: some-token }", "write operate"),
        ("{ name: a, role: reed, token: some-token }", "did you mean \"read\""),
        ("{ name: 'a b', role: read, token: some-token }", "the name \"a b\""),
        ("{ name: admin.token, role: read, token: some-token }", "that no other token has"),
        ("{ name: a, role: read }", "no \"token\""),
        (
            "{ name: a, role: read, token: some-token }, { name: a, role: read, token: others-token }",
            "that no other token has",
        ),
        (
            "{ name: a, role: read, token: same-token }, { name: b, role: read, token: same-token }",
            "the text of another token",
        ),
    ] {
        let shown = error(&one(tokens));
        assert!(shown.contains(message), "{tokens}: {shown}");
        assert!(!shown.contains("same-token"), "{shown}");
    }
    let both = format!("{{ token: {TOKEN}, tokens: [{{ name: a, role: read, token: {TOKEN} }}] }}");
    assert!(error(&both).contains("the text of another token"));
}
