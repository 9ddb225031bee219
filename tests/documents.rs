//! Every relative link in a document leads to a file that exists and, if it names one, to a heading in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::root;

/// Folders without documents of ours.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// All files below `folder` whose names end in `.extension`.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What the links of a text lead to, code spans aside: `[label](target)`, images included.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(text) {
        let plain: String = line.split('`').step_by(2).collect();
        let links = plain.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.extend(links.map(str::to_owned));
    }
    targets
}

/// The names by which headings can be reached, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#') && line.contains("# "));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// What is wrong with a link in the document at `path`; `None` if it is good or leads elsewhere.
fn fault(path: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(f, a)| (f, Some(a)));
    let file = if file.is_empty() { path.to_owned() } else { path.parent()?.join(file) };
    if !file.exists() {
        return Some(format!("{}: there is no {target}", path.display()));
    }
    let anchor = anchor?;
    let text = fs::read_to_string(&file).unwrap();
    let known = anchors(&text).iter().any(|known| known == anchor);
    (!known).then(|| format!("{}: {target} has no such heading", path.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = Vec::new();
    files(root(), "md", &mut found);
    let links = found.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        targets(&text).into_iter().map(move |target| (path, target))
    });
    let links: Vec<_> = links.collect();
    let faults: Vec<_> = links.iter().filter_map(|(path, target)| fault(path, target)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(found.len() > 10 && links.len() > 50, "{} links in {found:?}", links.len());
}

#[test]
fn every_document_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let mut found = Vec::new();
    files(&root().join("docs"), "md", &mut found);
    for path in found.iter().filter(|path| !path.ends_with("README.md")) {
        let name = path.strip_prefix(root().join("docs")).unwrap().to_str().unwrap();
        assert!(targets(&index).iter().any(|target| target == name), "docs/README.md lacks {name}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = root().join("README.md");
    assert_eq!(fault(&readme, "docs/operating.md#redis"), None);
    assert_eq!(fault(&readme, "#licence"), None);
    assert_eq!(fault(&readme, "https://example.com/none"), None);
    for lost in ["docs/none.md", "#none", "docs/operating.md#none"] {
        assert!(fault(&readme, lost).is_some(), "{lost}");
    }
    let text =
        "[a](b.md) `[no](link)` ![c](d.png#e)\n```\n[no](link)\n```\n## Is it? *ours*, `x`\n";
    assert_eq!(
        (targets(text), anchors(text)),
        (vec!["b.md".into(), "d.png#e".into()], vec!["is-it-ours-x".into()])
    );
}

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
