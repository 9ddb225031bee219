//! A proxy that runs a file of `deploy/` with nothing changed but addresses, folders and sizes.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use testkit::eventually;

use crate::wss::make_certificate;

/// Ends the proxy when its standard input closes, that is, also when the test process is killed.
const SCRIPT: &str = "\"$@\" >output 2>&1 & read -r _; kill -TERM $!; wait";

/// The addresses of the nodes in the files.
const NODES: [&str; 3] = ["10.0.0.10:6001", "10.0.0.11:6001", "10.0.0.12:6001"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

impl Kind {
    pub fn program(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Caddy => "caddy",
        }
    }

    /// The flag of the nodes that this proxy's file asks for.
    pub fn peer_address(self) -> &'static str {
        match self {
            Kind::Haproxy => "proxy-protocol",
            Kind::Nginx | Kind::Caddy => "forwarded-for",
        }
    }

    /// Fails if the program is not there.
    pub fn must_be_installed(self) {
        let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .any(|folder| folder.join(self.program()).is_file());
        assert!(found, "{} is not installed; tests/edge/check.sh does that", self.program());
    }

    fn file(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx.conf",
            Kind::Haproxy => "haproxy.cfg",
            Kind::Caddy => "Caddyfile",
        }
    }

    /// The file, with what cannot be the same on a developer's machine put in its place.
    fn config(self, folder: &Path, port: u16, nodes: &[SocketAddr; 3]) -> String {
        let path = testkit::root().join("deploy").join(self.file());
        let mut text = fs::read_to_string(path).unwrap();
        let folder = folder.to_str().unwrap();
        let mut put = |from: &str, to: &str| {
            assert!(text.contains(from), "{} has no {from:?} any more", self.file());
            text = text.replace(from, to);
        };
        for (name, node) in NODES.iter().zip(nodes) {
            put(name, &node.to_string());
        }
        put("/etc/ssl/im", folder);
        match self {
            Kind::Nginx => {
                put("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"));
                put("/run/nginx.pid", &format!("{folder}/pid"));
                put("/var/log/nginx", folder);
                put("worker_connections 100000", "worker_connections 4000");
                // The packaged folders belong to root.
                let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|name| format!("{name}_temp_path {folder}/{name};"));
                put("http {", &format!("http {{ {}", folders.concat()));
            }
            Kind::Haproxy => {
                put("bind :443", &format!("bind 127.0.0.1:{port}"));
                put("maxconn 100000", "maxconn 4000");
            }
            Kind::Caddy => {
                let own = testkit::port();
                let ports = format!("https_port {port}\nhttp_port {own}\ndefault_bind 127.0.0.1");
                put("\n{\n", &format!("\n{{\nadmin off\n{ports}\n"));
            }
        }
        text
    }
}

/// A running proxy. Dropped: ended, and its folder removed.
pub struct Proxy {
    shell: Child,
    folder: PathBuf,
    pub address: SocketAddr,
}

impl Proxy {
    /// With the file of `deploy/`, in front of these nodes.
    pub fn start(kind: Kind, nodes: &[SocketAddr; 3]) -> Proxy {
        Proxy::start_with(kind, |folder, port| {
            make_certificate(folder);
            kind.config(folder, port, nodes)
        })
    }

    /// With what `config` makes for a folder of its own and the port to listen on.
    pub fn start_with(kind: Kind, config: impl FnOnce(&Path, u16) -> String) -> Proxy {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("imcore-edge-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let port = testkit::port();
        let file = folder.join(kind.file());
        fs::write(&file, config(&folder, port)).unwrap();
        let file = file.to_str().unwrap();
        let args: &[&str] = match kind {
            Kind::Nginx => &["-p", ".", "-e", "errors", "-g", "daemon off;", "-c", file],
            Kind::Haproxy => &["-db", "-f", file],
            Kind::Caddy => &["run", "--adapter", "caddyfile", "--config", file],
        };
        let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh", kind.program()])
            .args(args)
            .env("PATH", path)
            .envs(["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, &folder)))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let proxy = Proxy { shell, folder, address: (Ipv4Addr::LOCALHOST, port).into() };
        eventually("the proxy listens", || TcpStream::connect(proxy.address).is_ok());
        proxy
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All that it has written about its work.
    pub fn logs(&self) -> String {
        ["output", "errors", "error.log", "im.log"]
            .map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if std::thread::panicking() {
            eprintln!("--- logs of the proxy\n{}", self.logs());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
