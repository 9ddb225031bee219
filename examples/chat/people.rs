//! Who is called what, learned from the presence events, and the hint that tells pages to look again.
//!
//! Two threads: the event bus calls `Roll`, and one of ours sends the hints. Must not decide who is
//! online: imcore knows that; here are only names for ids.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use imcore::{ClientId, ImClient, Message, PresenceWatch};
use serde::{Deserialize, Serialize};

use crate::message::{ChatMessage, Kind};

/// Hints closer together than this become one: each costs a request per open page.
const HINT_PAUSE: Duration = Duration::from_millis(250);

/// The business's note on a connection: goes into the ticket, comes back in the events of every process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nick: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<String>,
}

/// The names, shared by all threads. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Roll {
    nicks: Arc<Mutex<HashMap<ClientId, String>>>,
    /// Holds one hint at most: a hint that is still to be sent covers all changes before it.
    hints: SyncSender<()>,
}

impl Roll {
    fn new() -> (Self, Receiver<()>) {
        let (hints, due) = mpsc::sync_channel(1);
        (Roll { nicks: Arc::default(), hints }, due)
    }

    /// What `client` calls itself; `None` if its connection came with no name, or before this
    /// process listened.
    pub(crate) fn nick(&self, client: &ClientId) -> Option<String> {
        self.lock().get(client).cloned()
    }

    /// The names of many clients under one lock.
    pub(crate) fn nicks(&self, clients: &[ClientId]) -> Vec<Option<String>> {
        let nicks = self.lock();
        clients.iter().map(|client| nicks.get(client).cloned()).collect()
    }

    /// Rooms or people changed: have all pages look again, soon.
    pub(crate) fn changed(&self) {
        let _ = self.hints.try_send(());
    }

    fn came_online(&self, client: ClientId, meta: Option<&str>) {
        // Other business services write other notes; they are not wrong, there is just no name in them.
        let meta = meta.and_then(|meta| serde_json::from_str::<Meta>(meta).ok());
        if let Some(nick) = meta.and_then(|meta| meta.nick) {
            self.lock().insert(client, nick);
        }
        self.changed();
    }

    /// Forgets everybody who is not online, so that the names stay bounded.
    fn keep_only(&self, online: &[ClientId]) {
        let online: HashSet<_> = online.iter().collect();
        self.lock().retain(|client, _| online.contains(client));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, String>> {
        self.nicks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running threads behind a [`Roll`].
pub(crate) struct People {
    roll: Roll,
    events: PresenceWatch,
    stop: SyncSender<()>,
    hinter: JoinHandle<()>,
}

impl People {
    /// Starts to watch.
    pub(crate) fn watch(im: &ImClient) -> Result<Self, Box<dyn std::error::Error>> {
        let (roll, due) = Roll::new();
        let (online, offline) = (roll.clone(), roll.clone());
        let events = im.on_presence(
            move |client, meta| online.came_online(client, meta.as_deref()),
            // A client may have other connections; the hinter forgets who has none.
            move |_, _| offline.changed(),
        )?;
        let (stop, stopped) = mpsc::sync_channel(0);
        let hinter = thread::Builder::new().name("chat-hints".into()).spawn({
            let (im, roll) = (im.clone(), roll.clone());
            move || send_hints(&im, &roll, &due, &stopped)
        })?;
        Ok(People { roll, events, stop, hinter })
    }

    /// The names, to be read elsewhere.
    pub(crate) fn roll(&self) -> Roll {
        self.roll.clone()
    }

    /// Ends both threads.
    pub(crate) fn stop(self) {
        self.events.stop();
        drop(self.stop);
        self.roll.changed();
        let _ = self.hinter.join();
    }
}

/// Each process of a deployment hears every event and sends hints of its own: a page of this demo may
/// get a hint per process, and the pause keeps that cheap.
fn send_hints(im: &ImClient, roll: &Roll, due: &Receiver<()>, stopped: &Receiver<()>) {
    while due.recv().is_ok() {
        if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
            return;
        }
        // A failed hint is no loss: the pages look again when their sockets come back.
        match im.online_clients() {
            Ok(online) => roll.keep_only(&online),
            Err(error) => log::debug!("no list of people: {error}"),
        }
        if let Ok(text) = ChatMessage::new(Kind::Changed).text()
            && let Err(error) = im.send(Message::to_everyone(), &text)
        {
            log::debug!("no hint to the pages: {error}");
        }
        // Doubles as the wait for the end.
        if stopped.recv_timeout(HINT_PAUSE) == Err(mpsc::RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_notes_and_go_with_the_client() {
        let (roll, due) = Roll::new();
        roll.came_online(1.into(), Some(r#"{"nick":"fox","ip":"::1"}"#));
        roll.came_online(2.into(), Some("127.0.0.1"));
        roll.came_online(3.into(), None);
        assert_eq!(roll.nicks(&[1.into(), 2.into(), 3.into()]), [Some("fox".into()), None, None]);
        assert_eq!(due.try_recv(), Ok(()));
        assert!(due.try_recv().is_err(), "hints pile up");
        roll.keep_only(&[2.into()]);
        assert_eq!(roll.nick(&1.into()), None);
    }
}
