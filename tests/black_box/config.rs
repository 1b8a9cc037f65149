//! The built command on configurations: good, bad, printed, as a schema.

use crate::support::foreshadow;

const TEN_ERRORS: &str = "\
listeners:
  - address: 127.0.0.1:99999
    rutes: []
    routes:
      - service: shp
services:
  shop:
    primaries: [127.0.0.1:9001, 127.0.0.1:9001]
    mode: atc
    objective: { latency_p99: 50, error_rate: 120% }
    health: { interval: 5 parsecs }
    target_utilisation: 0%
    shadows:
      provider: { process: { command: [] } }
admin:
  address: 0.0.0.0:9900
workers: ${FORESHADOW_TEST_UNSET}
";

fn check(name: &str, text: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let output = foreshadow().arg("check").args(options).arg(&path).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn ten_errors_are_shown_at_once_each_with_its_place() {
    let (code, _, errors) = check("bad.yaml", TEN_ERRORS, &[]);
    assert_eq!(code, Some(1));
    for (line, what) in [
        (2, "99999"),
        (3, "rutes"),
        (5, "shp"),
        (8, "9001"),
        (9, "atc"),
        (10, "50"),
        (10, "120%"),
        (11, "parsecs"),
        (12, "0%"),
        (14, "command"),
        (16, "token"),
        (17, "FORESHADOW_TEST_UNSET"),
    ] {
        let place = format!("bad.yaml:{line}:");
        let found = errors.lines().any(|l| l.contains(&place) && l.contains(what));
        assert!(found, "nothing at line {line} names {what:?}:\n{errors}");
    }
    for nearest in ["routes", "shop", "act"] {
        assert!(errors.contains(&format!("{nearest:?}")), "no hint at {nearest:?}:\n{errors}");
    }
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    let text = std::fs::read_to_string("config/examples/quickstart.yaml").unwrap();
    let (code, printed, errors) = check("quickstart.yaml", &text, &["--print"]);
    assert_eq!(code, Some(0), "{errors}");
    let (code, again, errors) = check("printed.yaml", &printed, &["--print"]);
    assert_eq!(code, Some(0), "{errors}\n{printed}");
    assert_eq!(printed, again);
}

#[test]
fn every_example_is_good() {
    let mut count = 0;
    let entries = std::fs::read_dir("config/examples").unwrap();
    for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let output = foreshadow().arg("check").arg(&path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{errors}", path.display());
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(" listener") && said.contains(" service"), "{said}");
        if path.ends_with("quickstart.yaml") {
            assert!(said.contains("1 listener, 1 service\n"), "{said}");
        }
        count += 1;
    }
    assert!(count >= 3, "only {count} examples were found");
}

#[test]
fn the_schema_is_json_and_knows_the_words() {
    let output = foreshadow().arg("schema").output().unwrap();
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    for word in ["listeners", "services", "admin", "state_dir"] {
        assert!(properties.contains_key(word), "{word} is missing");
    }
}

#[test]
fn commands_whose_reader_is_gone_end_quietly() {
    let shown = ["check", "--print", "config/examples/quickstart.yaml"];
    let commands: [&[&str]; 4] = [&["schema"], &["schema", "--markdown"], &shown, &["version"]];
    for command in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = foreshadow().args(command).stdout(writer).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*errors), (Some(141), ""), "{command:?}");
    }
}

#[test]
fn the_reference_is_what_the_command_prints() {
    let output = foreshadow().args(["schema", "--markdown"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let kept = std::fs::read_to_string("docs/configuration.md").unwrap();
    let hint = "run: foreshadow schema --markdown > docs/configuration.md";
    assert!(printed == kept, "docs/configuration.md is out of date; {hint}");
}

#[test]
fn a_missing_file_and_a_wrong_extension_are_named() {
    for path in ["nowhere.yaml", "foreshadow.ini"] {
        let output = foreshadow().args(["check", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(path) && text.ends_with('\n'), "{text:?}");
    }
}
