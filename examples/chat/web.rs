//! HTTP: a few threads over one listener, each serving one request at a time, start to end.
//!
//! Bounds what is read and turns refusals into answers; what a request means is for `api` and `page`.
//! Must not panic on anything a peer sends. It sets no time limits, because tiny_http has none: a few
//! peers that stop half-way through a body occupy all threads. Serve strangers through a proxy.

use std::{
    io::{self, Cursor, Read},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::{
    api::{Api, Caller},
    form::Fields,
    page,
    refusal::Refusal,
};

/// Enough that one slow peer does not hold up the others.
const THREADS: usize = 8;
/// The largest body; a message of the greatest length, percent-encoded, fits.
const MAX_BODY: u64 = 64 * 1024;

/// How long a stop waits for requests that are being served.
const STOP_TIME: Duration = Duration::from_secs(2);

/// The page needs this server, its sockets, and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Reply = Response<Cursor<Vec<u8>>>;

/// The running web server.
pub(crate) struct Site {
    server: Arc<Server>,
    stopping: Arc<AtomicBool>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Site {
    /// Binds `address` and starts to serve.
    pub(crate) fn start(address: SocketAddr, api: Api) -> io::Result<Self> {
        let server = Arc::new(Server::http(address).map_err(io::Error::other)?);
        let address = server.server_addr().to_ip().unwrap_or(address);
        let (api, stopping) = (Arc::new(api), Arc::new(AtomicBool::new(false)));
        let threads = (0..THREADS)
            .map(|index| {
                let (server, api) = (Arc::clone(&server), Arc::clone(&api));
                let stopping = Arc::clone(&stopping);
                thread::Builder::new()
                    .name(format!("chat-web-{index}"))
                    .spawn(move || serve(&server, &api, &stopping))
            })
            .collect::<io::Result<_>>()?;
        Ok(Site { server, stopping, address, threads })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all threads; requests that are being served are finished, unless their peer has stalled.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // One wakes one.
        self.threads.iter().for_each(|_| self.server.unblock());
        let deadline = Instant::now() + STOP_TIME;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn serve(server: &Server, api: &Api, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Acquire) {
        match server.recv() {
            Ok(mut request) => {
                let reply = reply(&mut request, api);
                if let Err(error) = request.respond(reply) {
                    log::debug!("the answer did not reach the peer: {error}");
                }
            }
            Err(error) if !stopping.load(Ordering::Acquire) => log::warn!("web server: {error}"),
            Err(_) => {}
        }
    }
}

fn reply(request: &mut Request, api: &Api) -> Reply {
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    if !Api::owns(path) {
        return match (page::find(path), request.method()) {
            (Some(asset), Method::Get | Method::Head) => {
                respond(200, asset.content_type, asset.body.into())
            }
            (Some(_), other) => {
                refuse(&Refusal::new(405, format!("{path} does not take {other}.")))
            }
            (None, _) => refuse(&Refusal::new(404, format!("There is no {path}."))),
        };
    }
    match answer(request, path, query, api) {
        Ok(answer) => respond_json(200, &answer),
        Err(refusal) => refuse(&refusal),
    }
}

fn answer(request: &mut Request, path: &str, query: &str, api: &Api) -> Result<Value, Refusal> {
    Api::admit(request.method().as_str(), path)?;
    let content_type = header(request, "Content-Type").unwrap_or_default();
    let caller = Caller {
        ip: header(request, "X-Real-IP").or_else(|| Some(request.remote_addr()?.ip().to_string())),
    };
    let body = read_body(request)?;
    api.call(path, &Fields::read(query, &content_type, &body)?, &caller)
}

fn read_body(request: &mut Request) -> Result<Vec<u8>, Refusal> {
    let too_large = || Refusal::new(413, format!("A request has at most {MAX_BODY} bytes."));
    if request.body_length().is_some_and(|length| length as u64 > MAX_BODY) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    // One more than allowed, to tell the limit from more: a chunked body states no length.
    request
        .as_reader()
        .take(MAX_BODY + 1)
        .read_to_end(&mut body)
        .map_err(|error| Refusal::bad(format!("The body ended early: {error}.")))?;
    if body.len() as u64 > MAX_BODY {
        return Err(too_large());
    }
    Ok(body)
}

fn header(request: &Request, name: &'static str) -> Option<String> {
    let found = request.headers().iter().find(|header| header.field.equiv(name))?;
    Some(found.value.to_string())
}

fn refuse(refusal: &Refusal) -> Reply {
    respond_json(refusal.status, &refusal.to_json())
}

fn respond_json(status: u16, answer: &Value) -> Reply {
    respond(status, "application/json; charset=utf-8", answer.to_string().into_bytes())
}

fn respond(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
    // Answers are of the moment; the page's files are small and change with the program.
    let headers = [
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", CONTENT_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ];
    let mut response = Response::from_data(body).with_status_code(status);
    for (name, value) in headers {
        match Header::from_bytes(name, value) {
            Ok(header) => response.add_header(header),
            Err(()) => debug_assert!(false, "{name}: our own headers are ASCII"),
        }
    }
    // RFC 9110 wants to know what would have been right.
    if status == 405
        && let Ok(allow) = Header::from_bytes("Allow", "GET, POST")
    {
        response.add_header(allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpStream};

    use imcore::{ImClient, broker::MemoryBroker};

    use super::*;
    use crate::people::People;

    /// Sends raw bytes and returns all that comes back.
    fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn post(address: SocketAddr, path: &str, body: &str) -> String {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        exchange(address, &format!("{head}Content-Length: {length}\r\n\r\n{body}"))
    }

    #[test]
    fn pages_answers_and_refusals_over_a_real_socket() {
        let im = ImClient::builder()
            .servers(["n:1"])
            .broker(Arc::new(MemoryBroker::new()))
            .build()
            .unwrap();
        let people = People::watch(&im).unwrap();
        let site =
            Site::start("127.0.0.1:0".parse().unwrap(), Api::new(im, people.roll())).unwrap();
        let address = site.address();

        let page = exchange(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.contains("default-src 'none'") && page.contains("</html>"));
        assert!(post(address, "/", "").starts_with("HTTP/1.1 405"));
        assert!(post(address, "/../Cargo.toml", "").starts_with("HTTP/1.1 404"));

        let answer = post(address, "/ws/pre-connect?websocketId=5", "");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""websocketId":5"#));
        let refusal = post(address, "/ws/pre-connect", "websocketId=x");
        assert!(refusal.starts_with("HTTP/1.1 400") && refusal.contains(r#""code":400"#));
        let large = post(address, "/ws/send-broadcast", &"x".repeat(MAX_BODY as usize + 1));
        assert!(large.starts_with("HTTP/1.1 413"), "{large}");

        site.stop();
        people.stop();
    }
}
