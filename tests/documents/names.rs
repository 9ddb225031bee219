//! The names of code in documents are those of the code.

use std::{fs, path::Path};

use testkit::root;

use crate::text::{files, prose, spans};

/// Every name in code of the page for contributors: files and folders are there, other names occur in the sources, and in
/// the file that is named behind them: `` `name` (`file`) ``.
#[test]
fn the_architecture_page_names_what_exists() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let all = sources(&root().join("src")) + &sources(&root().join("tests"));
    let text = prose(&page).collect::<Vec<_>>().join(" ");
    let parts: Vec<_> = text.split('`').collect();
    assert!(parts.len() > 200, "only {} names are found", parts.len() / 2);
    for (place, name) in parts.iter().enumerate().skip(1).step_by(2) {
        if name.contains('/') {
            assert!(root().join(name).exists(), "there is no {name}");
            continue;
        }
        let last = name.rsplit("::").next().unwrap_or(name);
        let word = last.trim_end_matches(".rs").trim_start_matches("--").trim_end_matches('!');
        assert!(has_word(&all, word), "{name} is nowhere in the sources");
        let file = parts.get(place + 2).filter(|_| parts[place + 1] == " (");
        if let Some(file) = file.filter(|file| file.ends_with(".rs") && file.contains('/')) {
            let text = fs::read_to_string(root().join(file)).unwrap();
            assert!(has_word(&text, word), "{name} is not in {file}");
        }
    }
}

/// Whether `word` stands in `text` on its own.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

/// All Rust sources below `folder`, as one text.
fn sources(folder: &Path) -> String {
    let mut found = Vec::new();
    files(folder, "rs", &mut found);
    found.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_call_in_the_table_of_the_original_s_calls_exists() {
    let folder = root().join("src/helper");
    let files = fs::read_dir(folder).unwrap();
    let helper: String =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split_once("| original | `ImHelper` | `ImClient` |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut calls = 0;
    for row in rows {
        // Without the original's own name, and with what is only said of the call.
        let ours = row.split_once(" | ").map_or("", |(_, ours)| ours);
        for span in spans(ours).into_iter().filter(|span| span.contains('(')) {
            let name = span.split('(').next().unwrap_or_default();
            let name = name.rsplit("::").next().unwrap_or_default().trim_start_matches('.');
            let is_known = helper.contains(&format!("pub fn {name}("))
                || helper.contains(&format!("pub fn {name}<"));
            assert!(is_known || name.starts_with('_'), "{name} of {row}");
            calls += usize::from(is_known);
        }
    }
    assert!(calls > 40, "{calls}");
}
