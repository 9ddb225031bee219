//! The `limits` of the configuration file: every field of [`Limits`] is a setting. They have no flags.

use std::time::Duration;

use imcore::server::Limits;

use super::{Given, Kind, PLAIN, Setting};

/// What is expected of a limit that is a time, which is given in seconds, and of one that is a number.
const SECONDS: &str = "a number of seconds up to 30 days";
const COUNT: &str = "a whole number";

macro_rules! limits {
    ($($name:ident: $kind:ident $($more:ident: $value:expr)?;)*) => {
        /// All limits, in the order of the fields.
        pub(super) const SETTINGS: &[Setting] = &[$(Setting {
            name: concat!("limits.", stringify!($name)),
            in_file_alone: true,
            kind: Kind::Number,
            $($more: $value,)?
            read: |config, given| $kind::read(given).map(|value| config.server.limits.$name = value),
            show: |config| $kind::show(config.server.limits.$name),
            ..PLAIN
        },)*];

        /// Does not compile when `Limits` has a field that is not listed.
        #[cfg(test)]
        fn complete(limits: Limits) {
            let Limits { $($name,)* } = limits;
            $(let _ = $name;)*
        }
    };
}

limits! {
    connections: count;
    connections_per_client: count;
    handshakes: count;
    handshakes_per_address: count;
    failures_per_address: count;
    head_bytes: count;
    handshake: time;
    inbound_message_bytes: count;
    inbound_message_time: time;
    inbound_rate: count;
    ping_after: time;
    pong_within: time;
    outbox_bytes: count;
    outbox_stall: time;
    outbox_age: time;
    receipt_content_bytes: count;
    linger: time;
    drain_over: time same_as: Some("drain");
    moves_per_second: count;
    drain_grace: time;
    lease: time;
    sweep: time;
}

mod count {
    use super::{COUNT, Given};

    /// JSON has one kind of numbers: `1e3` is a whole one.
    pub(super) fn read(given: &Given) -> Result<usize, &'static str> {
        let usable = |n: f64| n >= 0.0 && n.fract() == 0.0 && n <= f64::from(u32::MAX);
        given.number(COUNT, usable).map(|number: f64| number as usize)
    }

    pub(super) fn show(count: usize) -> String {
        count.to_string()
    }
}

pub(super) mod time {
    use super::{Duration, Given, Limits, SECONDS};

    /// A time that a node can work with.
    pub(in crate::settings) fn read(given: &Given) -> Result<Duration, &'static str> {
        let time = Duration::try_from_secs_f64(given.parse(SECONDS)?).map_err(|_| SECONDS)?;
        if time <= Limits::LONGEST { Ok(time) } else { Err(SECONDS) }
    }

    pub(in crate::settings) fn show(time: Duration) -> String {
        time.as_secs_f64().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, settings::Source};

    fn given(text: &str) -> Given {
        Given::new([text.to_owned()], Source::File("x.json".into()))
    }

    #[test]
    fn each_limit_sets_its_own_field() {
        complete(Limits::default());
        for (index, limit) in SETTINGS.iter().enumerate() {
            let (mut config, number) = (Config::default(), (index + 1000).to_string());
            (limit.read)(&mut config, &given(&number)).unwrap();
            assert_eq!((limit.show)(&config), number, "{}", limit.name);
            let is_changed = |l: &&Setting| (l.show)(&config) != (l.show)(&Config::default());
            assert_eq!(SETTINGS.iter().filter(is_changed).count(), 1, "{}", limit.name);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for text in ["1.5", "-1", "4294967296", "NaN", "x"] {
            assert_eq!(count::read(&given(text)), Err(COUNT), "{text}");
        }
        for text in ["-1", "1e300", "2592001", "NaN", "x"] {
            assert_eq!(time::read(&given(text)), Err(SECONDS), "{text}");
        }
        assert_eq!(count::read(&given("1e3")), Ok(1000));
        assert_eq!(time::read(&given("0.25")), Ok(Duration::from_millis(250)));
    }
}
