//! Behaviours of every broker: lists, which come page by page, and calls for nothing.

use imcore::{ErrorKind, broker::Page};

use crate::world::{LONG, even as id, opened, sorted};

shared_behaviour!(nothing_asked_nothing_done, |world| {
    let broker = world.broker();
    broker.join(&[]).unwrap();
    broker.join(&[(id(1), "")]).unwrap();
    broker.leave(&[(id(1), "")]).unwrap();
    broker.publish(&[]).unwrap();
    assert_eq!(broker.channels().unwrap(), []);
    assert_eq!(broker.channel_members("").unwrap(), []);
    assert_eq!(broker.channel_size("").unwrap(), 0);
    broker.clear_channel("").unwrap();
    assert_eq!(broker.are_online(&[]).unwrap(), Vec::<bool>::new());
    assert_eq!(broker.channels_of(&[]).unwrap(), Vec::<Vec<String>>::new());
    assert_eq!(broker.take_tickets("n1", &[]).unwrap(), Vec::new());
    assert_eq!(broker.reap(10).unwrap(), 0);
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    broker.report(&mut session, &[]).unwrap();
    assert_eq!(broker.reap(0).unwrap(), 0);
});

/// Reads all pages of a list.
pub(crate) fn all_pages<T>(read: impl Fn(Option<&str>) -> Page<T>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = read(after.as_deref());
        items.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return items,
        }
    }
}

shared_behaviour!(lists_come_page_by_page, |world| {
    let broker = world.broker();
    let mut session = broker.begin_session("n1", LONG, true).unwrap();
    let count = 1_500;
    let changes: Vec<_> = (0..count).map(|number| opened(number as u64, id(number))).collect();
    broker.report(&mut session, &changes).unwrap();
    let names: Vec<_> = (0..count).map(|number| format!("c{number}")).collect();
    let own: Vec<_> = names.iter().map(|name| (id(1), name.as_str())).collect();
    broker.join(&own).unwrap();
    let lobby: Vec<_> = (0..count).map(|number| (id(number), "lobby")).collect();
    broker.join(&lobby).unwrap();

    let first = broker.online_page(None, 100).unwrap();
    assert_eq!(first.total, count as u64);
    assert!(first.next.is_some() && first.items.len() < 300, "{}", first.items.len());
    // The system, client 0, is hidden; whoever is there all the time is on a page.
    let mut expected: Vec<_> = (1..count).map(id).collect();
    expected.sort();
    let mut online = sorted(all_pages(|after| broker.online_page(after, 100).unwrap()));
    online.dedup();
    assert_eq!(online, expected);
    let mut members = sorted(all_pages(|after| broker.members_page("lobby", after, 7).unwrap()));
    members.dedup();
    assert_eq!(members, expected);
    let mut channels = sorted(all_pages(|after| broker.channels_page(after, 2_000).unwrap()));
    channels.dedup();
    assert_eq!(channels.len(), names.len() + 1);
    assert!(channels.contains(&("lobby".into(), count)) && channels.contains(&("c7".into(), 1)));

    assert_eq!(broker.members_page("nosuch", None, 10).unwrap().items, []);
    assert_eq!(broker.members_page("", None, 10).unwrap().items, []);
    assert_eq!(sorted(broker.online_clients().unwrap()), expected);
    assert_eq!(sorted(broker.channel_members("lobby").unwrap()), expected);
    assert_eq!(broker.channels().unwrap().len(), names.len() + 1);
    for after in ["x y", "- -", "1: x"] {
        let error = broker.online_page(Some(after), 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    }
});

shared_behaviour!(connections_come_page_by_page, |world| {
    let broker = world.broker();
    let mut sessions: Vec<_> =
        (0..2).map(|_| broker.begin_session("n1", LONG, false).unwrap()).collect();
    for (session, from) in sessions.iter_mut().zip([0, 6_000]) {
        let changes: Vec<_> =
            (from..from + 6_000).map(|number| opened(number, id(number as i64 / 4000))).collect();
        broker.report(session, &changes).unwrap();
    }
    let read = |after: Option<&str>| broker.connections_page(&id(1), "n1", after).unwrap();
    assert_eq!(read(None).total, 4_000);
    let mut found: Vec<_> = all_pages(read).into_iter().map(|(number, _)| number).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (4_000..8_000).collect::<Vec<_>>());
    assert_eq!(broker.connections_of(&id(1), "n1").unwrap().len(), 4_000);
    let other = broker.connections_page(&id(1), "n2", None).unwrap();
    assert_eq!((other.items.len(), other.next), (0, None));
});
