//! A primary that has become a replica: what it refuses is unavailable, by whatever script it was asked.

use imcore::{
    ErrorKind,
    broker::{NodeBroker, RedisBroker},
};
use redis::cmd;
use testkit::Redis;

use super::kind;
use crate::world::{LONG, fresh_options, id, opened, with_events};

#[test]
fn a_report_to_a_replica_is_unavailable_with_events_and_without() {
    for options in [fresh_options(), with_events()] {
        let events = options.events;
        let redis = Redis::start();
        let broker = RedisBroker::open(&redis.url(), options).unwrap();
        let mut session = broker.begin_session("n1", LONG, true).unwrap();
        broker.report(&mut session, &[opened(1, id(7))]).unwrap();
        cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut redis.connect()).unwrap();
        let refused = kind(broker.report(&mut session, &[opened(2, id(8))]));
        assert_eq!(refused, ErrorKind::Unavailable, "{events} events kept");
    }
}
