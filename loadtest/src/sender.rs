//! Who sends at a rate: the helper, or the HTTP API of a node as business code in another language does.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use imcore::{ClientId, ImClient, Message, Receipt};
use serde_json::value::RawValue;

use crate::args::DeploymentArgs;

/// Longest wait for an answer of the API.
const PATIENCE: Duration = Duration::from_secs(30);

pub enum Sender {
    Helper(ImClient),
    Api(Api),
}

impl Sender {
    /// The one that the command line asks for.
    pub fn choose(args: &DeploymentArgs, im: &ImClient) -> Result<Self, String> {
        Ok(match &args.api {
            None => Sender::Helper(im.clone()),
            Some(url) => Sender::Api(Api::new(url, args.api_key.as_deref())?),
        })
    }

    pub fn direct(
        &mut self,
        sender: ClientId,
        receiver: i64,
        message: &RawValue,
        receipt: bool,
    ) -> Result<(), String> {
        match self {
            Sender::Helper(im) => im
                .send(Message::to([receiver]).from(sender).receipt(if receipt { Receipt::Sent } else { Receipt::None }), message)
                .map(drop)
                .map_err(|error| format!("sending: {error}")),
            Sender::Api(api) => api.post(
                "/v1/messages",
                &match receipt {
                    true => format!(
                        "{{\"sender\":{sender},\"receivers\":[{receiver}],\"receipt\":true,\"message\":{message}}}"
                    ),
                    false => format!("{{\"receivers\":[{receiver}],\"message\":{message}}}"),
                },
            ),
        }
    }

    pub fn channel(&mut self, channel: &str, message: &RawValue) -> Result<(), String> {
        match self {
            Sender::Helper(im) => im
                .send(Message::to_channel(channel), message)
                .map(drop)
                .map_err(|error| format!("sending to a room: {error}")),
            Sender::Api(api) => {
                let path = format!("/v1/channels/{channel}/messages");
                api.post(&path, &format!("{{\"message\":{message}}}"))
            }
        }
    }
}

/// One kept connection to the API: a request, its answer, the next request.
pub struct Api {
    address: String,
    key: Option<String>,
    stream: Option<BufReader<TcpStream>>,
}

impl Api {
    fn new(url: &str, key: Option<&str>) -> Result<Self, String> {
        let address = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let address = address.filter(|rest| !rest.is_empty() && !rest.contains('/'));
        let address = address.ok_or_else(|| format!("--api {url}: expected http://host:port"))?;
        Ok(Api { address: address.to_owned(), key: key.map(str::to_owned), stream: None })
    }

    fn post(&mut self, path: &str, body: &str) -> Result<(), String> {
        let failed =
            |address: &str, error: std::io::Error| format!("the API at {address}: {error}");
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().map_err(|error| failed(&self.address, error))?,
        };
        let key = self.key.iter().map(|key| format!("Authorization: Bearer {key}\r\n"));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            self.address,
            body.len(),
            key.collect::<String>()
        );
        let exchange = || -> std::io::Result<String> {
            stream.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
            let status = answer(&mut stream)?;
            self.stream = Some(stream);
            Ok(status)
        };
        let status = exchange().map_err(|error| failed(&self.address, error))?;
        match status.as_str() {
            "202" => Ok(()),
            other => Err(format!("the API at {} answered {other} to {path}", self.address)),
        }
    }

    fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(stream))
    }
}

/// The status of an answer, which is read to its end.
fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            _ if status.is_none() => status = line.split(' ').nth(1).map(str::to_owned),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap_or_default();
            }
            _ => {}
        }
    }
    std::io::copy(&mut stream.take(length), &mut std::io::sink())?;
    Ok(status.unwrap_or_default())
}
