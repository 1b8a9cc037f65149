//! The lint settings of the pure crates do refuse a clock.

use std::process::Output;

use super::{PURE, cargo, root};

/// Runs clippy, under the lint settings of a pure crate, on a crate made of `source`.
fn clippy_under_the_settings_of(folder: &str, source: &str) -> Output {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |path: &str, text: &str| {
        let path = scratch.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("writable");
        std::fs::write(path, text).expect("a temporary folder is writable");
    };
    let settings = std::fs::read_to_string(root().join(folder).join("clippy.toml"))
        .unwrap_or_else(|error| panic!("{folder}/clippy.toml bans the clock: {error}"));
    write("clippy.toml", &settings);
    write(
        "Cargo.toml",
        "[workspace]\n[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nrand = { path = \"rand\" }\n",
    );
    write("src/lib.rs", source);
    // Stands in for the real one, which may not have been downloaded.
    write(
        "rand/Cargo.toml",
        "[package]\nname = \"rand\"\nversion = \"0.0.0\"\nedition = \"2024\"\n",
    );
    write("rand/src/lib.rs", "pub fn rng() -> u8 { 4 }\npub fn thread_rng() -> u8 { 4 }\n");
    let installed = cargo().args(["clippy", "--version"]).output();
    assert!(
        installed.is_ok_and(|output| output.status.success()),
        "clippy is not installed, so nothing shows that the clock ban works; run make setup"
    );
    cargo()
        .args(["clippy", "--offline", "--quiet", "--", "-D", "warnings"])
        .current_dir(scratch.path())
        .env("CARGO_TARGET_DIR", scratch.path().join("target"))
        .env_remove("CLIPPY_CONF_DIR")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs, since it runs this test")
}

#[test]
fn the_clock_ban_of_each_pure_crate_bites() {
    let banned = [
        (
            "std::time::Instant::now",
            "pub fn a() -> std::time::Instant { std::time::Instant::now() }",
        ),
        (
            "std::time::SystemTime::now",
            "pub fn b() -> std::time::SystemTime { std::time::SystemTime::now() }",
        ),
        ("std::thread::sleep", "pub fn c() { std::thread::sleep(std::time::Duration::ZERO) }"),
        ("std::thread::spawn", "pub fn d() { std::thread::spawn(|| ()); }"),
        ("rand::rng", "pub fn e() -> u8 { rand::rng() }"),
        ("rand::thread_rng", "pub fn f() -> u8 { rand::thread_rng() }"),
    ];
    let source: String = banned.iter().flat_map(|(_, code)| [*code, "\n"]).collect();
    for (_, folder) in PURE {
        let output = clippy_under_the_settings_of(folder, &source);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "clippy passed a clock in {folder}: {said}");
        for (method, _) in banned {
            assert!(
                said.contains(&format!("use of a disallowed method `{method}`")),
                "clippy did not object to {method} in {folder}: {said}"
            );
        }
    }
}

#[test]
fn code_that_gets_its_time_as_a_value_passes_the_ban() {
    let source = "pub fn later(now: std::time::Instant) -> std::time::Duration {\n    \
                  now.saturating_duration_since(now)\n}\n";
    for (_, folder) in PURE {
        let output = clippy_under_the_settings_of(folder, source);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "clippy refused clean code in {folder}: {said}");
    }
}
