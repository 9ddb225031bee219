//! The command line: raw flags, then checked settings. Starts nothing.

use std::{
    error::Error,
    net::{SocketAddr, ToSocketAddrs},
};

use clap::Parser;

/// Name and address of the node when none is given.
const DEFAULT_NODE: &str = "127.0.0.1:6001";
const SHORTEST_SECRET: usize = 16;

/// A chat on imcore: push node, web API and page in one process.
///
/// Without arguments everything runs here and nothing else is needed. With --redis this process is one
/// node of several: run it once per name in --servers, each with its own --server and --http.
///
/// It is a demo. It leaves out logins (anybody may come in under any name), rights (anybody may write to
/// anybody and to any room), a history, and TLS: do not put it on a network as it is.
#[derive(Parser, Debug)]
#[command(name = "chat", version)]
pub(crate) struct Args {
    /// Address of the page and the web API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,

    /// Host name under which browsers reach the page, if it is not an IP address or localhost; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,

    /// What the sessions are signed with, 16 characters or more: with the same one they outlive a restart
    /// [default: a new one at each start]
    #[arg(long, value_name = "TEXT", env = "CHAT_SECRET", hide_env_values = true)]
    secret: Option<String>,

    /// Redis that all nodes share, for example redis://127.0.0.1:6379/0
    #[arg(long, value_name = "URL", requires = "servers")]
    redis: Option<String>,

    /// Names of all nodes, separated by commas, the same list in every process
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "server")]
    servers: Vec<String>,

    /// Name of this process's node [default: 127.0.0.1:6001]
    #[arg(long, value_name = "NAME")]
    server: Option<String>,

    /// Address that the node listens on [default: the node's name]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Address of the sockets as browsers reach it, for example ws://192.0.2.7:6001{path}
    #[arg(long, value_name = "TEMPLATE")]
    public_url: Option<String>,
}

/// Flags that fit together.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) http: SocketAddr,
    pub(crate) names: Vec<String>,
    pub(crate) secret: Vec<u8>,
    pub(crate) redis: Option<String>,
    pub(crate) servers: Vec<String>,
    pub(crate) server: String,
    pub(crate) listen: SocketAddr,
    pub(crate) public_url: Option<String>,
}

impl Args {
    /// Checks everything that can be checked before anything starts.
    pub(crate) fn check(self) -> Result<Settings, Box<dyn Error>> {
        let server = self.server.unwrap_or_else(|| DEFAULT_NODE.into());
        let servers = if self.servers.is_empty() { vec![server.clone()] } else { self.servers };
        if !servers.contains(&server) {
            let list = servers.join(",");
            return Err(format!("--server {server}: not among --servers {list}").into());
        }
        if self.redis.is_none() && servers.len() > 1 {
            return Err("--servers: more than one node needs a shared broker, for example \
                        --redis redis://127.0.0.1:6379"
                .into());
        }
        let listen = match self.listen {
            Some(address) => address,
            None => resolve(&server)?,
        };
        let secret = match self.secret {
            Some(text) if text.len() < SHORTEST_SECRET => {
                return Err(format!(
                    "--secret: {} characters are too few; give {SHORTEST_SECRET} or more, for example \
                     --secret $(openssl rand -hex 16)",
                    text.len()
                )
                .into());
            }
            Some(text) => text.into_bytes(),
            None => random()?.to_vec(),
        };
        let Args { http, names, redis, public_url, .. } = self;
        Ok(Settings { http, names, secret, redis, servers, server, listen, public_url })
    }
}

fn random() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| format!("no random number from the operating system: {error}"))?;
    Ok(secret)
}

fn resolve(server: &str) -> Result<SocketAddr, String> {
    server.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        format!(
            "--server {server}: the name is no address; say where the node listens, for example \
             --listen 127.0.0.1:6001"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("chat").chain(line.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        args.check().map_err(|error| error.to_string())
    }

    #[test]
    fn no_argument_is_one_node_in_one_process() {
        let settings = settings("").unwrap();
        assert_eq!(settings.servers, ["127.0.0.1:6001"]);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:6001");
        assert_eq!(settings.http.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn a_node_of_several_listens_where_its_name_says() {
        let node =
            settings("--redis redis://r --servers 127.0.0.1:1,127.0.0.1:2 --server 127.0.0.1:2");
        assert_eq!(node.unwrap().listen.to_string(), "127.0.0.1:2");
        let node =
            settings("--redis redis://r --servers a,b --server b --listen 127.0.0.1:9").unwrap();
        assert_eq!((node.server.as_str(), node.listen.port()), ("b", 9));
    }

    #[test]
    fn contradictions_are_told_with_a_valid_example() {
        for (line, part) in [
            ("--redis redis://r", "--servers"),
            ("--redis redis://r --servers a,b", "--server"),
            ("--redis redis://r --servers a,b --server c", "--server c"),
            ("--servers 127.0.0.1:1,127.0.0.1:2 --server 127.0.0.1:1", "--redis"),
            ("--server a", "--listen 127.0.0.1:6001"),
            ("--http nowhere", "--http"),
            ("--secret short", "openssl rand"),
        ] {
            let error = settings(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
