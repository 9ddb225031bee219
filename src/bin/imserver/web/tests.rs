//! Whole connections over real sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Body, Limits, Listener, Request, Response, Site};

/// Longer than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(60);

/// More than the buffers between two sockets hold.
const LARGE: usize = 32 << 20;

/// Answers with what was asked.
struct Mirror {
    limits: Limits,
    answered: AtomicUsize,
    /// Of those streams that have no end by themselves.
    streams: Arc<()>,
}

impl Site for Mirror {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        assert!(request.body.is_empty());
        match request.path.as_str() {
            "/denied" => Err(Response::line(401, "denied")),
            _ => Ok(()),
        }
    }

    fn answer(&self, request: &Request) -> Response {
        self.answered.fetch_add(1, Ordering::SeqCst);
        if request.path == "/stream" {
            let pieces = (0..3).map(|number| format!("piece {number}\n").into_bytes());
            let body = Body::Stream(Box::new(pieces));
            return Response { body, ..Response::new(200, "text/plain", "") };
        }
        if request.path == "/endless" {
            let stream = Arc::clone(&self.streams);
            let pieces = std::iter::repeat_with(move || {
                thread::sleep(Duration::from_millis(1));
                let _ = &stream;
                Vec::new()
            });
            let body = Body::Stream(Box::new(pieces));
            return Response { body, ..Response::new(200, "text/plain", "") };
        }
        if request.path == "/large" {
            return Response::new(200, "text/plain", vec![b'x'; LARGE]);
        }
        let body = String::from_utf8_lossy(&request.body);
        Response::new(200, "text/plain", format!("{} {} {body}", request.method, request.path))
    }
}

fn serve(change: impl FnOnce(&mut Limits)) -> (SocketAddr, Arc<Mirror>) {
    let mut limits =
        Limits { connections: 4, head: 512, body: 16, request: LONG, answer: LONG, idle: LONG };
    change(&mut limits);
    let site = Arc::new(Mirror { limits, answered: AtomicUsize::new(0), streams: Arc::default() });
    let listener = Listener::bind("test", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    listener.serve(Arc::clone(&site)).unwrap();
    (address, site)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything up to the end of the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// One answer whose length is given: status and body.
fn response(stream: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap_or("0");
    let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
}

#[test]
fn requests_may_arrive_in_any_pieces_and_several_at_once() {
    let (address, _) = serve(|_| {});
    let text = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n\
                GET /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = connect(address);
    for cut in 0..text.len() {
        for piece in [&text[..cut], &text[cut..]] {
            stream.write_all(piece.as_bytes()).unwrap();
        }
        for expected in ["POST /a hello", "PUT /b hello", "GET /c "] {
            assert_eq!(response(&mut stream), (200, expected.into()), "cut at {cut}");
        }
    }
    for byte in text.bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    for expected in ["POST /a hello", "PUT /b hello", "GET /c "] {
        assert_eq!(response(&mut stream), (200, expected.into()));
    }
}

#[test]
fn a_connection_ends_when_it_should() {
    let (address, _) = serve(|_| {});
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "nonsense\r\n\r\n",
    ] {
        let mut stream = connect(address);
        // The second must not be answered.
        let both = format!("{request}GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(both.as_bytes()).unwrap();
        let text = rest(stream);
        assert!(text.contains("Connection: close\r\n"), "{request}: {text}");
        let answers = text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
        assert_eq!(answers, 1, "{request}: {text}");
    }
    let mut stream = connect(address);
    stream.write_all(b"GET /denied HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).0, 401);
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).0, 200, "a refusal without a body does not end it");
}

#[test]
fn without_keep_alive_and_idle_connections() {
    let (address, _) = serve(|limits| limits.idle = Duration::ZERO);
    let mut stream = connect(address);
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let text = rest(stream);
    assert!(text.contains("Content-Length: 7\r\n") && text.ends_with("\r\n\r\n"), "{text}");

    let (address, _) = serve(|limits| limits.idle = Duration::from_millis(1));
    let mut stream = connect(address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(rest(stream).ends_with("GET / "));
}

#[test]
fn a_stream_ends_when_its_peer_does_though_nothing_is_sent() {
    let (address, site) = serve(|_| {});
    let mut stream = connect(address);
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    testkit::eventually("it streams", || Arc::strong_count(&site.streams) == 2);
    drop(stream);
    testkit::eventually("the stream has ended", || Arc::strong_count(&site.streams) == 1);
}

#[test]
fn a_stream_is_sent_as_it_comes() {
    let (address, _) = serve(|_| {});
    let mut stream = connect(address);
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let text = rest(stream);
    assert!(text.ends_with("\r\n\r\npiece 0\npiece 1\npiece 2\n"), "{text}");
    assert!(!text.contains("Content-Length"), "{text}");
}

#[test]
fn a_body_is_sent_for_only_where_it_is_wanted() {
    let (address, site) = serve(|_| {});
    let expecting = |path: &str, length: usize| {
        let mut stream = connect(address);
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
        .unwrap();
        stream
    };
    let mut stream = expecting("/x", 2);
    assert_eq!(response(&mut stream).0, 100);
    stream.write_all(b"ab").unwrap();
    assert_eq!(response(&mut stream), (200, "POST /x ab".into()));
    assert_eq!(response(&mut expecting("/denied", 2)).0, 401);
    assert_eq!(response(&mut expecting("/x", 17)).0, 413);
    assert_eq!(site.answered.load(Ordering::SeqCst), 1);
}

#[test]
fn too_much_or_too_slow_is_told() {
    let (address, site) = serve(|limits| limits.request = Duration::from_millis(50));
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(500)), 431),
        ("GET / HTTP/1.1\r\nHost: a".into(), 408),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab".into(), 408),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n".into(), 413),
    ] {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(response(&mut stream).0, status, "{request}");
    }
    assert_eq!(site.answered.load(Ordering::SeqCst), 0);
}

#[test]
fn who_waits_gives_way_to_a_newcomer() {
    let (address, _) = serve(|_| {});
    let mut idle: Vec<_> = (0..8).map(|_| connect(address)).collect();
    let mut stream = connect(address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(response(&mut stream).0, 200);
    assert!(matches!(idle[0].read(&mut [0]), Ok(0) | Err(_)), "the oldest was cut");
}

#[test]
fn who_does_not_read_an_answer_gives_way_as_well() {
    let (address, site) = serve(|limits| limits.connections = 1);
    let mut stream = connect(address);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let deadline = Instant::now() + LONG / 2;
    while site.answered.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "the request is not answered");
        thread::yield_now();
    }
    let asked = || {
        let mut stream = connect(address);
        // Whoever finds no place is told so without being asked.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 200 ")
    };
    while !asked() {
        assert!(Instant::now() < deadline, "one peer that does not read keeps all others out");
    }
}
