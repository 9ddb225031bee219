//! What test clients and rooms are called, so that nobody of a running deployment is met.

use std::sync::OnceLock;

use crate::args::DeploymentArgs;

/// First client of every setup, unless `--first-client` says otherwise.
const FIRST: i64 = 1_000_000;
static NAMES: OnceLock<Names> = OnceLock::new();

struct Names {
    first_client: i64,
    room_prefix: String,
}

/// Decides what clients and rooms of this run are called; to be called once, before anything starts.
pub fn choose_names(args: &DeploymentArgs) -> Result<(), String> {
    const IDS: i64 = 200_000_000;
    if args.first_client.is_some_and(|first| !(1..=i64::MAX / 4 - IDS).contains(&first)) {
        return Err(format!("--first-client: expected 1 to {}", i64::MAX / 4 - IDS));
    }
    let names = match (&args.redis, args.first_client) {
        (None, first) => Names { first_client: first.unwrap_or(FIRST), room_prefix: "room".into() },
        (Some(_), Some(first)) => {
            let room_prefix = args.room_prefix.clone();
            let room_prefix =
                room_prefix.unwrap_or_else(|| format!("loadtest-{:x}", std::process::id()));
            Names { first_client: first, room_prefix }
        }
        (Some(_), None) => {
            return Err(
                "a running deployment has users: name the first of 200,000,000 client ids \
                        that none of them has, for example --first-client 4000000000000"
                    .into(),
            );
        }
    };
    let _ = NAMES.set(names);
    Ok(())
}

/// First client of every setup.
pub fn first_client() -> i64 {
    NAMES.get().map_or(FIRST, |names| names.first_client)
}

/// The name of a room in the deployment.
pub fn room_name(stream: u32) -> String {
    let prefix = NAMES.get().map_or("room", |names| &names.room_prefix);
    format!("{prefix}-{stream}")
}
