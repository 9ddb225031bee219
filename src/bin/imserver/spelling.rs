//! Words that were most likely meant by others. Pure.

/// The word of `known` that is nearest to `word`, and how far that is.
pub(crate) fn nearest<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<(&'a str, usize)> {
    known.map(|name| (name, distance(word, name))).min_by_key(|(_, distance)| *distance)
}

/// How many letters must be added, taken away or changed to get from one word to the other.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, b) in to.iter().enumerate() {
            let change = corner + usize::from(a != *b);
            corner = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(nearest("lisen", ["log", "listen"].into_iter()), Some(("listen", 1)));
    }
}
