//! The README and its Chinese translation stay in step: same outline, same commands, same tables.

use std::fs;

fn read(name: &str) -> String {
    fs::read_to_string(testkit::root().join(name)).unwrap()
}

fn both() -> [String; 2] {
    [read("README.md"), read("README.zh-CN.md")]
}

/// The lines outside code blocks, and the blocks with their language.
fn split(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::new());
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (&mut block, line.starts_with("```")) {
            (None, true) => block = Some(vec![line]),
            (Some(_), true) => blocks.extend(block.take()),
            (Some(lines), false) => lines.push(line),
            (None, false) => prose.push(line),
        }
    }
    assert!(block.is_none(), "a code block has no end");
    (prose, blocks)
}

/// A line of code without its comment, which is translated.
fn code(line: &str) -> &str {
    let end = [" # ", " // "].iter().filter_map(|mark| line.find(mark)).min();
    line[..end.unwrap_or(line.len())].trim_end()
}

/// The code spans of one line, in the order of their text: a translation may move them.
fn spans(line: &str) -> Vec<&str> {
    let mut spans: Vec<_> = line.split('`').skip(1).step_by(2).collect();
    spans.sort_unstable();
    spans
}

#[test]
fn both_have_the_same_outline() {
    let [english, chinese] = both().map(|text| {
        let level =
            |line: &&str| line.find("# ").filter(|at| line[..*at].chars().all(|c| c == '#'));
        split(&text).0.iter().filter_map(level).collect::<Vec<_>>()
    });
    assert_eq!(english, chinese);
}

#[test]
fn both_have_the_same_code() {
    let [english, chinese] = both();
    let (english, chinese) = (split(&english).1, split(&chinese).1);
    assert_eq!(english.len(), chinese.len());
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english.len(), chinese.len(), "{english:?}");
        for (english, chinese) in english.iter().zip(chinese) {
            assert_eq!(code(english), code(chinese));
        }
    }
}

#[test]
fn both_have_the_same_tables() {
    let [english, chinese] = both();
    let rows = |text| split(text).0.into_iter().filter(|line| line.starts_with('|')).collect();
    let (english, chinese): (Vec<&str>, Vec<&str>) = (rows(&english), rows(&chinese));
    assert_eq!(english.len(), chinese.len());
    assert!(english.iter().any(|row| row.contains("`--listen ADDR`")), "the flags are a table");
    for (english, chinese) in english.into_iter().zip(chinese) {
        assert_eq!(spans(english), spans(chinese));
        let digits = |row: &str| row.chars().filter(char::is_ascii_digit).collect::<String>();
        assert_eq!(digits(english), digits(chinese), "{english}");
        // `\|` stands for a bar within a cell.
        let cells = |row: &str| row.replace("\\|", "").matches('|').count();
        assert_eq!(cells(english), cells(chinese), "{english}");
    }
}

#[test]
fn each_leads_to_the_other_at_once() {
    let top = |text: &str| text.lines().take(5).collect::<String>();
    let [english, chinese] = both();
    assert!(top(&english).contains("(README.zh-CN.md)"));
    assert!(top(&chinese).contains("(README.md)"));
}

#[test]
fn every_call_in_the_table_of_the_original_s_calls_exists() {
    let folder = testkit::root().join("src/helper");
    let files = fs::read_dir(folder).unwrap();
    let helper: String =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let readme = read("README.md");
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
