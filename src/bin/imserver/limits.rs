//! The `limits` of the configuration file: every field of [`Limits`] as data.

use std::time::Duration;

use imcore::{Error, ErrorKind, server::Limits};

/// One limit.
pub(crate) struct Limit {
    /// Its key in `limits` of the file, and its field.
    pub(crate) name: &'static str,
    field: Field,
}

/// How to get at the field.
enum Field {
    /// A whole number.
    Count(fn(&mut Limits) -> &mut usize),
    /// A time, given in seconds.
    Time(fn(&mut Limits) -> &mut Duration),
}

macro_rules! limits {
    ($($name:ident: $kind:ident;)*) => {
        /// All limits, in the order of the fields.
        pub(crate) const LIMITS: &[Limit] = &[$(
            Limit { name: stringify!($name), field: Field::$kind(|limits| &mut limits.$name) },
        )*];

        /// Does not compile when `Limits` has a field that is not listed.
        #[cfg(test)]
        fn complete(limits: Limits) {
            let Limits { $($name,)* } = limits;
            $(let _ = $name;)*
        }
    };
}

limits! {
    connections: Count;
    connections_per_client: Count;
    handshakes: Count;
    handshakes_per_address: Count;
    failures_per_address: Count;
    head_bytes: Count;
    handshake: Time;
    inbound_message_bytes: Count;
    inbound_message_time: Time;
    inbound_rate: Count;
    ping_after: Time;
    pong_within: Time;
    outbox_bytes: Count;
    outbox_stall: Time;
    outbox_age: Time;
    receipt_content_bytes: Count;
    linger: Time;
    drain_over: Time;
    drain: Time;
    lease: Time;
    sweep: Time;
}

impl Limit {
    /// Sets the field to what the file at `path` says.
    pub(crate) fn set(&self, limits: &mut Limits, number: f64, path: &str) -> Result<(), Error> {
        let mistake = || self.mistake(path, &number.to_string());
        match self.field {
            Field::Count(field) => {
                let whole = number >= 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX);
                *field(limits) = whole.then_some(number as usize).ok_or_else(mistake)?;
            }
            Field::Time(field) => *field(limits) = seconds(number).ok_or_else(mistake)?,
        }
        Ok(())
    }

    /// The value, for a person.
    pub(crate) fn show(&self, limits: &Limits) -> String {
        let mut limits = limits.clone();
        match self.field {
            Field::Count(field) => field(&mut limits).to_string(),
            Field::Time(field) => field(&mut limits).as_secs_f64().to_string(),
        }
    }

    /// A message that names setting, value, source and a valid example.
    pub(crate) fn mistake(&self, path: &str, value: &str) -> Error {
        let expected = match self.field {
            Field::Count(_) => "a whole number",
            Field::Time(_) => "a number of seconds up to 30 days",
        };
        let Limit { name, .. } = self;
        let example = self.show(&Limits::default());
        let detail = format!(
            "limits.{name} in {path}: {value} is not usable: expected {expected}; for example \
             \"{name}\": {example}"
        );
        Error::new(ErrorKind::Config, detail)
    }
}

/// A time that a node can work with.
pub(crate) fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().filter(|time| *time <= Limits::LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_sets_its_own_field() {
        complete(Limits::default());
        for (index, limit) in LIMITS.iter().enumerate() {
            let mut limits = Limits::default();
            limit.set(&mut limits, index as f64 + 1000.0, "x").unwrap();
            assert_eq!(limit.show(&limits), (index + 1000).to_string(), "{}", limit.name);
            let changed = LIMITS.iter().filter(|l| l.show(&limits) != l.show(&Limits::default()));
            assert_eq!(changed.count(), 1, "{}", limit.name);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let mut limits = Limits::default();
        for (name, number) in [("connections", 1.5), ("connections", -1.0), ("lease", 1e300)] {
            let limit = LIMITS.iter().find(|limit| limit.name == name).unwrap();
            let text = limit.set(&mut limits, number, "x.json").unwrap_err().to_string();
            assert!(text.contains(&format!("limits.{name} in x.json")), "{text}");
        }
        assert_eq!(seconds(f64::NAN), None);
        assert_eq!(seconds(0.25), Some(Duration::from_millis(250)));
    }
}
