//! How commands are said to a master of a Redis Cluster.
//!
//! Used by the link, so that everything above it speaks as to one Redis. All names of a share lie in one slot, whose topics are
//! published and subscribed to by `SPUBLISH` and `SSUBSCRIBE`: `PUBLISH` would go to every server of the cluster. A
//! script names one key more, that never exists: while its slot moves to another master, it is refused before it begins, and
//! not half-way, at the first key that has gone. Pure.

use std::borrow::Cow;

/// Packed commands as a master of a cluster wants them; `key` is the one that never exists.
pub(super) fn said<'a>(packed: &'a [u8], key: &str) -> Cow<'a, [u8]> {
    let mut commands = commands(packed).peekable();
    if commands.peek().is_none() {
        return Cow::Borrowed(packed);
    }
    let mut said = Vec::with_capacity(packed.len() + 64);
    for command in commands {
        say(&mut said, command, key);
    }
    Cow::Owned(said)
}

/// The packed commands one by one, each whole.
pub(super) fn commands(packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        let (count, mut at) = number(rest, 0, b'*')?;
        for _ in 0..count {
            let (length, start) = number(rest, at, b'$')?;
            at = start + length + 2;
        }
        let (command, left) = rest.split_at_checked(at)?;
        rest = left;
        Some(command)
    })
}

/// The first word of a command.
pub(super) fn name(command: &[u8]) -> &[u8] {
    words(command).next().unwrap_or_default()
}

/// The number behind `mark` at a place, and where what it announces begins.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let line = bytes.get(at..)?.strip_prefix(&[mark])?;
    let length = line.iter().position(|byte| *byte == b'\r')?;
    let number = std::str::from_utf8(&line[..length]).ok()?.parse().ok()?;
    Some((number, at + 1 + length + 2))
}

/// The words of one command.
fn words(command: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = number(command, 0, b'*').map_or(command.len(), |(_, at)| at);
    std::iter::from_fn(move || {
        let (length, start) = number(command, at, b'$')?;
        at = start + length + 2;
        command.get(start..start + length)
    })
}

fn say(said: &mut Vec<u8>, command: &[u8], key: &str) {
    match name(command) {
        b"PUBLISH" => rename(said, command, b"SPUBLISH"),
        b"SUBSCRIBE" => subscribe(said, command),
        b"EVAL" | b"EVALSHA" => run(said, command, key),
        b"SCRIPT" => {
            let words: Vec<_> = words(command).map(in_shard).collect();
            pack(said, words.iter().map(|word| &**word));
        }
        _ => said.extend_from_slice(command),
    }
}

fn rename(said: &mut Vec<u8>, command: &[u8], name: &[u8]) {
    let rest: Vec<_> = words(command).skip(1).collect();
    pack(said, std::iter::once(name).chain(rest));
}

/// What Redis itself tells is on a topic of no slot.
fn subscribe(said: &mut Vec<u8>, command: &[u8]) {
    let is_own = |topic: &&[u8]| topic.starts_with(b"__redis__:");
    let (own, topics): (Vec<_>, Vec<_>) = words(command).skip(1).partition(is_own);
    for (name, topics) in [(&b"SSUBSCRIBE"[..], topics), (b"SUBSCRIBE", own)] {
        if !topics.is_empty() {
            pack(said, std::iter::once(name).chain(topics));
        }
    }
}

/// A script with one key more, behind those that it knows.
fn run(said: &mut Vec<u8>, command: &[u8], key: &str) {
    let mut words = words(command);
    let mut next = || words.next().unwrap_or_default();
    let (name, script, count) = (next(), in_shard(next()), next());
    let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let rest: Vec<_> = words.collect();
    let (keys, arguments) = rest.split_at(rest.len().min(count));
    let count = (count + 1).to_string();
    let begin = [name, &*script, count.as_bytes()].into_iter();
    pack(
        said,
        begin.chain(keys.iter().copied()).chain([key.as_bytes()]).chain(arguments.iter().copied()),
    );
}

/// The text of a script, or any other word.
fn in_shard(script: &[u8]) -> Cow<'_, [u8]> {
    const WORD: &[u8] = b"'PUBLISH'";
    let Some(mut at) = find(script, WORD) else { return Cow::Borrowed(script) };
    let (mut text, mut rest) = (Vec::with_capacity(script.len() + 16), script);
    loop {
        text.extend_from_slice(&rest[..at]);
        text.extend_from_slice(b"'SPUBLISH'");
        rest = &rest[at + WORD.len()..];
        match find(rest, WORD) {
            Some(next) => at = next,
            None => break,
        }
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

fn pack<'a>(said: &mut Vec<u8>, words: impl Iterator<Item = &'a [u8]>) {
    let words: Vec<_> = words.collect();
    said.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        said.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        said.extend_from_slice(word);
        said.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut words = text.split(' ');
        let mut command = cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.get_packed_command()
    }

    #[test]
    fn each_command_is_said_as_a_cluster_wants_it() {
        for (given, wanted) in [
            ("GET k", "GET k"),
            ("PUBLISH t text", "SPUBLISH t text"),
            ("SUBSCRIBE t u", "SSUBSCRIBE t u"),
            ("EVAL return 0 a", "EVAL return 1 k? a"),
            (
                "EVAL call('PUBLISH',a)call('PUBLISH',b) 1 k",
                "EVAL call('SPUBLISH',a)call('SPUBLISH',b) 2 k k?",
            ),
            ("EVALSHA 1f 2 k l a b", "EVALSHA 1f 3 k l k? a b"),
            ("SCRIPT LOAD call('PUBLISH')", "SCRIPT LOAD call('SPUBLISH')"),
        ] {
            assert_eq!(said(&packed(given), "k?"), packed(wanted), "{given}");
        }
        let both = [packed("SSUBSCRIBE t"), packed("SUBSCRIBE __redis__:invalidate")].concat();
        assert_eq!(said(&packed("SUBSCRIBE t __redis__:invalidate"), "k?"), both);
        assert!(said(b"", "k?").is_empty());
    }

    #[test]
    fn commands_are_told_apart() {
        let mut all = [packed("GET k"), packed("HSET k f \r\n*1\r\n"), packed("PING")];
        let together = all.concat();
        assert_eq!(commands(&together).collect::<Vec<_>>(), all);
        assert_eq!(
            commands(&together).map(name).collect::<Vec<_>>(),
            [&b"GET"[..], b"HSET", b"PING"]
        );
        all[1] = packed("PUBLISH t \r\n$1\r\n");
        let translated =
            [packed("GET k"), packed("SPUBLISH t \r\n$1\r\n"), packed("PING")].concat();
        assert_eq!(said(&all.concat(), "k?"), translated);
    }
}
