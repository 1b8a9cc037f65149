//! Who may reach the admin API, and that its token is never shown.

use foreshadow_config::{AdminAddress, Config, Errors, Format, Token, parse};

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
    for address in ["127.0.0.1:1", "'[::1]:1'", "unix:/run/foreshadow.sock", "localhost:1"] {
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
