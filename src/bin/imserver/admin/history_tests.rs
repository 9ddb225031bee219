//! What is remembered of nodes that come, go and start again.

use super::*;

fn node(index: usize, status: Option<(f64, u64)>) -> Seen {
    let status = status.map(|(uptime, delivered)| {
        let mut status = NodeStatus::default();
        (status.uptime_seconds, status.delivered, status.connections) = (uptime, delivered, 7);
        status
    });
    Seen { server: format!("im-{index}"), index: Some(index), slots: None, status }
}

fn told(history: &History) -> Vec<(bool, &str)> {
    history.events.iter().map(|event| (event.bad, event.what.as_str())).collect()
}

#[test]
fn a_node_that_falls_silent_is_remembered_with_whom_it_hurts() {
    let mut history = History::new(0.0);
    history.learn(&[node(0, Some((1.0, 0))), node(1, Some((1.0, 0)))], 0.0);
    assert!(told(&history).is_empty(), "nothing happened yet");
    for now in [1.0, 2.0] {
        history.learn(&[node(0, Some((2.0, 0))), node(1, None)], now);
    }
    let silent = "im-1 fell silent; it had 7 connections; every client whose remainder by 2 nodes is 1 cannot connect";
    assert_eq!(told(&history), [(true, silent)]);
    let last = history.last("im-1", 31.0).unwrap();
    assert_eq!((&last["seconds_ago"], &last["connections"]), (&json!(31.0), &json!(7)));
    assert_eq!(history.last("im-7", 1.0), None);

    history.learn(&[node(0, Some((3.0, 0))), node(1, Some((0.5, 0)))], 40.0);
    history.learn(&[node(0, Some((0.1, 0))), node(1, Some((1.0, 0)))], 41.0);
    let after: Vec<_> = told(&history).into_iter().skip(1).map(|(_, what)| what).collect();
    assert_eq!(after, ["im-1 was started again, not heard of for 40 s", "im-0 was started again"]);
}

#[test]
fn an_hour_of_points_and_no_more() {
    let mut history = History::new(0.0);
    for look in 0..10_000_u64 {
        let (now, uptime) = (look as f64, look as f64 + 5.0);
        history.learn(&[node(0, Some((uptime, 3 * look))), node(1, Some((uptime, 0)))], now);
    }
    assert_eq!(history.points.len(), POINTS);
    let last = history.points.back().unwrap();
    assert_eq!((last.connections, last.delivered), (14, 3.0));
    for number in 0..1000 {
        history.note(Happened::BrokerBack { seconds: number }, 0.0);
    }
    assert_eq!(
        (history.events.len(), history.events[0].what.as_str()),
        (EVENTS, "the broker answers again, after 800 s")
    );
}

#[test]
fn a_restart_makes_no_rate_and_twins_no_events() {
    let mut history = History::new(0.0);
    for (now, uptime, delivered) in [(0.0, 100.0, 5000), (10.0, 1.0, 10), (20.0, 11.0, 20)] {
        history.learn(&[node(0, Some((uptime, delivered)))], now);
    }
    let rates: Vec<_> = history.points.iter().map(|point| point.delivered).collect();
    assert_eq!(rates, [0.0, 0.0, 1.0]);
    let before = history.events.len();
    history.learn(&[node(0, Some((12.0, 0))), node(0, Some((3.0, 0)))], 21.0);
    assert_eq!(history.events.len(), before);
}
