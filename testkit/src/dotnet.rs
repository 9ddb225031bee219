//! A helper of the .NET original as Redis sees it: the commands that FreeIM 2 was recorded with, ids and texts put in.

use redis::{Connection, cmd};

pub struct Dotnet {
    redis: Connection,
    /// What all names begin with, as `im_v2_ws`.
    names: String,
    /// Its list, in its order.
    servers: Vec<String>,
    tokens: u64,
}

/// The effect of its join.
const JOIN: &str = "if redis.call('HSETNX',KEYS[1],ARGV[1],'0')==1 then redis.call('HSET',KEYS[2],ARGV[2],'0') \
                    redis.call('HINCRBY',KEYS[3],ARGV[2],1) end return 1";

impl Dotnet {
    pub fn new(redis: Connection, names: &str, servers: Vec<String>) -> Self {
        Dotnet { redis, names: names.to_owned(), servers, tokens: 0 }
    }

    /// What slots are called, in its list.
    pub fn slots(count: usize, names: &str) -> Vec<String> {
        let width = (count - 1).to_string().len();
        (0..count).map(|slot| names.replace("{slot}", &format!("{slot:0width$}"))).collect()
    }

    /// Whether anybody hears what it sends to one of its servers.
    pub fn is_heard(&mut self, place: usize) -> bool {
        let topic = format!("{}Server{}", self.names, self.servers[place]);
        let mut count = cmd("PUBSUB");
        let heard: (String, u64) = count.arg("NUMSUB").arg(topic).query(&mut self.redis).unwrap();
        heard.1 > 0
    }

    fn server_of(&self, client: i64) -> &str {
        &self.servers[(client % self.servers.len() as i64) as usize]
    }

    fn publish(&mut self, server: &str, payload: &str) {
        let topic = format!("{}Server{server}", self.names);
        cmd("PUBLISH").arg(topic).arg(payload).exec(&mut self.redis).unwrap();
    }

    /// `SendMessage`: one message for each server that has receivers, in the order of these. `json` is what the message says.
    pub fn send(&mut self, sender: i64, receivers: &[i64], json: &str, receipt: bool) {
        let mut servers: Vec<(String, Vec<i64>)> = Vec::new();
        for client in receivers {
            let server = self.server_of(*client);
            match servers.iter_mut().find(|(known, _)| known == server) {
                Some((_, clients)) => clients.push(*client),
                None => servers.push((server.to_owned(), vec![*client])),
            }
        }
        let text = serde_json::to_string(json).unwrap();
        for (server, clients) in servers {
            let clients = serde_json::to_string(&clients).unwrap();
            let payload = format!(
                r#"{{"Item1":{sender},"Item2":{clients},"Item3":{text},"Item4":{receipt}}}"#
            );
            self.publish(&server, &payload);
        }
    }

    /// `SendChanMessage`, and `SendBroadcastMessage` without a channel: to all servers, one after the other.
    pub fn send_to_all(&mut self, sender: i64, channel: Option<&str>, json: &str) {
        let channel = serde_json::to_string(&channel).unwrap();
        let text = serde_json::to_string(json).unwrap();
        let payload = format!(
            r#"__FreeIM__(ChanMessage){{"Item1":{sender},"Item2":{channel},"Item3":{text}}}"#
        );
        for server in self.servers.clone() {
            self.publish(&server, &payload);
        }
    }

    /// `ForceOffline`.
    pub fn kick(&mut self, client: i64) {
        let server = self.server_of(client).to_owned();
        self.publish(&server, &format!("__FreeIM__(ForceOffline){client}"));
    }

    /// `JoinChan`.
    pub fn join(&mut self, channel: &str, client: i64) {
        let names = &self.names;
        let mut join = cmd("EVAL");
        join.arg(JOIN).arg(3).arg(format!("{names}Chan{channel}"));
        join.arg(format!("{names}Client{client}")).arg(format!("{names}ListChan"));
        join.arg(client).arg(channel).exec(&mut self.redis).unwrap();
    }

    /// `PrevConnectServer`: an address with the name from its list.
    pub fn address(&mut self, client: i64) -> String {
        self.tokens += 1;
        let token = format!("{:0128x}", (self.tokens as u128) << 64 | client as u128);
        let mut set = cmd("SET");
        set.arg(format!("{}Token{token}", self.names));
        set.arg(format!(r#"{{"Item1":{client},"Item2":"10.0.0.1"}}"#)).arg("EX").arg(10);
        set.exec(&mut self.redis).unwrap();
        format!("ws://{}/ws?token={token}", self.server_of(client))
    }
}
