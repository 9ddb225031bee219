//! Numbers of a session's reports: by them one that is repeated has no double effect, and a broker that has
//! forgotten some is found out.
//!
//! Pure; travels in the `Session` that its node holds, so the broker keeps nothing of it.

/// What a change is, however late it is told: opened or closed, and of which connection.
pub(super) type Kind = (char, u64);

/// The numbers, which grow by one per step that the broker takes.
#[derive(Debug, Default)]
pub(super) struct Reports {
    sent: u64,
    /// The last whose reply came. The broker must know it, or it has lost what was reported.
    acknowledged: u64,
    /// What the last call said, if its reply did not come. Its repetition takes its numbers again, so that
    /// what was carried out is not carried out twice, however late that is.
    unanswered: Vec<Kind>,
    /// Number of the report before that call's first.
    unanswered_from: u64,
}

impl Reports {
    /// How many of these changes, from the first, repeat the call that was not answered; 0 if not all of that
    /// call comes again.
    pub(super) fn repeated(&self, changes: impl IntoIterator<Item = Kind>) -> usize {
        let mut changes = changes.into_iter();
        let repeats = self.unanswered.iter().all(|former| changes.next() == Some(*former));
        if repeats { self.unanswered.len() } else { 0 }
    }

    /// These changes are sent in so many steps. Returns the number before their first.
    pub(super) fn send(&mut self, changes: Vec<Kind>, steps: u64) -> u64 {
        if self.repeated(changes.iter().copied()) > 0 {
            self.sent = self.unanswered_from;
        }
        self.unanswered_from = self.sent;
        self.unanswered = changes;
        self.sent += steps;
        self.unanswered_from
    }

    /// All that was sent was carried out.
    pub(super) fn answered(&mut self) {
        self.acknowledged = self.acknowledged.max(self.sent);
        self.unanswered = Vec::new();
    }

    /// The last report that the broker must know.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [Kind; 2] = [('o', 1), ('c', 1)];

    #[test]
    fn what_was_not_answered_takes_its_numbers_again() {
        let mut reports = Reports::default();
        assert_eq!(reports.send(FIRST.to_vec(), 1), 0);
        reports.answered();
        assert_eq!(reports.acknowledged(), 1);
        assert_eq!(reports.send(FIRST.to_vec(), 3), 1, "answered, so these are others");
        let more = [FIRST[0], FIRST[1], ('o', 2)];
        assert_eq!(reports.repeated(more), 2);
        assert_eq!(reports.send(FIRST.to_vec(), 3), 1, "again");
        assert_eq!(reports.acknowledged(), 1);
        reports.answered();
        assert_eq!((reports.acknowledged(), reports.repeated(more)), (4, 0));
    }

    #[test]
    fn another_call_takes_numbers_of_its_own() {
        let mut reports = Reports::default();
        reports.send(FIRST.to_vec(), 2);
        assert_eq!(reports.repeated([FIRST[0]]), 0, "only a part of it");
        assert_eq!(reports.repeated([('c', 1), ('o', 1)]), 0);
        assert_eq!(reports.send(vec![('o', 9)], 1), 2);
        reports.answered();
        assert_eq!(reports.acknowledged(), 3);
    }
}
