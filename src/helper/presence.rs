//! Who is online: the calls of `ImClient` about it, and its events.
//!
//! Called on any business thread.

use crate::{
    broker::{Page, PresenceEvent},
    error::Result,
    helper::{client::ImClient, watch::PresenceWatch},
    id::ClientId,
};

impl ImClient {
    /// All clients that have a connection, in no order. Read in steps of 500, each a round trip; see
    /// [`Page`] for who is in it that comes or goes meanwhile.
    pub fn online_clients(&self) -> Result<Vec<ClientId>> {
        Ok(self.retain_own(self.broker().online_clients()?))
    }

    /// About `limit` of the clients that have a connection: those after the page whose
    /// [`next`](Page::next) is `after`. Costs what it returns, also where many are online.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if `after` was not given by such a page.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// let mut after = None;
    /// loop {
    ///     let page = im.online_clients_page(after.as_deref(), 500)?;
    ///     println!("{:?} of {}", page.items, page.total);
    ///     match page.next {
    ///         Some(next) => after = Some(next),
    ///         None => break,
    ///     }
    /// }
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn online_clients_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        let page = self.broker().online_page(after, limit)?;
        Ok(Page { items: self.retain_own(page.items), ..page })
    }

    /// Whether `client` has a connection.
    pub fn is_online(&self, client: impl Into<ClientId>) -> Result<bool> {
        Ok(self.broker().are_online(&[client.into()])?.first().copied().unwrap_or(false))
    }

    /// Whether each of `clients` has a connection, in their order.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// assert_eq!(im.are_online([1, 2, 3])?, [false, false, false]);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn are_online<C: Into<ClientId>>(
        &self,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<Vec<bool>> {
        let clients: Vec<_> = clients.into_iter().map(Into::into).collect();
        self.broker().are_online(&clients)
    }

    /// Calls `online` and `offline` for every connection that opens or ends on any node, with the
    /// client and the meta data of the connection.
    ///
    /// What happens during an outage of the broker is missed, and nobody is told: whoever keeps what the
    /// events say takes [`watch_presence`](Self::watch_presence), of which this is the shorter form. Runs,
    /// ends and fails as that does.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// let events = im.on_presence(
    ///     |client, meta| println!("{client} is online: {meta:?}"),
    ///     |client, _| println!("one connection less of {client}"),
    /// )?;
    /// assert!(events.is_listening());
    /// events.stop(); // or keep it, or detach()
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn on_presence(
        &self,
        online: impl Fn(ClientId, Option<String>) + Send + 'static,
        offline: impl Fn(ClientId, Option<String>) + Send + 'static,
    ) -> Result<PresenceWatch> {
        self.watch_presence(move |event| match event {
            PresenceEvent::Online(ticket) => online(ticket.client().clone(), ticket.meta()),
            PresenceEvent::Offline(ticket) => offline(ticket.client().clone(), ticket.meta()),
            PresenceEvent::Listening => {}
        })
    }

    /// Calls `callback` for every connection that opens or ends on any node, and with
    /// [`Listening`](PresenceEvent::Listening) whenever the subscription stands: at the beginning, and
    /// after each gap. Every event from there on comes; those before it may have been missed, so whoever
    /// keeps a list of who is online asks for it then.
    ///
    /// Runs on a thread of its own, one call at a time, reconnects for ever, and ends when the returned
    /// handle is dropped or [stopped](PresenceWatch::stop). The first attempt to subscribe is made before this
    /// returns.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if the thread cannot be started.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// use std::{collections::HashSet, sync::{Arc, Mutex}};
    /// use imcore::PresenceEvent;
    ///
    /// let online = Arc::new(Mutex::new(HashSet::new()));
    /// let asking = im.clone();
    /// let events = im.watch_presence(move |event| {
    ///     let mut online = online.lock().unwrap();
    ///     match event {
    ///         PresenceEvent::Listening => match asking.online_clients() {
    ///             Ok(clients) => *online = clients.into_iter().collect(),
    ///             Err(error) => eprintln!("try again: {error}"),
    ///         },
    ///         PresenceEvent::Online(ticket) => drop(online.insert(ticket.client().clone())),
    ///         // Of a client with several connections, one ended: ask.
    ///         PresenceEvent::Offline(ticket) => {
    ///             if !asking.is_online(ticket.client()).unwrap_or(true) {
    ///                 online.remove(ticket.client());
    ///             }
    ///         }
    ///         _ => {} // of a later version
    ///     }
    /// })?;
    /// events.stop();
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn watch_presence(
        &self,
        callback: impl Fn(PresenceEvent) + Send + 'static,
    ) -> Result<PresenceWatch> {
        PresenceWatch::start(self.broker().subscribe_events(), callback)
    }
}
