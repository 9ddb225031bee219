//! Receivers of webhooks: those that the document shows, as they stand there, and the reference libraries of Standard Webhooks.
//! Each has a node of its own, without Redis.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;
use testkit::{Imserver, eventually, ws::Client};

use crate::{cluster::KEY, http};

const SECRET: &str = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz";
/// What signs as well, while the secret is changed.
const NEXT: &str = "whsec_bmV4dCBzZWNyZXQgdGhhdCBub2JvZHkga25vd3M=";
/// Where the receivers of the document listen.
const PORT: &str = "8080";

const PYTHON: &str = r#"
import http.server, os, sys
from standardwebhooks import Webhook, WebhookVerificationError

hook = Webhook(os.environ["IMSERVER_WEBHOOK_SECRET"])

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            for event in hook.verify(body, dict(self.headers))["data"]["events"]:
                print(event["type"], event["client"])
            self.send_response(204)
        except WebhookVerificationError:
            self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Receiver).serve_forever()
"#;

const NODE: &str = r#"
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const hook = new Webhook(process.env.IMSERVER_WEBHOOK_SECRET);

createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  try {
    for (const event of hook.verify(body, request.headers).data.events) console.log(event.type, event.client);
    response.writeHead(204).end();
  } catch {
    response.writeHead(401).end();
  }
}).listen(8080, "127.0.0.1");
"#;

/// A folder of the test's own, with the libraries. Dropped: gone.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let folder = env::temp_dir().join(format!("imcore-webhooks-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn install(&self) {
        run(Command::new("python3").args(["-m", "venv"]).arg(self.0.join("python")));
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        // What else it asks for is of its part that sends.
        run(Command::new(self.python()).args(pip).args(["--no-deps", "standardwebhooks==1.1.0"]));
        let npm = ["install", "--silent", "--no-save", "standardwebhooks@1.1.1", "--prefix"];
        run(Command::new("npm").args(npm).arg(&self.0));
    }

    fn python(&self) -> PathBuf {
        self.0.join("python/bin/python")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// The program in the document that begins with this mark.
fn shown(language: &str) -> String {
    let text = fs::read_to_string(testkit::root().join("docs/events.md")).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect(language);
    rest.split_once("```").unwrap().0.to_owned()
}

/// A program at work, the node that posts to it, and what it prints. Dropped: killed.
struct Receiver {
    child: Child,
    printed: PathBuf,
    port: u16,
    node: Imserver,
}

impl Receiver {
    fn start(mut language: Command, file: &str, text: &str, folder: &Path) -> Receiver {
        let port = testkit::port();
        assert!(text.contains(PORT), "{file}");
        let program = folder.join(file);
        fs::write(&program, text.replace(PORT, &port.to_string())).unwrap();
        let printed = folder.join(format!("{file}.txt"));
        language.arg(program).env("IMSERVER_WEBHOOK_SECRET", SECRET).stdin(Stdio::null());
        language.stdout(fs::File::create(&printed).unwrap()).stderr(Stdio::null());
        let child = language.spawn().unwrap_or_else(|error| panic!("{language:?}: {error}"));
        let url = format!("http://127.0.0.1:{port}/im");
        let secrets = format!("{NEXT},{SECRET}");
        let node = Imserver::start(&[
            "--listen=127.0.0.1:0",
            "--api=127.0.0.1:0",
            &format!("--api-key={KEY}"),
            "--webhook-url",
            &url,
            "--webhook-secret",
            &secrets,
            "--webhook-allow=http,127.0.0.1",
            "--webhook-retry=0.05",
        ]);
        node.wait_ready();
        Receiver { child, printed, port, node }
    }

    /// A connection comes and goes.
    fn visit(&self, client: i64) {
        let body = json!({ "client": client }).to_string();
        let head = format!("Authorization: Bearer {KEY}\r\n");
        let answer = http::ask(self.node.api(), "POST /v1/connections", &head, Some(&body));
        assert_eq!(answer.status, 201, "{answer:?}");
        let url = answer.json()["url"].as_str().unwrap().to_owned();
        Client::connect(self.node.address(), &url).unwrap().leave();
    }

    /// Type and client of each event.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.printed).unwrap();
        let short = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        text.lines().map(short).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs python3, node and npm; .ci/run runs it"]
fn receivers_of_the_document_and_reference_libraries_trust_what_is_posted() {
    let folder = Folder::new();
    folder.install();
    let python = |program: &Path| {
        let mut python = Command::new(program);
        // What it prints is seen at once.
        python.arg("-u");
        python
    };
    let node = || Command::new("node");
    let receivers = [
        (python(Path::new("python3")), "shown.py", shown("python")),
        (node(), "shown.mjs", shown("js")),
        (python(&folder.python()), "library.py", PYTHON.to_owned()),
        (node(), "library.mjs", NODE.to_owned()),
    ];
    let receivers =
        receivers.map(|(language, file, text)| Receiver::start(language, file, &text, &folder.0));
    receivers.iter().for_each(|receiver| receiver.visit(42));
    for receiver in &receivers {
        eventually("it has all", || receiver.lines().len() >= 4);
        let expected = ["opened 42", "online 42", "ended 42", "offline 42"];
        assert_eq!(receiver.lines(), expected, "{:?}", receiver.printed);
        // Of a stranger.
        let forged = "webhook-id: 1\r\nwebhook-timestamp: 1764304504\r\n\
                      webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n";
        let body = r#"{"type":"events","data":{"events":[{"type":"online","client":"1","n":1}]}}"#;
        let address = ([127, 0, 0, 1], receiver.port).into();
        let answer = http::ask(address, "POST /im", forged, Some(body));
        assert_eq!(answer.status, 401, "{:?}: {answer:?}", receiver.printed);
        assert_eq!(receiver.lines().len(), 4);
    }
}
