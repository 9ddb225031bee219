//! Every relative link in a document leads to a file that exists and, if it names one, to a heading in it.

use std::{fs, path::Path};

use testkit::root;

use crate::text::{anchors, files, targets};

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
    let docs = root().join("docs");
    let mut found = Vec::new();
    files(&docs, "md", &mut found);
    let indexes = ["README.md", "README.zh-CN.md"];
    let [english, chinese] = indexes.map(|index| fs::read_to_string(docs.join(index)).unwrap());
    for name in found.iter().map(|path| path.strip_prefix(&docs).unwrap().to_str().unwrap()) {
        let index = if name.ends_with(".zh-CN.md") { &chinese } else { &english };
        let is_in_it = targets(index).iter().any(|target| target == name);
        assert!(is_in_it || indexes.contains(&name), "the index of docs lacks {name}");
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
