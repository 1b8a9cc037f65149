//! The dependency rule and the clock ban: that they hold, and that breaking them is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

mod clock_ban;

/// Layers from the inside out: a crate may depend on crates of lower layers only, so not on its
/// neighbours.
const LAYERS: [&[&str]; 4] = [
    &["foreshadow-predictor"],
    &["foreshadow-control"],
    &[
        "foreshadow-bench-forecast",
        "foreshadow-backtest",
        "foreshadow-config",
        "foreshadow-ebpf",
        "foreshadow-mirror",
        "foreshadow-proxy",
        "foreshadow-shadow",
        "foreshadow-testbed",
    ],
    &[
        "foreshadow",
        "foreshadow-bench-capacity",
        "foreshadow-bench-policy",
        "foreshadow-bench-shadows",
    ],
];

/// Crates without IO, clock, threads or unseeded randomness, and their folders.
const PURE: [(&str, &str); 3] = [
    ("foreshadow-predictor", "predictor"),
    ("foreshadow-control", "control"),
    ("foreshadow-backtest", "backtest"),
];

/// What a pure crate must not depend on, directly or through others.
const IMPURE: &[&str] = &[
    "arc-swap",
    "async-std",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "futures-executor",
    "getrandom",
    "http",
    "hyper",
    "jiff",
    "libc",
    "mio",
    "notify",
    "parking_lot",
    "rand",
    "rayon",
    "rusqlite",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tracing",
];

/// What the source of a pure crate must not say outside its tests, and why.
const FORBIDDEN_TEXT: &[(&str, &str)] = &[
    ("std::env", "the environment is IO"),
    ("std::fs", "files are IO"),
    ("std::io", "pure crates have no IO"),
    ("std::net::Tcp", "sockets are IO"),
    ("std::net::Udp", "sockets are IO"),
    ("std::process", "processes are IO"),
    ("std::thread", "pure crates start no threads"),
    ("HashMap", "its order is random, so a replay would differ; use BTreeMap"),
    ("HashSet", "its order is random, so a replay would differ; use BTreeSet"),
    ("disallowed_methods", "the clock ban must not be switched off"),
    ("disallowed-methods", "the clock ban must not be switched off"),
];

/// Functions of the system's mathematics, which differ in the last bit between machines: a replay must
/// not. `control` is held to that by its lint settings.
const SYSTEM_MATHS: [&str; 26] = [
    ".exp()",
    ".exp2()",
    ".exp_m1()",
    ".ln()",
    ".ln_1p()",
    ".log(",
    ".log2()",
    ".log10()",
    ".powf(",
    ".powi(",
    ".hypot(",
    ".cbrt()",
    ".sin()",
    ".cos()",
    ".tan()",
    ".sin_cos()",
    ".asin()",
    ".acos()",
    ".atan()",
    ".atan2(",
    ".sinh()",
    ".cosh()",
    ".tanh()",
    "f64::exp",
    "f64::ln",
    "f64::pow",
];

/// Crates and what they depend on, by name.
#[derive(Clone)]
struct Graph {
    /// Members of the workspace, and the members each depends on in any way, tests included.
    members: BTreeMap<String, BTreeSet<String>>,
    /// Every crate, and the crates that are built into it.
    built_in: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let names: BTreeMap<_, _> =
            metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
        let member_names: BTreeSet<String> =
            metadata.workspace_members.iter().map(|id| names[id].clone()).collect();
        let mut graph = Self { members: BTreeMap::new(), built_in: BTreeMap::new() };
        for node in &metadata.resolve.as_ref().expect("metadata was asked for the graph").nodes {
            let name = &names[&node.id];
            let all = node.deps.iter().map(|dep| names[&dep.pkg].clone());
            if metadata.workspace_members.contains(&node.id) {
                let inside = all.filter(|dep| member_names.contains(dep)).collect();
                graph.members.insert(name.clone(), inside);
            }
            let built_in = node.deps.iter().filter(|dep| {
                dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
            });
            graph
                .built_in
                .entry(name.clone())
                .or_default()
                .extend(built_in.map(|dep| names[&dep.pkg].clone()));
        }
        graph
    }

    /// Every crate that `name` is built from, itself excluded unless it is in a cycle.
    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for dep in self.built_in.get(next).into_iter().flatten() {
                if found.insert(dep.as_str()) {
                    open.push(dep);
                }
            }
        }
        found
    }
}

/// Everything about a graph that breaks the rule; empty when it holds.
fn violations(graph: &Graph) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut found = Vec::new();
    for (from, deps) in &graph.members {
        let Some(from_layer) = layer(from) else {
            found.push(format!("{from} has no layer"));
            continue;
        };
        for to in deps {
            match layer(to) {
                Some(to_layer) if to_layer < from_layer => {}
                Some(to_layer) if to_layer == from_layer => {
                    found.push(format!("{from} -> {to} is sideways"));
                }
                _ => found.push(format!("{from} -> {to} points outward")),
            }
        }
    }
    for (pure, _) in PURE {
        for dep in graph.closure(pure) {
            if IMPURE.contains(&dep) {
                found.push(format!("{pure} is built from {dep}"));
            }
        }
    }
    found
}

/// Forbidden text in one source file of a pure crate, its tests and comments left out.
fn forbidden_text(source: &str) -> Vec<String> {
    named(source, FORBIDDEN_TEXT)
}

/// Those of `texts` that the code of a source file names, with the reason against each.
fn named(source: &str, texts: &[(&str, &str)]) -> Vec<String> {
    // Tests come last, as a module of their own; what else is for tests alone counts as code.
    let code = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| {
            texts
                .iter()
                .filter(|(text, _)| line.contains(text))
                .map(move |(text, why)| format!("{text}: {why}: {}", line.trim()))
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn workspace() -> Graph {
    // Only the crates of this platform: the others need not have been downloaded.
    let version = cargo().arg("-vV").output().expect("cargo runs, since it runs this test");
    let version = String::from_utf8(version.stdout).expect("cargo -vV prints text");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("cargo -vV names the host");
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".into(), "--filter-platform".into(), host.to_owned()])
        .exec()
        .expect("cargo metadata describes the workspace");
    Graph::of(&metadata)
}

#[test]
fn every_dependency_points_inward() {
    let graph = workspace();
    for layer in LAYERS {
        for name in layer {
            assert!(graph.members.contains_key(*name), "{name} is not in the workspace any more");
        }
    }
    assert_eq!(violations(&graph), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_noticed() {
    let real = workspace();
    for (from, to, wanted) in [
        ("foreshadow-control", "foreshadow-proxy", "points outward"),
        ("foreshadow-predictor", "foreshadow-control", "points outward"),
        ("foreshadow-shadow", "foreshadow", "points outward"),
        ("foreshadow-proxy", "foreshadow-shadow", "is sideways"),
        ("foreshadow-mirror", "foreshadow-testbed", "is sideways"),
    ] {
        let mut graph = real.clone();
        graph.members.get_mut(from).expect("a member").insert(to.to_owned());
        assert_eq!(violations(&graph), [format!("{from} -> {to} {wanted}")]);
    }
}

#[test]
fn a_member_without_a_layer_is_noticed() {
    let mut graph = workspace();
    graph.members.insert("foreshadow-util".to_owned(), BTreeSet::new());
    assert_eq!(violations(&graph), ["foreshadow-util has no layer"]);
}

#[test]
fn io_in_a_pure_crate_is_noticed_however_deep() {
    let mut direct = workspace();
    direct.built_in.get_mut("foreshadow-control").expect("a crate").insert("tokio".to_owned());
    let found = violations(&direct);
    assert!(found.contains(&"foreshadow-control is built from tokio".to_owned()), "{found:?}");

    let mut deep = workspace();
    deep.built_in.get_mut("foreshadow-predictor").expect("a crate").insert("handy".to_owned());
    deep.built_in.insert("handy".to_owned(), BTreeSet::from(["rand".to_owned()]));
    let found = violations(&deep);
    for pure in ["foreshadow-predictor", "foreshadow-control"] {
        assert!(found.contains(&format!("{pure} is built from rand")), "{found:?}");
    }
}

#[test]
fn pure_sources_name_no_io_and_no_random_order() {
    for (name, folder) in PURE {
        let files = rust_files(&root().join(folder).join("src"));
        assert!(!files.is_empty(), "no sources of {name} found");
        for file in files {
            let source = std::fs::read_to_string(&file).expect("a source file is readable");
            assert_eq!(forbidden_text(&source), Vec::<String>::new(), "in {}", file.display());
        }
    }
}

#[test]
fn forecasts_of_the_loop_are_the_same_on_every_machine() {
    let source = root().join("predictor/src");
    // Fitted beside the loop: a recording holds what it told, and a replay fits nothing. A network is
    // run by a library of its own.
    let beside = [source.join("long"), source.join("onnx.rs")];
    let banned = SYSTEM_MATHS.map(|name| (name, "differs between machines, use math.rs"));
    let mut seen = 0;
    for file in rust_files(&source) {
        if beside.iter().any(|beside| file.starts_with(beside)) {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&file).expect("a source file is readable");
        let found = named(&text, &banned);
        assert_eq!(found, Vec::<String>::new(), "in {}", file.display());
    }
    assert!(seen > 10, "{seen} files");
    assert_eq!(named("fn f() { x.exp() }\n", &banned).len(), 1);
}

#[test]
fn forbidden_text_is_noticed_in_code_and_only_there() {
    for (text, _) in FORBIDDEN_TEXT {
        let found = forbidden_text(&format!("fn f() {{\n    {text}\n}}\n"));
        assert!(found.iter().any(|line| line.starts_with(text)), "{text}: {found:?}");
    }
    let innocent = "//! No std::fs here.\nfn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n";
    assert_eq!(forbidden_text(innocent), Vec::<String>::new());
    let after = "impl A {\n    #[cfg(test)]\n    fn a() {}\n}\nfn f() { std::fs::read(p) }\n";
    assert_eq!(forbidden_text(after).len(), 1);
}

/// The sources below a folder, files of tests alone left out.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder is readable") {
        let path = entry.expect("a source folder is readable").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}
