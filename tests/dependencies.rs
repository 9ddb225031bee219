//! What the crate may depend on, and which file may name which: the shape of the design, checked.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use testkit::root;

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

/// What a library user gets who asks for nothing.
const DEFAULT: &[&str] = &[];
const NO_REDIS: &[&str] = &["--no-default-features"];
const HELPER: &[&str] = &["--no-default-features", "--features", "redis"];
const HELPER_TLS: &[&str] = &["--no-default-features", "--features", "redis,tls"];
const SERVER: &[&str] = &["--no-default-features", "--features", "server"];
const SERVER_TLS: &[&str] = &["--no-default-features", "--features", "server,tls"];
const ALL: &[&str] = &["--all-features"];

#[test]
fn a_helper_build_holds_no_event_loop_and_no_websockets() {
    for features in [DEFAULT, NO_REDIS, HELPER, HELPER_TLS] {
        let tree = tree(features);
        for unwanted in ["mio", "tungstenite", "httparse", "slab"] {
            assert!(!tree.contains(unwanted), "{unwanted} is in {features:?}");
        }
    }
    assert!(!tree(NO_REDIS).contains("redis"));
    assert!(tree(HELPER).contains("redis"));
    assert!(!tree(SERVER).contains("redis") && tree(SERVER).contains("mio"));
}

#[test]
fn who_uses_the_library_compiles_no_command_line() {
    for features in [DEFAULT, ALL] {
        let tree = tree(features);
        assert!(tree.contains("redis") && tree.contains("rustls"), "{features:?}");
        for unwanted in ["clap", "clap_complete", "rustix", "signal-hook"] {
            assert!(!tree.contains(unwanted), "{unwanted} is in {features:?}");
        }
    }
    assert!(tree_of("imserver", &[]).contains("clap"));
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
    let builds = [DEFAULT, NO_REDIS, HELPER, HELPER_TLS, SERVER, SERVER_TLS, ALL];
    let mut trees: Vec<_> =
        builds.iter().map(|features| (features.concat(), tree(features))).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members = ")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        let package = member.rsplit('/').next().unwrap_or(member);
        trees.push((package.to_owned(), tree_of(package, &[])));
    }
    assert!(trees.len() > builds.len());
    // Not even what is only built for tests brings one: no package of the workspace is locked to it.
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"tokio\""), "an async runtime is in Cargo.lock");
    for (features, tree) in trees {
        assert!(!tree.is_empty(), "{features:?} gives no tree");
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

/// The crate from the ground up: each part names only parts of the rows before its own.
/// Helper and server agree through what is below both, and are exchanged without each other.
const LAYERS: [&[&str]; 6] =
    [&["error", "http"], &["id"], &["wire"], &["broker"], &["placement"], &["helper", "server"]];

/// The server from the ground up, in the same way. Parts of one row never name each other: what waits for the
/// broker (`upstream`) and what loops (`acceptor`, `reactor`) talk through `message` alone.
const SERVER_LAYERS: [&[&str]; 12] = [
    &[
        "bind",
        "reasons",
        "readiness",
        "heartbeat",
        "failure",
        "follow",
        "identity",
        "kicks",
        "ownership",
        "stopping",
        "waits",
    ],
    &["transport"],
    &["config"],
    &["connection"],
    &["absence", "parcel"],
    &["message"],
    &["inbox"],
    &["stats"],
    &["node"],
    &["acceptor", "reactor", "upstream"],
    &["threads"],
    &["testing"],
];

/// The broker, in the same way: its two backends know nothing of each other.
const BROKER_LAYERS: [&[&str]; 5] =
    [&["reports"], &["contract"], &["ordered"], &["memory", "redis"], &["shares"]];

/// The broker on Redis: what is asked (`verbs`) and what is heard (`feed`, `events`) have the backend in common.
const REDIS_LAYERS: [&[&str]; 4] =
    [&["appending", "link"], &["cached", "layout"], &["backend"], &["events", "feed", "verbs"]];

/// The program from the ground up, in the same way. What answers over HTTP (`web`) knows nothing of what is asked.
const PROGRAM_LAYERS: [&[&str]; 10] = [
    &["web", "stderr", "process", "lookups", "event_json"],
    &["logging", "sse"],
    &["webhook", "following"],
    &["api"],
    &["admin", "config"],
    &["settings", "descriptors", "operate", "slot_table"],
    &["cli", "contradictions"],
    &["load"],
    &["check", "health", "reload"],
    &["serve"],
];

/// Those of `named` that `part` may not name: they stand in its own row or above it.
fn too_high(layers: &[&[&str]], part: &str, named: &BTreeSet<String>) -> Vec<String> {
    let height = layers.iter().position(|row| row.contains(&part));
    let height = height.unwrap_or_else(|| panic!("{part} is in no layer"));
    let below = |name: &str| layers[..height].iter().any(|row| row.contains(&name));
    let known = |name: &str| layers.iter().any(|row| row.contains(&name));
    let high = named.iter().filter(|name| *name != part && known(name) && !below(name));
    high.cloned().collect()
}

/// Which parts of the module `within` (as `["server"]`; the crate itself if empty) a file names, which is at `file`
/// below `src`.
fn parts_named(within: &[&str], file: &Path, code: &str) -> BTreeSet<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let mut named = BTreeSet::new();
    for path in paths(code) {
        let mut words: Vec<_> = path.split("::").map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            Some("crate") => drop(words.remove(0)),
            Some("super" | "self") => {
                let up = words.iter().take_while(|word| *word == "super").count();
                let from = &module[..module.len().saturating_sub(up)];
                let down = words.into_iter().skip_while(|word| word == "super" || word == "self");
                words = from.iter().cloned().chain(down).collect();
            }
            _ => continue,
        }
        let inside = words.iter().zip(within).filter(|(word, name)| word == name).count();
        if inside == within.len() {
            named.extend(words.into_iter().nth(inside));
        }
    }
    named
}

/// The parts that one part of the module `within` names.
fn named_by(within: &[&str], part: &str) -> BTreeSet<String> {
    let place = within.iter().chain([&part]).copied().collect::<Vec<_>>().join("/");
    let source = root().join("src");
    let of = |file: std::path::PathBuf| {
        parts_named(within, file.strip_prefix(&source).unwrap(), &code(&file))
    };
    files(&place).into_iter().flat_map(of).collect()
}

#[test]
fn modules_import_downward_only() {
    for part in LAYERS.concat() {
        let high = too_high(&LAYERS, part, &named_by(&[], part));
        assert!(high.is_empty(), "{part} names {high:?}, which is not below it");
    }
}

/// The layers of one module: each part of it is in one, and names only what is below it.
fn import_downward_only(within: &[&str], layers: &[&[&str]]) {
    let place = within.join("/");
    for part in layers.concat() {
        let high = too_high(layers, part, &named_by(within, part));
        assert!(high.is_empty(), "{place}/{part} names {high:?}, which is not below it");
    }
    for entry in fs::read_dir(root().join("src").join(&place)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy();
        let known = name == "mod" || layers.concat().contains(&&*name);
        assert!(known, "{place}/{name} is in no layer");
    }
}

#[test]
fn parts_of_the_server_import_downward_only() {
    import_downward_only(&["server"], &SERVER_LAYERS);
}

#[test]
fn parts_of_the_broker_import_downward_only() {
    import_downward_only(&["broker"], &BROKER_LAYERS);
    import_downward_only(&["broker", "redis"], &REDIS_LAYERS);
}

/// What a feed goes by is decided without a connection, a thread or a clock.
#[test]
fn what_decides_in_the_broker_knows_no_connections() {
    const PURE: [&str; 16] = [
        "ordered",
        "reports",
        "memory/expiring",
        "memory/leaving",
        "memory/presence",
        "redis/appending",
        "redis/layout",
        "redis/link/pushes",
        "redis/link/reply",
        "redis/feed/barrier",
        "redis/feed/changes",
        "redis/feed/cursor",
        "redis/feed/gap",
        "redis/feed/mark",
        "redis/feed/probe",
        "redis/verbs/posts",
    ];
    for part in PURE {
        let path = root().join(format!("src/broker/{part}.rs"));
        let code = code(&path);
        for path in paths(&code) {
            let named = path.split("::").any(|word| {
                ["thread", "net", "connection", "listener", "pool", "backend", "Condvar"]
                    .contains(&word)
            });
            assert!(!named, "{part} names {path}");
        }
        assert!(!code.contains("Instant::now()"), "{part} reads the clock");
    }
}

#[test]
fn parts_of_the_program_import_downward_only() {
    let source = root().join("src/bin/imserver");
    for part in PROGRAM_LAYERS.concat() {
        let of = |file: std::path::PathBuf| {
            parts_named(&[], file.strip_prefix(&source).unwrap(), &code(&file))
        };
        let named = files(&format!("bin/imserver/{part}")).into_iter().flat_map(of).collect();
        let high = too_high(&PROGRAM_LAYERS, part, &named);
        assert!(high.is_empty(), "{part} of the program names {high:?}, which is not below it");
    }
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy();
        let known = PROGRAM_LAYERS.concat().contains(&&*name)
            || ["main", "fuzzing", "Cargo", "README", "LICENSE"].contains(&&*name);
        assert!(known, "{name} of the program is in no layer");
    }
}

#[test]
fn what_only_computes_knows_no_threads() {
    const PURE: [&str; 13] = [
        "reasons",
        "connection/frame",
        "connection/inbound",
        "connection/outbox",
        "connection/ticks",
        "connection/utf8",
        "acceptor/addresses",
        "acceptor/head",
        "acceptor/real_address",
        "acceptor/target",
        "reactor/hub",
        "upstream/grace",
        "upstream/ledger",
    ];
    for part in PURE {
        let code = code(&root().join(format!("src/server/{part}.rs")));
        for path in paths(&code) {
            const UNWANTED: [&str; 5] =
                ["std::thread", "std::sync::mpsc", "std::net::Tcp", "mio", "crate::broker::Broker"];
            for unwanted in UNWANTED {
                assert!(!path.starts_with(unwanted), "{part} names {path}");
            }
        }
        let file = format!("server/{part}.rs");
        for named in parts_named(&["server"], Path::new(&file), &code) {
            assert!(!["inbox", "heartbeat"].contains(&named.as_str()), "{part} names {named}");
        }
    }
}

#[test]
fn threads_that_wait_never_name_each_other() {
    const THREADS: [&str; 4] = ["feed", "tickets", "receipts", "presence"];
    for thread in THREADS {
        let named = named_by(&["server", "upstream"], thread);
        let other = THREADS.iter().find(|other| **other != thread && named.contains(**other));
        assert!(other.is_none(), "{thread} names {other:?}");
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
    assert!(named_by(&["server"], "reactor").contains("connection"));
    assert!(named_by(&[], "server").contains("broker"));
}

#[test]
fn what_stands_too_high_is_found() {
    let named = |file: &str, code: &str| parts_named(&["server"], Path::new(file), code);
    for (file, code) in [
        ("server/acceptor/mod.rs", "use super::upstream::feed::Feed;"),
        ("server/acceptor/head.rs", "use super::super::upstream::feed::Feed;"),
        ("server/acceptor.rs", "use crate::{id, server::{upstream::{feed::Feed}, inbox}};"),
        ("server/acceptor/head.rs", "fn x() { crate::server::upstream::feed::run() }"),
    ] {
        let high = too_high(&SERVER_LAYERS, "acceptor", &named(file, code));
        assert_eq!(high, ["upstream"], "{file}: {code}");
    }
    let hub = named("server/connection/mod.rs", "use crate::server::reactor::hub::Hub;");
    assert_eq!(too_high(&SERVER_LAYERS, "connection", &hub), ["reactor"]);
    let below =
        named("server/acceptor/head.rs", "use super::mod_part::X; use crate::server::inbox::Y;");
    assert!(too_high(&SERVER_LAYERS, "acceptor", &below).is_empty());
    let aside = parts_named(&[], Path::new("server/config.rs"), "use crate::helper::check;");
    assert_eq!(too_high(&LAYERS, "server", &aside), ["helper"]);
}
