//! Delivery by webhooks as nodes agree on it: one at a time, off until it is on again, and letters that nobody took.

use std::time::Duration;

use imcore::broker::{Broker, DEAD_LETTERS, DeadLetter};
use testkit::eventually;

use crate::world::LONG;

fn letter(id: &str, body: &str) -> DeadLetter {
    let (id, failure, body) = (id.to_owned(), String::from("status 500"), body.to_owned());
    let ends = Some((String::from("5-1"), String::from("6-2")));
    DeadLetter { id, count: 2, ends, attempts: 3, failure, body, ..DeadLetter::default() }
}

fn ids(broker: &dyn Broker) -> Vec<String> {
    let page = broker.dead_letters(None, 10).unwrap();
    page.items.into_iter().map(|letter| letter.id).collect()
}

behaviour!(one_at_a_time_delivers, |world| {
    let (one, other) = (world.broker(), world.broker());
    assert_eq!(one.webhook_state().unwrap(), None);
    let turn = one.hold_webhook("one", LONG).unwrap();
    assert!(turn.held && !turn.is_off && !turn.has_replay);
    assert!(turn.now > 1_700_000_000_000);
    assert!(!other.hold_webhook("other", LONG).unwrap().held);
    assert!(one.hold_webhook("one", LONG).unwrap().held, "it goes on");
    other.release_webhook("other").unwrap();
    assert_eq!(other.webhook_state().unwrap().unwrap().holder.as_deref(), Some("one"));
    one.release_webhook("one").unwrap();
    assert_eq!(one.webhook_state().unwrap().unwrap().holder, None);
    assert!(other.hold_webhook("other", Duration::from_millis(1)).unwrap().held);
    eventually("the turn of one that is silent ends", || {
        one.hold_webhook("one", LONG).unwrap().held
    });
});

behaviour!(how_delivery_goes_is_told_by_who_has_the_turn, |world| {
    let broker = world.broker();
    broker.hold_webhook("one", LONG).unwrap();
    for (holder, failure) in
        [("one", "status 500"), ("other", "not its turn"), ("one", "timeout: 1 s")]
    {
        broker.note_webhook(holder, Some(failure)).unwrap();
    }
    let state = broker.webhook_state().unwrap().unwrap();
    assert_eq!((state.failures, state.last_success), (2, None));
    let (why, at) = state.last_failure.unwrap();
    assert_eq!(why, "timeout: 1 s");
    assert!(state.failing_since.unwrap() <= at);
    broker.note_webhook("one", None).unwrap();
    let state = broker.webhook_state().unwrap().unwrap();
    assert_eq!((state.failures, state.failing_since), (0, None));
    assert!(state.last_success.unwrap() >= at && state.last_failure.is_some());
});

behaviour!(delivery_is_off_until_it_is_switched_on, |world| {
    let broker = world.broker();
    broker.switch_webhook(Some("it answered 410")).unwrap();
    assert!(broker.hold_webhook("one", LONG).unwrap().is_off);
    let (why, _) = broker.webhook_state().unwrap().unwrap().off.unwrap();
    assert_eq!(why, "it answered 410");
    broker.switch_webhook(None).unwrap();
    assert!(!broker.hold_webhook("one", LONG).unwrap().is_off);
    assert_eq!(broker.webhook_state().unwrap().unwrap().off, None);
});

behaviour!(a_letter_stays_until_it_was_delivered_or_thrown_away, |world| {
    let broker = world.broker();
    for id in ["3-c", "1-a", "2-b", "1-a"] {
        broker.bury(&letter(id, "{\"a\": 1}\n")).unwrap();
    }
    let first = broker.dead_letters(None, 2).unwrap();
    assert_eq!((first.total, first.next.as_deref()), (3, Some("2-b")));
    let found = &first.items[0];
    assert_eq!((&*found.id, found.count, &*found.failure), ("1-a", 2, "status 500"));
    assert_eq!((&found.ends, found.attempts), (&letter("", "").ends, 3));
    assert!(found.ms > 1_700_000_000_000 && !found.replaying && found.body.is_empty());
    let rest = broker.dead_letters(first.next.as_deref(), 2).unwrap();
    assert_eq!((&*rest.items[0].id, rest.next), ("3-c", None));
    assert_eq!(broker.dead_letter("2-b").unwrap().unwrap().body, "{\"a\": 1}\n");
    assert_eq!(broker.dead_letter("4-d").unwrap(), None);
    broker.bury(&DeadLetter { ends: None, ..letter("0-x", "") }).unwrap();
    assert_eq!(broker.dead_letter("0-x").unwrap().unwrap().ends, None);
    assert_eq!(broker.discard_dead_letters(&["0-x".into()]).unwrap(), 1);

    let named = ["2-b", "4-d", "1-a"].map(str::to_owned);
    assert_eq!(broker.replay_dead_letters(&named).unwrap(), 2);
    assert!(broker.hold_webhook("one", LONG).unwrap().has_replay);
    let next = broker.next_replay().unwrap().unwrap();
    assert_eq!((&*next.id, &*next.body, next.replaying), ("1-a", "{\"a\": 1}\n", true));
    broker.settle_replay("1-a", true).unwrap();
    assert_eq!(broker.next_replay().unwrap().unwrap().id, "2-b");
    assert_eq!(broker.webhook_state().unwrap().unwrap().replaying, 1);
    broker.settle_replay("2-b", false).unwrap();
    assert_eq!(broker.next_replay().unwrap(), None);
    assert!(!broker.hold_webhook("one", LONG).unwrap().has_replay);
    assert_eq!(ids(&*broker), ["2-b", "3-c"]);

    assert_eq!(broker.replay_dead_letters(&[]).unwrap(), 2);
    assert_eq!(broker.discard_dead_letters(&["3-c".into()]).unwrap(), 1);
    assert_eq!(
        (ids(&*broker), broker.next_replay().unwrap().unwrap().id),
        (vec!["2-b".into()], "2-b".into())
    );
    assert_eq!(broker.discard_dead_letters(&[]).unwrap(), 1);
    assert_eq!(broker.next_replay().unwrap(), None);
});

behaviour!(beyond_a_number_of_letters_the_oldest_go, |world| {
    let broker = world.broker();
    broker.hold_webhook("one", LONG).unwrap();
    for number in 0..DEAD_LETTERS + 2 {
        broker.bury(&letter(&format!("{number:05}"), "")).unwrap();
    }
    assert_eq!(ids(&*broker)[0], "00002");
    let state = broker.webhook_state().unwrap().unwrap();
    assert_eq!((state.dead_letters, state.dropped), (DEAD_LETTERS as u64, 2));
});
