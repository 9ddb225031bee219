//! The words of the admin page: both languages say everything, and nothing is said beside them.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use testkit::Redis;

const PAGE: &str = "src/bin/imserver/admin/page";

fn read(file: &str) -> String {
    fs::read_to_string(testkit::root().join(PAGE).join(file)).unwrap()
}

/// The keys of a language, in order.
fn keys(language: &str) -> Vec<String> {
    let words = read("words.js");
    let table = words.split(&format!("\n  {language}: {{\n")).nth(1).unwrap();
    let table = table.split("\n  },\n").next().unwrap();
    let entries = table.lines().filter(|line| !line.trim().is_empty());
    let key = |line: &str| {
        line.trim().strip_prefix('"').unwrap().split_once("\": ").unwrap().0.to_owned()
    };
    entries.map(key).collect()
}

/// All files of the page but the table itself.
fn files() -> Vec<(String, String)> {
    let folder = fs::read_dir(testkit::root().join(PAGE)).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let wanted = names.filter(|name| !name.ends_with(".css") && name != "words.js");
    wanted.map(|name| (name.clone(), read(&name))).collect()
}

/// What stands in quotes of either kind in a script, comments apart; of what is put into a template `${}` is left.
fn literals(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let chars: Vec<char> = script.chars().collect();
    code(&chars, 0, &mut found);
    found
}

/// Reads code from `at` on, up to a brace that it did not open, or the end.
fn code(chars: &[char], mut at: usize, found: &mut Vec<String>) -> usize {
    let mut open = 0;
    while at < chars.len() {
        let to = |end: &[char]| chars[at..].windows(end.len()).position(|part| part == end);
        at = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => to(&['\n']).map_or(chars.len(), |length| at + length),
            ('/', Some('*')) => to(&['*', '/']).map_or(chars.len(), |length| at + length + 2),
            (quote @ ('"' | '`'), _) => quoted(chars, at + 1, quote, found),
            ('}', _) if open == 0 => return at + 1,
            (other, _) => {
                open += i32::from(other == '{') - i32::from(other == '}');
                at + 1
            }
        };
    }
    at
}

fn quoted(chars: &[char], mut at: usize, quote: char, found: &mut Vec<String>) -> usize {
    let mut text = String::new();
    while at < chars.len() && chars[at] != quote {
        at = match chars[at] {
            '$' if quote == '`' && chars[at + 1] == '{' => {
                text.push_str("${}");
                code(chars, at + 2, found)
            }
            '\\' => at + 2,
            other => {
                text.push(other);
                at + 1
            }
        };
    }
    found.push(text);
    at + 1
}

#[test]
fn both_languages_say_the_same_things() {
    let english = keys("en");
    assert_eq!(english, keys("zh"));
    assert_eq!(english.iter().collect::<BTreeSet<_>>().len(), english.len(), "one is there twice");
}

#[test]
fn every_word_is_used_and_every_use_has_a_word() {
    let keys = keys("en");
    let used: Vec<String> = files()
        .iter()
        .flat_map(|(name, text)| match name.ends_with(".js") {
            true => literals(text),
            false => text
                .split("data-t")
                .skip(1)
                .map(|part| part.split('"').nth(1).unwrap().into())
                .collect(),
        })
        .collect();
    for key in &keys {
        // Some are put together from a kind and a name.
        let kind = key.split_once('.').map_or("", |(kind, _)| kind);
        let is_used = used.iter().any(|text| {
            text == key
                || text.starts_with(&format!("{kind}.${{"))
                || text
                    .rsplit_once(".${")
                    .is_some_and(|(start, _)| key.starts_with(&format!("{start}.")))
                || (["why", "closed", "refused"].contains(&kind) && text == kind)
        });
        assert!(is_used, "nobody says {key}");
    }
    let kinds: BTreeSet<_> =
        keys.iter().filter_map(|key| key.split_once('.')).map(|(kind, _)| kind).collect();
    for text in used {
        let is_key = text.split_once('.').is_some_and(|(kind, _)| kinds.contains(kind))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        assert!(!is_key || keys.contains(&text), "there are no words for {text}");
    }
}

#[test]
fn nothing_is_said_outside_the_table() {
    let styles = read("style.css");
    for (name, text) in files() {
        if let Some(script) = name.strip_suffix(".js") {
            for literal in literals(&text) {
                let words: Vec<_> = literal.split_whitespace().collect();
                let is_word =
                    |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_alphabetic());
                let is_class = |word: &&str| {
                    styles.contains(&format!(".{word}")) || styles.contains(&format!("{word} "))
                };
                let is_name = |word: &&str| ["Bearer", "imserver"].contains(word);
                let said = |word: &&&str| is_word(word) && !is_class(word) && !is_name(word);
                assert!(
                    words.len() < 2 || words.iter().find(said).is_none(),
                    "{script} says {literal:?} by itself"
                );
            }
            continue;
        }
        let text = text.split("<body").nth(1).unwrap();
        let said = text.split('>').skip(1).map(|part| part.split('<').next().unwrap().trim());
        let said: Vec<_> = said.filter(|said| said.contains(|c: char| c.is_alphabetic())).collect();
        assert_eq!(said, ["imserver"], "{name} says something by itself");
        for attribute in [" aria-label=", " placeholder=", " title=", " alt="] {
            assert!(!text.contains(attribute), "{name} has{attribute}");
        }
    }
}

/// What a node counts by reason, and where something can happen, has words.
#[test]
fn everything_that_a_node_counts_has_words() {
    let redis = Redis::start();
    let (_node, admin) = crate::node(&redis, &[]);
    let stats: Value = crate::stats(admin);
    let keys = keys("zh");
    for kind in ["closed", "refused"] {
        for name in stats["connections"][kind].as_object().unwrap().keys() {
            assert!(keys.contains(&format!("{kind}.{name}")), "no words for {kind}.{name}");
        }
    }
}
