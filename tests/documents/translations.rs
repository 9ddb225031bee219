//! A document and its Chinese translation say the same, block by block. `NAME.zh-CN.md` is the translation of the `NAME.md` beside it: every
//! page that has one is held to it. Words are free; outline, code, figures and links are not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::root;

use crate::text::{anchors, files, spans, targets};

const CHINESE: &str = ".zh-CN.md";

/// What to do, for whoever changed one page and knows nothing of the other.
const ADVICE: &str = "\
A page and its Chinese translation (NAME.zh-CN.md beside NAME.md) say the same, block by block. If you changed one of them, make the \
same change at the same place of the other: the same headings, paragraphs, list items and rows in the same order, `code` and links (to \
Chinese pages, where there are some) copied, figures in digits where the other page has digits. The words to use are in \
docs/glossary.md and in the sentences around; a plain sentence is good enough, a missing one is not.";

/// What a block is: blocks of different kinds never stand for each other.
#[derive(Debug, PartialEq)]
enum Kind {
    Heading(usize),
    Paragraph,
    Item,
    Row {
        cells: usize,
    },
    /// A line of a code block, without its comment.
    Code(String),
}

/// A piece of a page that is translated as one.
struct Block {
    line: usize,
    kind: Kind,
    text: String,
}

/// The blocks of a page, in order.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut in_code, mut is_open) = (false, false);
    for (number, line) in page.lines().enumerate() {
        let text = line.trim();
        let fence = text.starts_with("```");
        let continues = is_open && !in_code && kind(text) == Kind::Paragraph && !fence;
        is_open = !in_code && !fence && !text.is_empty();
        if let Some(block) = blocks.last_mut().filter(|_| continues && is_open) {
            block.text = format!("{} {text}", block.text);
        } else if in_code || !text.is_empty() {
            let kind = if in_code || fence { Kind::Code(code(line).into()) } else { kind(text) };
            is_open &= matches!(kind, Kind::Paragraph | Kind::Item);
            blocks.push(Block { line: number + 1, kind, text: text.into() });
        }
        in_code ^= fence;
    }
    assert!(!in_code, "a code block has no end");
    blocks
}

/// What a line outside of code begins.
fn kind(text: &str) -> Kind {
    let numbered = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let level = text.chars().take_while(|c| *c == '#').count();
    if level > 0 && text[level..].starts_with(' ') {
        Kind::Heading(level)
    } else if text.starts_with('|') {
        // `\|` stands for a bar within a cell.
        Kind::Row { cells: text.replace("\\|", "").matches('|').count() }
    } else if text.starts_with("- ") || (numbered.len() < text.len() && numbered.starts_with(". "))
    {
        Kind::Item
    } else {
        Kind::Paragraph
    }
}

/// A line of code without its comment, which is translated.
fn code(line: &str) -> &str {
    let is_comment = ["# ", "// "].iter().any(|mark| line.trim_start().starts_with(mark));
    let end = [" # ", " // "].iter().filter_map(|mark| line.find(mark)).min();
    line[..if is_comment { 0 } else { end.unwrap_or(line.len()) }].trim_end()
}

/// What stands outside of code spans, and of what links lead to.
fn words(text: &str) -> String {
    let plain = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut parts = plain.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once(')').map_or("", |(_, rest)| rest));
    rest.fold(first, |all, rest| all + "]" + rest)
}

/// The figures of a text in digits, as values: `10 million` is `1000 万`. Not in any order.
fn figures(text: &str) -> Vec<String> {
    let text = words(text);
    let mut figures = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits =
            rest[start..].trim_start_matches(|c: char| c.is_ascii_digit() || ".,".contains(c));
        let figure = rest[start..rest.len() - digits.len()].trim_end_matches(['.', ',']);
        rest = digits;
        let unit = rest.trim_start();
        let powers = [("million", 6), ("billion", 9), ("万", 4), ("亿", 8)];
        let power = powers.iter().find(|(word, _)| unit.starts_with(word)).map_or(0, |(_, p)| *p);
        figures.push(value(&figure.replace(',', ""), power));
    }
    figures.sort_unstable();
    figures
}

/// `figure` times ten to the `power`, written in one way. What has several points is no number, and stays as it is.
fn value(figure: &str, power: usize) -> String {
    let (whole, part) = figure.split_once('.').unwrap_or((figure, ""));
    if power == 0 || part.contains('.') || part.len() > power {
        return figure.to_owned();
    }
    let digits = format!("{whole}{part}{}", "0".repeat(power - part.len()));
    digits.trim_start_matches('0').to_owned()
}

/// The English page of a page in either language.
fn english_of(page: &Path) -> PathBuf {
    PathBuf::from(page.to_str().unwrap().replace(CHINESE, ".md"))
}

fn chinese_of(page: &Path) -> PathBuf {
    PathBuf::from(english_of(page).to_str().unwrap().replace(".md", CHINESE))
}

/// What the links of a text on `page` lead to, by English page and number of the heading.
fn links(page: &Path, text: &str) -> Vec<String> {
    let place = |target: String| {
        if target.contains("://") {
            return target;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let file =
            if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        let heading = fs::read_to_string(&file)
            .ok()
            .and_then(|text| anchors(&text).iter().position(|known| known == anchor));
        let file = file.canonicalize().unwrap_or(file);
        format!("{} {heading:?}", short(&english_of(&file)))
    };
    let mut links: Vec<_> = targets(text).into_iter().map(place).collect();
    links.sort_unstable();
    links
}

/// A link of a Chinese page to another's English side, though there is a Chinese one.
fn link_to_english(page: &Path, text: &str) -> Option<String> {
    targets(text).into_iter().find(|target| {
        let file = page.parent().unwrap().join(target.split('#').next().unwrap_or_default());
        let is_english =
            file.extension().is_some_and(|kind| kind == "md") && file != chinese_of(&file);
        is_english && file != english_of(page) && chinese_of(&file).exists()
    })
}

/// In what two blocks differ that shall say the same.
fn difference(pages: [&Path; 2], english: &Block, chinese: &Block) -> Option<String> {
    let both = [(pages[0], english), (pages[1], chinese)];
    if english.kind != chinese.kind {
        return Some(format!("{:?} and {:?}", english.kind, chinese.kind));
    }
    if matches!(english.kind, Kind::Code(_)) {
        return None;
    }
    let code = both.map(|(_, block)| spans(&block.text).join("`, `"));
    let figures = both.map(|(_, block)| figures(&block.text).join(", "));
    let links = both.map(|(page, block)| links(page, &block.text).join(", "));
    [("code", code), ("figures", figures), ("links", links)]
        .into_iter()
        .find(|(_, [english, chinese])| english != chinese)
        .map(|(what, [english, chinese])| format!("other {what}: [{english}] and [{chinese}]"))
        .or_else(|| {
            link_to_english(pages[1], &chinese.text)
                .map(|target| format!("the link to {target}: that page is there in Chinese"))
        })
}

/// The path from the root.
fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The sections of a page: from one heading to before the next.
fn sections(blocks: &[Block]) -> Vec<&[Block]> {
    let starts = (0..blocks.len()).filter(|at| matches!(blocks[*at].kind, Kind::Heading(_)));
    let mut bounds: Vec<_> = starts.chain([blocks.len()]).collect();
    bounds.insert(0, 0);
    bounds.windows(2).map(|bound| &blocks[bound[0]..bound[1]]).filter(|s| !s.is_empty()).collect()
}

/// Where a page and its translation are out of step: the first place of each section.
fn faults(pages: [&Path; 2], texts: [&str; 2]) -> Vec<String> {
    let [english, chinese] = texts.map(blocks);
    let [english, chinese] = [sections(&english), sections(&chinese)];
    let tell = |english: Option<&Block>, chinese: Option<&Block>, what: &str| {
        let show = |page: &Path, block: Option<&Block>| match block {
            Some(Block { line, text, .. }) => format!("{}:{line}: {text}", short(page)),
            None => format!("{}: nothing left in this section", short(page)),
        };
        format!("{}\n{}\n    {what}", show(pages[0], english), show(pages[1], chinese))
    };
    let mut faults = Vec::new();
    for number in 0..english.len().max(chinese.len()) {
        let sections = [&english, &chinese].map(|all| all.get(number).copied().unwrap_or_default());
        let fault = (0..sections[0].len().max(sections[1].len())).find_map(|at| {
            let (english, chinese) = (sections[0].get(at), sections[1].get(at));
            let what = match (english, chinese) {
                (Some(english), Some(chinese)) => difference(pages, english, chinese)?,
                _ => "one page has more".to_owned(),
            };
            Some(tell(english, chinese, &what))
        });
        faults.extend(fault);
        let [english, chinese] = sections.map(|section| section.first().map(|block| &block.kind));
        if english != chinese {
            break; // What follows does not belong together.
        }
    }
    faults
}

#[test]
fn every_translation_is_in_step() {
    let mut found = Vec::new();
    files(root(), "md", &mut found);
    found.retain(|page| *page == chinese_of(page));
    assert!(!found.is_empty(), "no page of the repository ends in {CHINESE}");
    let mut faults = Vec::new();
    for chinese in &found {
        let english = english_of(chinese);
        let texts = [&english, chinese].map(|page| {
            fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", short(page)))
        });
        faults.extend(self::faults([&english, chinese], [&texts[0], &texts[1]]));
        // The third line, below the title.
        let name = |page: &Path| page.file_name().unwrap().to_str().unwrap().to_owned();
        let lines = [
            format!("English · [简体中文]({})", name(chinese)),
            format!("[English]({}) · 简体中文", name(&english)),
        ];
        for ((page, text), line) in [&english, chinese].into_iter().zip(&texts).zip(lines) {
            if text.lines().nth(2) != Some(&line) {
                faults.push(format!("{}:3: the line of languages must be: {line}", short(page)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n\n{ADVICE}", faults.join("\n"));
}

#[test]
fn what_is_out_of_step_is_found() {
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(|name| root().join(name));
    let page = "# One\n\nOf 10 million `a` and [b](#tls).\nMore.\n\n- 1.5 s\n\n| a | 2 |\n\n```sh\nls # why\n```\n\n## Two\n\nEnd\n";
    let same = "# 一\n\n[乙](#tls)和 `a`，共 1000 万。\n\n- 1.5 秒\n\n| 甲 | 2 |\n\n```sh\nls # 原因\n```\n\n## 二\n\n完\n";
    let faults = |chinese_text: &str| faults([&english, &chinese], [page, chinese_text]);
    assert_eq!(faults(same), Vec::<String>::new());
    for (from, to, place) in [
        ("## 二", "### 二", "README.zh-CN.md:13: "),
        ("1000 万", "1000", "README.zh-CN.md:3: "),
        ("`a`", "`b`", "README.zh-CN.md:3: "),
        ("#tls", "#任何语言", "README.zh-CN.md:3: "),
        ("](#tls)", "](README.md#tls)\n[c](docs/README.md)", "README.zh-CN.md:3: "),
        ("- 1.5 秒\n\n", "", "README.zh-CN.md:5: "),
        ("| 甲 | 2 |", "| 甲 | 2 | |", "README.zh-CN.md:7: "),
        ("ls #", "ls -l #", "README.zh-CN.md:10: "),
        ("\n\n完", "", "README.zh-CN.md: nothing left"),
    ] {
        let found = faults(&same.replace(from, to));
        assert!(found.len() == 1 && found[0].contains(place), "{from} -> {to}: {found:?}");
    }
}
