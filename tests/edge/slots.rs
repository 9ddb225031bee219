//! Nodes that come and go behind one name: the snippets of docs/operating.md, with the map that the program writes.

use std::{fs, process::Command};

use imcore::{ImClient, Message};
use testkit::{Imserver, Redis, eventually, ws::Client};

use crate::proxy::{Kind, Proxy};

const SLOTS: usize = 8;

/// The code of the page in that language which reads the map at `path`.
fn snippet(language: &str) -> String {
    let page = fs::read_to_string(testkit::root().join("docs/operating.md")).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1);
    let block = blocks.find(|block| block.contains("slots.map")).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// A whole configuration with what the page has of it.
fn config(kind: Kind, folder: &str, port: u16, nodes: &[String]) -> String {
    match kind {
        Kind::Nginx => {
            let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {folder}/{name};"));
            let snippet = snippet("nginx").replace("/etc/nginx/", &format!("{folder}/"));
            let snippet =
                snippet.replace("server {", &format!("server {{ listen 127.0.0.1:{port};"));
            let temp = temp.concat();
            format!("pid {folder}/pid; events {{}} http {{ access_log off; {temp} {snippet} }}")
        }
        Kind::Haproxy => {
            let snippet = snippet("haproxy").replace("/etc/haproxy/", &format!("{folder}/"));
            let times = "timeout connect 5s\ntimeout client 60s\ntimeout server 60s\n";
            let backend = |node: &String| format!("backend {node}\nserver node {node}\n");
            let backends: String = nodes.iter().map(backend).collect();
            format!(
                "defaults\nmode http\n{times}frontend im\nbind 127.0.0.1:{port}\n{snippet}{backends}"
            )
        }
        Kind::Caddy => {
            let snippet = snippet("caddyfile").replace("/etc/caddy/", &format!("{folder}/"));
            format!("{{\nadmin off\n}}\nhttp://:{port} {{\nbind 127.0.0.1\n{snippet}}}\n")
        }
    }
}

pub fn slots_are_found_by_the_map(kind: Kind) {
    kind.must_be_installed();
    let redis = Redis::start();
    let addresses = ["a", "b"].map(|_| format!("127.0.0.1:{}", testkit::port()));
    let (url, slots) = (redis.url(), SLOTS.to_string());
    let nodes = [("a", &addresses[0]), ("b", &addresses[1])].map(|(name, address)| {
        let place = ["--listen", address, "--address", address, "--server", name];
        Imserver::start(&[&place[..], &["--slots", &slots, "--redis", &url]].concat())
    });
    let template = "ws://im.example.com/s{index}{path}";
    let im = ImClient::builder().slots().redis(&url).public_url(template).build().unwrap();
    eventually("both have their share", || {
        let table = im.slot_table().unwrap().unwrap_or_default();
        let halves = ["a", "b"].iter().all(|node| table.slots_of(node).count() == SLOTS / 2);
        halves && (0..SLOTS).all(|slot| table.moving_from(slot).is_none())
    });
    let proxy = Proxy::start_with(kind, |folder, port| {
        let asked = Command::new(testkit::imserver::program())
            .args(["--slot-table", kind.program(), "--redis", &url])
            .output()
            .unwrap();
        assert!(asked.status.success(), "{asked:?}");
        fs::write(folder.join("slots.map"), asked.stdout).unwrap();
        config(kind, folder.to_str().unwrap(), port, &addresses)
    });
    for client in 1..=SLOTS as i64 {
        let connect = || {
            let url = im.connect_url(client, None).unwrap();
            let slot = client as usize % SLOTS;
            assert!(url.starts_with(&format!("ws://im.example.com/s{slot}/ws?token=")), "{url}");
            Client::connect(proxy.address, &url).ok()
        };
        let mut socket = None;
        eventually("connected", || {
            socket = connect();
            socket.is_some()
        });
        eventually("online", || im.is_online(client).unwrap());
        im.send(Message::to([client]), "found").unwrap();
        assert_eq!(socket.unwrap().json(), "found");
    }
    drop(nodes);
}
