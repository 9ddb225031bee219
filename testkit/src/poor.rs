//! A Redis that refuses what the services of some vendors refuse: a proxy that asks the server for an error instead.

use std::{
    io::{BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use redis::{Parser, Value, cmd};

/// What is said to a command, as its words, if it is refused.
pub type Rule = fn(&[String]) -> Option<&'static str>;

/// What a script becomes, some commands of which are refused while it runs.
pub type Rewrite = fn(String) -> String;

/// A script in which nothing can be published.
pub fn without_publish(script: String) -> String {
    script.replace("'PUBLISH'", "'REFUSED'")
}

/// Such a Redis in front of a real one. Its connections end with those behind it.
pub struct Poor {
    pub port: u16,
}

impl Poor {
    pub fn start(target: u16, rule: Rule) -> Self {
        Self::start_with(target, rule, |script| script)
    }

    pub fn start_with(target: u16, rule: Rule, rewrite: Rewrite) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
                // Commands are passed on one by one, and wait for no answers.
                server.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                let (mut to_client, mut from_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_server, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                thread::spawn(move || pass(client, server, rule, rewrite));
            }
        });
        Poor { port }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Passes commands on, those that are refused as such that the server answers with the error: answers keep their order.
fn pass(client: TcpStream, mut server: TcpStream, rule: Rule, rewrite: Rewrite) {
    let (mut parser, mut client) = (Parser::new(), BufReader::new(client));
    while let Ok(Value::Array(words)) = parser.parse_value(&mut client) {
        let mut words: Vec<Vec<u8>> =
            words.into_iter().map(|word| redis::from_redis_value(word).unwrap()).collect();
        let texts: Vec<_> =
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if let [name, script, ..] = &texts[..]
            && name.eq_ignore_ascii_case("EVAL")
        {
            words[1] = rewrite(script.clone()).into_bytes();
        }
        let mut command = redis::Cmd::new();
        match rule(&texts) {
            None => drop(command.arg(words)),
            Some(error) => {
                let mut eval = cmd("EVAL");
                eval.arg("return redis.error_reply(ARGV[1])").arg(0).arg(error);
                command = eval;
            }
        }
        if server.write_all(&command.get_packed_command()).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}
