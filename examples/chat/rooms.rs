//! `Rooms`: who is in which room, as the business knows it; imcore forgets it with a client's last connection.
//!
//! A real business has this in its database. Here it is in the memory of this process: after a restart the page
//! says once what it was in.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use imcore::ClientId;

use crate::refusal::Refusal;

/// Rooms that one user may be in.
pub(crate) const MOST_ROOMS: usize = 20;
/// Users who are remembered; beyond it, those who are not online are forgotten.
const MOST_KNOWN: usize = 10_000;

/// The memberships, shared by all threads.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<HashMap<ClientId, BTreeSet<String>>>);

impl Rooms {
    /// `client` is in `room` from now on.
    pub(crate) fn enter(&self, client: &ClientId, room: &str) -> Result<(), Refusal> {
        let mut known = self.lock();
        let rooms = known.entry(client.clone()).or_default();
        if rooms.len() >= MOST_ROOMS && !rooms.contains(room) {
            let why = format!("You are in {MOST_ROOMS} rooms; leave one to enter another.");
            return Err(Refusal::new(409, why));
        }
        rooms.insert(room.to_owned());
        Ok(())
    }

    /// `client` is not in `room` any more.
    pub(crate) fn leave(&self, client: &ClientId, room: &str) {
        if let Some(rooms) = self.lock().get_mut(client) {
            rooms.remove(room);
        }
    }

    /// The rooms of `client`; `None` if nothing is known of it.
    pub(crate) fn of(&self, client: &ClientId) -> Option<Vec<String>> {
        Some(self.lock().get(client)?.iter().cloned().collect())
    }

    /// Keeps the memory bounded; `online` is asked for only if need be.
    pub(crate) fn tidy(&self, online: impl FnOnce() -> Vec<ClientId>) {
        if self.lock().len() > MOST_KNOWN {
            let online: BTreeSet<_> = online().into_iter().collect();
            self.lock().retain(|client, _| online.contains(client));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_known_until_they_are_left_and_bounded() {
        let (rooms, client) = (Rooms::default(), ClientId::from(1));
        assert_eq!(rooms.of(&client), None);
        for number in 0..MOST_ROOMS {
            rooms.enter(&client, &number.to_string()).unwrap();
        }
        rooms.enter(&client, "0").unwrap();
        assert_eq!(rooms.enter(&client, "x").unwrap_err().status, 409);
        rooms.leave(&client, "0");
        rooms.enter(&client, "x").unwrap();
        assert_eq!(rooms.of(&client).unwrap().len(), MOST_ROOMS);
    }

    #[test]
    fn in_a_crowd_those_who_are_offline_are_forgotten() {
        let rooms = Rooms::default();
        for client in 1..=MOST_KNOWN as i64 + 1 {
            rooms.enter(&client.into(), "a").unwrap();
        }
        rooms.tidy(|| vec![5.into()]);
        assert!(rooms.of(&5.into()).is_some() && rooms.of(&6.into()).is_none());
        rooms.tidy(|| panic!("there is room"));
    }
}
