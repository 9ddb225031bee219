//! What the crate may depend on, and which file may name which: the shape of the design, checked.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of all crates in a build, without those for building and testing.
fn tree(features: &[&str]) -> BTreeSet<String> {
    tree_of("imcore", features)
}

fn tree_of(package: &str, features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--offline", "--locked"])
        .args(features)
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

const NO_REDIS: &[&str] = &["--no-default-features"];
const HELPER: &[&str] = &["--no-default-features", "--features", "redis"];
const HELPER_TLS: &[&str] = &["--no-default-features", "--features", "redis,tls"];
const SERVER: &[&str] = &["--no-default-features", "--features", "server"];
const SERVER_TLS: &[&str] = &["--no-default-features", "--features", "server,tls"];
const ALL: &[&str] = &["--all-features"];

#[test]
fn a_helper_build_holds_no_event_loop_and_no_websockets() {
    for features in [NO_REDIS, HELPER, HELPER_TLS] {
        let tree = tree(features);
        for unwanted in ["mio", "tungstenite", "httparse", "slab", "clap", "signal-hook"] {
            assert!(!tree.contains(unwanted), "{unwanted} is in {features:?}");
        }
    }
    assert!(!tree(NO_REDIS).contains("redis"));
    assert!(tree(HELPER).contains("redis"));
    assert!(!tree(SERVER).contains("redis") && tree(SERVER).contains("mio"));
}

#[test]
fn tls_comes_with_its_feature_alone() {
    for (features, has_tls) in
        [(HELPER, false), (SERVER, false), (HELPER_TLS, true), (SERVER_TLS, true)]
    {
        assert_eq!(tree(features).contains("rustls"), has_tls, "{features:?}");
    }
    assert!(!tree(SERVER_TLS).contains("redis") && !tree(ALL).contains("aws-lc-rs"));
}

#[test]
fn no_build_holds_an_async_runtime() {
    let builds = [NO_REDIS, HELPER, HELPER_TLS, SERVER, SERVER_TLS, ALL];
    let mut trees: Vec<_> =
        builds.iter().map(|features| (features.concat(), tree(features))).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members = ")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        trees.push((member.to_owned(), tree_of(member, &[])));
    }
    assert!(trees.len() > builds.len());
    // Not even what is only built for tests brings one: no package of the workspace is locked to it.
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"tokio\""), "an async runtime is in Cargo.lock");
    for (features, tree) in trees {
        assert!(tree.contains("serde_json"), "{features:?} gives no tree");
        for unwanted in ["tokio", "async-std", "smol", "futures-executor", "futures", "hyper"] {
            assert!(!tree.contains(unwanted), "{unwanted} is in {features:?}");
        }
    }
}

/// Code of a file without its tests and comments: what is compiled into the library.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path in a piece of code, with the groups of `use` lines taken apart.
fn paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for statement in code.split(';') {
        if let Some(at) = statement.find("use ") {
            expand("", &statement[at + 4..].replace(char::is_whitespace, ""), &mut paths);
        }
    }
    let inline = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    paths.extend(inline.filter(|word| word.contains("::")).map(str::to_owned));
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut BTreeSet<String>) {
    match tree.split_once('{') {
        None => drop(paths.insert(format!("{prefix}{tree}"))),
        Some((start, rest)) => {
            let inner = rest.strip_suffix('}').unwrap_or(rest);
            let (mut depth, mut from) = (0, 0);
            for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        expand(&format!("{prefix}{start}"), &inner[from..at], paths);
                        from = at + 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// All Rust files of a module: `src/NAME.rs`, or everything in `src/NAME/`.
fn files(name: &str) -> Vec<std::path::PathBuf> {
    let single = root().join("src").join(format!("{name}.rs"));
    if single.is_file() {
        return vec![single];
    }
    let mut files = Vec::new();
    let mut folders = vec![root().join("src").join(name)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.file_name().is_some_and(|name| name != "recorded_tests.rs") => {
                    files.push(path);
                }
                false => {}
            }
        }
    }
    assert!(!files.is_empty(), "no module {name}");
    files
}

#[test]
fn modules_import_downward_only() {
    const LAYERS: [&str; 7] = ["error", "id", "wire", "broker", "placement", "helper", "server"];
    for (height, layer) in LAYERS.iter().enumerate() {
        for file in files(layer) {
            for path in paths(&code(&file)) {
                let Some(target) = path.strip_prefix("crate::") else { continue };
                let target = target.split("::").next().unwrap_or_default();
                let above = LAYERS[height + 1..].contains(&target);
                assert!(!above, "{} names {path}, which is above it", file.display());
            }
        }
    }
}

/// Helper and nodes agree through what is below both, and are exchanged without each other.
#[test]
fn helper_and_server_never_name_each_other() {
    for (layer, other) in [("helper", "crate::server"), ("server", "crate::helper")] {
        for file in files(layer) {
            for path in paths(&code(&file)) {
                assert!(!path.starts_with(other), "{} names {path}", file.display());
            }
        }
    }
}

/// Which modules of the server one of them names.
fn server_modules(module: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for file in files(&format!("server/{module}")) {
        // Files below `server/MODULE/` are one step further down than `server/MODULE.rs`.
        let folder = file.parent().is_some_and(|folder| folder.ends_with(module));
        let deeper = folder && !file.ends_with("mod.rs");
        let up = if deeper { "super::super::" } else { "super::" };
        for path in paths(&code(&file)) {
            let inner = path.strip_prefix(up).or(path.strip_prefix("crate::server::"));
            named.extend(inner.and_then(|inner| inner.split("::").next()).map(str::to_owned));
        }
    }
    named
}

#[test]
fn the_server_s_pure_parts_know_no_threads() {
    for part in ["hub", "outbox", "frame", "http", "target", "refusal", "addresses", "utf8"] {
        for path in files(&format!("server/{part}")).iter().flat_map(|file| paths(&code(file))) {
            const UNWANTED: [&str; 5] =
                ["std::thread", "std::sync::mpsc", "std::net::Tcp", "mio", "crate::broker"];
            for unwanted in UNWANTED {
                assert!(!path.starts_with(unwanted), "{part} names {path}");
            }
        }
        let threads = ["acceptor", "feed", "worker", "presence", "reactor", "message", "inbox"];
        for module in server_modules(part) {
            assert!(!threads.contains(&module.as_str()), "{part} names {module}");
        }
    }
}

#[test]
fn the_server_s_threads_never_name_each_other() {
    const THREADS: [&str; 6] = ["feed", "worker", "tickets", "acceptor", "reactor", "presence"];
    for thread in THREADS {
        let named = server_modules(thread);
        // What the publisher is sent is a receipt.
        let talks = named.contains("message") || thread == "worker";
        assert!(talks, "{thread} talks through messages: {named:?}");
        for other in THREADS.iter().filter(|other| **other != thread) {
            // `worker::collect` is how a thread that calls the broker takes its work: no thread.
            let shared = ["presence", "tickets"].contains(&thread) && *other == "worker";
            assert!(shared || !named.contains(*other), "{thread} names {other}");
        }
    }
}

/// The scan itself: a test that finds nothing would pass for ever.
#[test]
fn paths_are_found() {
    let code =
        "use super::{a::{B, c::D}, e};\nuse crate::f;\nfn x() { crate::g::h(std::thread::y) }";
    let found = paths(code);
    for path in ["super::a::B", "super::a::c::D", "super::e", "crate::f", "crate::g::h"] {
        assert!(found.contains(path), "{path} in {found:?}");
    }
    assert!(server_modules("reactor").contains("connection"));
}
