//! Texts that are not meant well, or not meant at all.

use std::fmt::Write as _;

use foreshadow_config::{Errors, Format, load, parse};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::Yaml, Format::Toml, Format::Json];

fn refused(text: &str, format: Format) -> Errors {
    parse(text, format, "hostile", &|_| None).expect_err("the text is refused")
}

#[test]
fn nothing_is_said_to_be_missing() {
    for format in FORMATS {
        let text = if format == Format::Json { "{}" } else { "" };
        let errors = refused(text, format).to_string();
        assert!(errors.contains("hostile:1:1: "), "{errors}");
    }
}

#[test]
fn syntax_errors_have_a_place() {
    for (text, format, place) in [
        ("a: b: c\n", Format::Yaml, "1:5"),
        ("listeners:\n  - x\n - y\n", Format::Yaml, "3:"),
        ("workers = \n", Format::Toml, "1:"),
        ("a = 1\nworkers = 1 2\n", Format::Toml, "2:"),
        ("{\n  \"workers\": 1,\n}", Format::Json, "3:1"),
        ("{ 'a': 1 }", Format::Json, "1:3"),
    ] {
        let errors = refused(text, format);
        let first = errors.iter().next().unwrap();
        let found = format!("{}:{}", first.line, first.column);
        assert!(found.starts_with(place), "{text:?} {found} {errors}");
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        writeln!(laughs, "a{level}: &a{level} [{alias}]").unwrap();
    }
    assert!(refused(&laughs, Format::Yaml).to_string().contains("too many values"));
    assert!(refused("a: &a [*a]", Format::Yaml).to_string().contains("alias"));

    for (text, format) in [
        ("[".repeat(5_000), Format::Yaml),
        ("{a: ".repeat(5_000), Format::Yaml),
        ("- ".repeat(5_000), Format::Yaml),
        (format!("a = {}", "[".repeat(5_000)), Format::Toml),
        (format!("{}x = 1", "a.".repeat(5_000)), Format::Toml),
        ("[".repeat(5_000), Format::Json),
        (format!("{}1{}", "[".repeat(60), "]".repeat(60)), Format::Json),
        (format!("{}1{}", "[".repeat(60), "]".repeat(60)), Format::Yaml),
        (format!("x: {}", "a".repeat(2 << 20)), Format::Yaml),
        (format!("a: [{}]", "1,".repeat(100_000)), Format::Yaml),
        (format!("a = [{}]", "1,".repeat(100_000)), Format::Toml),
        (format!("[{}1]", "1,".repeat(100_000)), Format::Json),
    ] {
        let errors = refused(&text, format);
        assert!(errors.to_string().len() < 20_000);
    }
}

#[test]
fn many_errors_are_cut() {
    let keys: String = (0..10_000).map(|i| format!("k{i}: 1\n")).collect();
    let errors = refused(&keys, Format::Yaml);
    assert_eq!(errors.len(), 100);
    assert!(errors.to_string().ends_with("\nand 9902 more errors of other kinds"), "{errors}");
}

#[test]
fn one_mistake_in_hundreds_of_places_hides_no_other() {
    let mut text = "listeners: [{ address: ':80', routes: [{ service: s0 }] }]\n".to_owned();
    text += "services:\n";
    for i in 0..500 {
        text += &format!("  s{i}: {{ primaries: ['127.0.0.1:1'], healt: {{ interval: 1s }} }}\n");
    }
    text += "workers: 0\n";
    let errors = refused(&text, Format::Yaml);
    let shown = errors.to_string();
    assert_eq!(errors.len(), 21, "{shown}");
    assert_eq!(errors.iter().map(|e| e.more).collect::<Vec<_>>()[18..], [0, 480, 0], "{shown}");
    assert!(shown.contains("      = and 480 more like this\n"), "{shown}");
    let last = errors.iter().last().unwrap();
    assert_eq!((last.path.as_str(), last.line), ("workers", 503), "{shown}");
    assert!(shown.len() < 10_000, "{}", shown.len());
}

#[test]
fn what_an_alias_repeats_is_wrong_in_one_place() {
    let mut text = "listeners: [{ address: ':80', routes: [{ service: s0 }] }]\n\
                    services:\n  s0: &all { primaries: ['127.0.0.1:1'], warm_up: soon }\n"
        .to_owned();
    for i in 1..50 {
        text += &format!("  s{i}: *all\n");
    }
    let errors = refused(&text, Format::Yaml);
    assert_eq!((errors.len(), errors.iter().next().unwrap().more), (1, 0), "{errors}");
    // Two mistakes in one value are two.
    let two = "listeners: [{ address: ':80', routes: [{ service: s }] }]\n\
               services: { s: { primaries: ['127.0.0.1:1'], shadows: { provider: { process: \
               { command: ['{prt} {adress}'] } } } } }\n";
    assert_eq!(refused(two, Format::Yaml).len(), 2);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.yaml");
    assert!(load(&none).unwrap_err().to_string().contains("none.yaml: found no file"));
    let folder = dir.path().join("folder.yaml");
    std::fs::create_dir(&folder).unwrap();
    assert!(load(&folder).unwrap_err().to_string().contains("cannot be read"));
    let other = dir.path().join("config.ini");
    assert!(load(&other).unwrap_err().to_string().contains("expected .yaml, .yml, .toml or .json"));
    let binary = dir.path().join("config.yaml");
    std::fs::write(&binary, b"a: \xff\xfe\n").unwrap();
    assert!(load(&binary).unwrap_err().to_string().contains("UTF-8"));
    let huge = dir.path().join("huge.json");
    std::fs::File::create(&huge).unwrap().set_len(100_000_000).unwrap();
    assert!(load(&huge).unwrap_err().to_string().contains("at most 1MiB"));
}

/// Nobody writes to these pipes: whoever waits for that waits for ever.
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let path = dir.path().join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    };
    let error = load(&pipe("pipe.yaml")).unwrap_err().to_string();
    assert!(error.contains("pipe.yaml") && error.contains("not a regular file"), "{error}");
    let (token, calendar) = (pipe("token"), pipe("sales.ics"));
    let text = format!(
        "admin: {{ token: {{ file: {} }} }}\nservices: {{ shop: {{ primaries: [127.0.0.1:1], \
         forecast: {{ calendars: [{}] }} }} }}\n",
        token.display(),
        calendar.display()
    );
    let errors = refused(&text, Format::Yaml).to_string();
    assert_eq!(errors.matches("not a regular file").count(), 2, "{errors}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    let text = "\u{feff}listeners: []\r\nservices: {}\r\nworkres: 1\r\n";
    let errors = refused(text, Format::Yaml);
    let places: Vec<_> = errors.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(1, 1), (3, 1)], "{errors}");
    assert!(!errors.to_string().contains('\r'));
}

fn example(index: usize) -> (&'static str, Format) {
    [
        (include_str!("../examples/quickstart.yaml"), Format::Yaml),
        (include_str!("../examples/reverse-proxy.yaml"), Format::Yaml),
        (include_str!("../examples/edge-appliance.toml"), Format::Toml),
    ][index]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,200}", format in 0..3_usize) {
        if let Err(errors) = parse(&text, FORMATS[format], "any", &|_| None) {
            prop_assert!(errors.len() > 0);
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn text_of_the_right_letters_does_not_panic(
        text in "[\\[\\]{}:,&*!|>'\"%@`#\\-?a-c0-9 \n\t$=.\\\\é~]{0,120}",
        format in 0..3_usize,
    ) {
        if let Err(errors) = parse(&text, FORMATS[format], "any", &|_| None) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn mutated_examples_do_not_panic_and_places_are_in_the_text(
        index in 0..3_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..20_usize, "\\PC{0,4}"), 1..6),
    ) {
        let (text, format) = example(index);
        let mut chars: Vec<char> = text.chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        let text: String = chars.into_iter().collect();
        match parse(&text, format, "mutated", &|_| None) {
            Ok(config) => {
                let yaml = config.to_yaml().unwrap();
                let back = parse(&yaml, Format::Yaml, "printed", &|_| None);
                prop_assert_eq!(back.map_err(|e| e.to_string()), Ok(config));
            }
            Err(errors) => {
                prop_assert!(errors.len() > 0);
                let lines = text.lines().count() + 1;
                for error in &errors {
                    prop_assert!((1..=lines).contains(&error.line), "{error}");
                }
            }
        }
    }
}
