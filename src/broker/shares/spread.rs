//! How a call falls into parts, one for each Redis, and what their answers come to.
//!
//! Used by the verbs of `Shares`; knows neither them nor Redis.

use std::iter;

use crate::error::{Error, ErrorKind, Result};

/// What belongs to each of `count`, with the places at which it stood; those to which nothing does are left out.
pub(super) fn parts<'a, B, I>(
    items: &'a [B],
    count: usize,
    of: impl Fn(&'a B) -> Result<usize>,
    own: impl Fn(&'a B) -> I,
) -> Result<Vec<Part<I>>> {
    let mut parts: Vec<_> = (0..count).map(|share| Part { share, ..Part::default() }).collect();
    for (place, item) in items.iter().enumerate() {
        let part = &mut parts[of(item)?];
        part.places.push(place);
        part.items.push(own(item));
    }
    parts.retain(|part| !part.items.is_empty());
    Ok(parts)
}

/// What of a call belongs to one Redis.
#[derive(Debug, PartialEq)]
pub(super) struct Part<I> {
    /// Which Redis that is.
    pub(super) share: usize,
    /// In the order of the call.
    pub(super) items: Vec<I>,
    /// Where they stood.
    pub(super) places: Vec<usize>,
}

impl<I> Default for Part<I> {
    fn default() -> Self {
        Part { share: 0, items: Vec::new(), places: Vec::new() }
    }
}

/// Answers in the order of the call, of which each stood at one of `places`. One that is missing is the default.
pub(super) fn joined<T: Default>(places: &[Vec<usize>], answers: Vec<Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = iter::repeat_with(T::default).take(places.concat().len()).collect();
    for (places, answers) in places.iter().zip(answers) {
        for (place, answer) in places.iter().zip(answers) {
            all[*place] = answer;
        }
    }
    all
}

/// All of what was to be changed, or an error that is true of the whole: what fails on one Redis was done on the others.
pub(super) fn done<T>(answers: Vec<Result<T>>) -> Result<Vec<T>> {
    let count = answers.len();
    let (done, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    match failed.into_iter().find_map(Result::err) {
        None => Ok(done.into_iter().flatten().collect()),
        Some(error) if done.is_empty() => Err(error),
        Some(error) => {
            let kind = match error.is_retryable() {
                true => ErrorKind::Interrupted,
                false => error.kind(),
            };
            let detail =
                format!("{} of {count} Redis have done their part: {}", done.len(), error.detail());
            Err(Error::new(kind, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_call() {
        let parts = parts(&[5, 2, 4, 1, 3], 3, |item| Ok(item % 2), |item| *item).unwrap();
        assert_eq!(parts.iter().map(|part| part.share).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((&parts[0].items, &parts[1].items), (&vec![2, 4], &vec![5, 1, 3]));
        let places: Vec<_> = parts.iter().map(|part| part.places.clone()).collect();
        assert_eq!(joined(&places, vec![vec![20, 40], vec![50, 10, 30]]), [50, 20, 40, 10, 30]);
        assert_eq!(joined(&places, vec![vec![1], vec![]]), [0, 1, 0, 0, 0]);
    }

    #[test]
    fn what_was_done_in_part_is_no_failure_of_the_whole() {
        let fails = |kind| Err(Error::new(kind, "no"));
        assert_eq!(done(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
        let kind = |answers| done::<i32>(answers).unwrap_err().kind();
        let unavailable = ErrorKind::Unavailable;
        assert_eq!(kind(vec![fails(unavailable), fails(unavailable)]), unavailable);
        assert_eq!(kind(vec![Ok(1), fails(unavailable)]), ErrorKind::Interrupted);
        assert_eq!(kind(vec![fails(ErrorKind::Argument), Ok(1)]), ErrorKind::Argument);
    }
}
