//! The service beside a node in one process: an address, a connection, a message, an event.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use imcore::{
    broker::MemoryBroker,
    server::{Server, ServerConfig},
};
use tokio::sync::oneshot;
use tungstenite::Message;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Status and body of the answer to one request.
fn ask(address: SocketAddr, request: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{request} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// What a user of the service sees.
fn story(address: SocketAddr, node: SocketAddr) {
    let (status, body) = ask(address, "POST /address/42", "");
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let stream = TcpStream::connect(node).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(answer["url"].as_str().unwrap(), stream).unwrap();

    let (status, body) = ask(address, "POST /orders", r#"{"users": [7, 42], "text": "shipped"}"#);
    assert_eq!(status, 202, "{body}");
    let Message::Text(text) = socket.read().unwrap() else { panic!("no text") };
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message, json!({ "user": 42, "text": "shipped" }));
    // A mistake of the caller is told as one.
    assert_eq!(ask(address, "POST /orders", r#"{"users": 1}"#).0, 422);

    let deadline = std::time::Instant::now() + PATIENCE;
    while !ask(address, "GET /seen", "").1.contains("42 online") {
        assert!(std::time::Instant::now() < deadline, "no event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_pushes_and_hears() {
    let broker = Arc::new(MemoryBroker::new());
    let config = ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        server: Some("n".into()),
        servers: vec!["n".into()],
        ..ServerConfig::default()
    };
    let node = Server::start(config, broker.clone()).unwrap();
    assert!(node.wait_ready(PATIENCE), "the node does not get ready");
    let im = ImClient::builder().servers(["n"]).broker(broker).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, place) = (listener.local_addr().unwrap(), node.local_addr());
    let (end, ended) = oneshot::channel::<()>();
    let service = tokio::spawn(async move {
        let end = async { drop(ended.await) };
        serve(im, listener, end).await.map_err(|error| error.to_string())
    });
    spawn_blocking(move || story(address, place)).await.unwrap();
    end.send(()).unwrap();
    service.await.unwrap().unwrap();
    spawn_blocking(move || node.shutdown()).await.unwrap();
}
