//! The web server: a thread for each connection, and who may ask for what.
//!
//! `http` reads and writes; here every request is judged by where it comes from, and then goes to `page` or
//! `api`. A browser opens six connections at once and keeps them, so none may wait for another to end.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Caller},
    form::Fields,
    http::{Connection, Request, Response, Unread},
    page,
    refusal::Refusal,
};

/// Connections at the same time; each has a thread.
const MOST_CONNECTIONS: usize = 512;
/// A silent connection is kept so long, and not as long when there are many.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_IN_A_CROWD: Duration = Duration::from_secs(2);
/// After it the listener is tried again, for example when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a stop waits for requests that are being served.
const STOP_TIME: Duration = Duration::from_secs(2);

/// The page needs this server, its sockets, and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The running web server.
pub(crate) struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

/// What all threads share.
struct Shared {
    api: Api,
    /// Names under which this server may be asked, besides addresses and this machine's own.
    names: Vec<String>,
    stopping: AtomicBool,
    connections: AtomicUsize,
    /// Requests that are being served.
    busy: AtomicUsize,
}

impl Site {
    /// Binds `address` and starts to serve, to those who ask for an IP address, `localhost` or one of `names`.
    pub(crate) fn start(address: SocketAddr, names: Vec<String>, api: Api) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            api,
            names,
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
        });
        let acceptor = thread::Builder::new().name("chat-web".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Site { address, shared, acceptor })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nothing new; waits a moment for requests that are being served.
    pub(crate) fn stop(self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Only a connection ends the wait for one.
        if TcpStream::connect(self.address).is_ok() {
            let _ = self.acceptor.join();
        }
        let deadline = Instant::now() + STOP_TIME;
        while self.shared.busy.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, peer)) => take(stream, peer.ip(), shared),
            Err(error) => {
                log::warn!("web server: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Gives a connection its thread, if there is room for it.
fn take(mut stream: TcpStream, peer: IpAddr, shared: &Arc<Shared>) {
    let seat = Count::new(shared, |shared| &shared.connections);
    if shared.connections.load(Ordering::Acquire) > MOST_CONNECTIONS {
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        return;
    }
    let thread = thread::Builder::new().name("chat-peer".into());
    if let Err(error) = thread.spawn(move || serve(Connection::new(stream), peer, &seat.shared)) {
        log::warn!("web server: no thread for a connection: {error}");
    }
}

/// One more of something for as long as it lives.
struct Count {
    shared: Arc<Shared>,
    which: fn(&Shared) -> &AtomicUsize,
}

impl Count {
    fn new(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicUsize) -> Self {
        which(shared).fetch_add(1, Ordering::AcqRel);
        Count { shared: Arc::clone(shared), which }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        (self.which)(&self.shared).fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a connection to its end.
fn serve(mut connection: Connection, peer: IpAddr, shared: &Arc<Shared>) {
    loop {
        let crowded = shared.connections.load(Ordering::Acquire) > MOST_CONNECTIONS / 2;
        let request = match connection.next(if crowded { IDLE_IN_A_CROWD } else { IDLE }) {
            Ok(request) => request,
            Err(Unread::Gone) => return,
            Err(Unread::Refused(refusal)) => {
                if connection.answer(&refuse(&refusal), true, false).is_ok() {
                    connection.linger();
                }
                return;
            }
        };
        let _busy = Count::new(shared, |shared| &shared.busy);
        let last = crowded || !request.keeps_alive || shared.stopping.load(Ordering::Acquire);
        let response = reply(&request, peer, shared);
        let sent = connection.answer(&response, last, request.method == "HEAD");
        if sent.is_err() || last {
            return;
        }
    }
}

fn reply(request: &Request, peer: IpAddr, shared: &Shared) -> Response {
    let Request { method, path, query, body, .. } = request;
    let content_type = request.header("Content-Type").unwrap_or_default();
    if let Err(refusal) = check_name(request, &shared.names) {
        return refuse(&refusal);
    }
    if !Api::owns(path) {
        return match (page::find(path), method.as_str()) {
            (Some(asset), "GET" | "HEAD") => respond(200, asset.content_type, asset.body.into()),
            (Some(_), other) => {
                let refusal = Refusal::new(405, format!("{path} does not take {other}."));
                refuse(&refusal).with("Allow", "GET, HEAD")
            }
            (None, _) => refuse(&Refusal::new(404, format!("There is no {path}."))),
        };
    }
    let answer = Api::admit(method, path)
        .and_then(|()| check_origin(request))
        .and_then(|()| Fields::read(query, content_type, body))
        .and_then(|fields| shared.api.call(path, &fields, &Caller { ip: peer }));
    match answer {
        Ok(answer) => respond_json(200, answer.to_string()),
        Err(refusal) if refusal.status == 405 => refuse(&refusal).with("Allow", "POST"),
        Err(refusal) => refuse(&refusal),
    }
}

// --- Where a request comes from -------------------------------------------------------------------

/// A page can have its own name lead to this machine and then counts as ours; a name that it cannot have,
/// or an address, tells the two apart.
fn check_name(request: &Request, names: &[String]) -> Result<(), Refusal> {
    let host = request.header("Host").unwrap_or_default();
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let known = bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if known {
        return Ok(());
    }
    let why =
        format!("This server does not go by the name {name:?}; start it with --name for that.");
    Err(Refusal::new(421, why))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Browsers say which page asks; programs other than browsers say nothing, and act for nobody else.
fn check_origin(request: &Request) -> Result<(), Refusal> {
    let foreign = |what: &str| Err(Refusal::new(403, format!("{what} may not ask here.")));
    if let Some(site) = request.header("Sec-Fetch-Site")
        && !["same-origin", "none"].contains(&site)
    {
        return foreign("A page of another site");
    }
    let Some(origin) = request.header("Origin") else { return Ok(()) };
    let host = request.header("Host").unwrap_or_default();
    let own = ["http://", "https://"]
        .iter()
        .any(|scheme| origin.strip_prefix(scheme).is_some_and(|o| o.eq_ignore_ascii_case(host)));
    if own { Ok(()) } else { foreign(&format!("A page of {origin:?}, under the name {host:?},")) }
}

// --- Answers --------------------------------------------------------------------------------------

fn refuse(refusal: &Refusal) -> Response {
    respond_json(refusal.status, refusal.to_json().to_string())
}

fn respond_json(status: u16, answer: String) -> Response {
    respond(status, "application/json; charset=utf-8", answer.into_bytes())
}

fn respond(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    // Answers are of the moment; the page's files are small and change with the program.
    let headers = [
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", CONTENT_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ];
    let headers = headers.map(|(name, value)| (name, value.to_owned())).into();
    Response { status, headers, body }
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
