//! Behaviours of every broker: tickets, and claims of requests.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use imcore::{Ticket, broker::TakenTicket};
use testkit::eventually;

use crate::world::{LONG, even as id};

shared_behaviour!(tickets_are_taken_once, |world| {
    let broker = world.broker();
    let tokens: Vec<String> = (0..100).map(|number| format!("token{number}")).collect();
    for (number, token) in tokens.iter().enumerate() {
        broker.put_ticket(token, &Ticket::new(id(number as i64 + 1), None), LONG).unwrap();
    }
    let start = Arc::new(Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (broker, tokens, start) = (world.broker(), tokens.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let chunks = tokens.chunks(7);
                chunks.flat_map(|chunk| broker.take_tickets("n1", chunk).unwrap()).flatten().count()
            })
        })
        .collect();
    let taken: usize = racers.into_iter().map(|racer| racer.join().unwrap()).sum();
    assert_eq!(taken, 100);
});

shared_behaviour!(tickets_expire, |world| {
    let broker = world.broker();
    // Looking takes a ticket away, so there is one for each look.
    let mut number = 0;
    let ticket = Ticket::new(id(1), None);
    eventually("a ticket has expired", || {
        let token = format!("short{number}");
        number += 1;
        broker.put_ticket(&token, &ticket, Duration::from_millis(number)).unwrap();
        let kept = format!("long{number}");
        broker.put_ticket(&kept, &ticket, LONG).unwrap();
        thread::sleep(Duration::from_millis(2));
        let taken = broker.take_tickets("n1", &[token, kept]).unwrap();
        assert!(taken[1].is_some());
        taken[0].is_none()
    });
});

shared_behaviour!(tickets_keep_the_order_of_tokens, |world| {
    let broker = world.broker();
    let first = Ticket::parse(r#"{ "item2":"10.0.0.1", "item1":"4" }"#).unwrap();
    let second = Ticket::new(id(6), Some("说"));
    broker.put_ticket("b", &second, Duration::from_secs(10)).unwrap();
    broker.put_ticket("a", &first, Duration::from_millis(9_500)).unwrap();
    let tokens = ["a", "nosuch", "b", "a"].map(String::from);
    let taken = broker.take_tickets("n1", &tokens).unwrap();
    let texts: Vec<_> =
        taken.iter().map(|taken| taken.as_ref().map(|taken| &taken.text[..])).collect();
    assert_eq!(texts, [Some(first.text()), None, Some(second.text()), None]);
});

shared_behaviour!(tickets_are_put_back_for_what_is_left_of_their_life, |world| {
    let broker = world.broker();
    let ticket = Ticket::new(id(1), Some("元"));
    broker.put_ticket("a", &ticket, Duration::from_secs(50)).unwrap();
    let take = |token: &str| broker.take_tickets("n1", &[token.to_owned()]).unwrap().pop().unwrap();
    let taken = take("a").unwrap();
    assert_eq!(taken.text, ticket.text());
    assert!(taken.left <= Duration::from_secs(50) && taken.left > Duration::from_secs(20));
    assert_eq!(take("a"), None);
    broker.return_tickets("n1", &[("a", &taken)]).unwrap();
    let again = take("a").unwrap();
    assert!(again.text == taken.text && again.left <= taken.left, "{again:?}");
    // What is there meanwhile stays.
    let newer = Ticket::new(id(2), None);
    broker.put_ticket("a", &newer, LONG).unwrap();
    broker.return_tickets("n1", &[("a", &taken)]).unwrap();
    assert_eq!(take("a").unwrap().text, newer.text());
    // It vanishes when it would have.
    let short = TakenTicket { left: Duration::from_millis(1), ..taken };
    broker.return_tickets("n1", &[("b", &short)]).unwrap();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(take("b"), None);
    broker.return_tickets("n1", &[]).unwrap();
});

shared_behaviour!(tickets_of_a_client_can_be_voided, |world| {
    let broker = world.broker();
    let put = |token: &str, client| {
        broker.put_ticket(token, &Ticket::new(id(client), None), LONG).unwrap();
    };
    let good = |token: &str| broker.take_tickets("n1", &[token.to_owned()]).unwrap()[0].is_some();
    [("a1", 1), ("a2", 1), ("b", 2), ("a3", 1)]
        .iter()
        .for_each(|(token, client)| put(token, *client));
    assert!(good("a3"), "one that is taken is not touched");
    broker.void_tickets(&id(1)).unwrap();
    put("a4", 1);
    assert_eq!(["a1", "a2", "a4", "b"].map(good), [false, false, true, true]);
    broker.void_tickets(&id(3)).unwrap();
});

shared_behaviour!(a_request_is_claimed_once, |world| {
    let start = Barrier::new(8);
    let first: Vec<bool> = thread::scope(|scope| {
        let race = |number: usize| {
            let (broker, start) = (world.broker(), &start);
            scope.spawn(move || {
                start.wait();
                broker.claim("键 1", &format!("claim {number}"), LONG).unwrap().is_none()
            })
        };
        let racers: Vec<_> = (0..8).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(first.iter().filter(|first| **first).count(), 1, "{first:?}");
    let winner = format!("claim {}", first.iter().position(|first| *first).unwrap());
    let broker = world.broker();
    assert_eq!(broker.claim("键 1", &winner, LONG).unwrap().as_ref(), Some(&winner));
    assert!(!broker.complete("键 1", "another claim", "stolen", LONG).unwrap());
    assert!(broker.complete("键 1", &winner, "done \0 好", LONG).unwrap());
    assert_eq!(broker.claim("键 1", "late", LONG).unwrap().as_deref(), Some("done \0 好"));
    assert!(!broker.complete("键 1", &winner, "twice", LONG).unwrap());
    assert_eq!(broker.claim("键 2", "late", LONG).unwrap(), None, "keys are apart");
});

shared_behaviour!(claims_expire_and_are_released, |world| {
    let broker = world.broker();
    assert_eq!(broker.claim("a", "first", Duration::from_millis(1)).unwrap(), None);
    eventually("a claim has expired", || broker.claim("a", "second", LONG).unwrap().is_none());
    assert!(!broker.complete("a", "first", "too late", LONG).unwrap());
    assert!(broker.complete("a", "second", "", Duration::ZERO).unwrap());
    assert_eq!(broker.claim("a", "third", LONG).unwrap(), None);
    assert!(broker.complete("a", "third", "done", Duration::from_millis(1)).unwrap());
    eventually("an outcome has expired", || broker.claim("a", "fourth", LONG).unwrap().is_none());
});
