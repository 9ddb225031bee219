//! TLS as an operator meets it: two flags, mistakes, a renewed certificate and SIGHUP.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::HandshakeKind;
use testkit::{
    Imserver, eventually, outcome,
    tls::{Identity, Stream, forget, secure},
    ws::Client,
};

/// A folder with a certificate and its key, as tools that renew them leave it.
struct Certificates(PathBuf);

impl Certificates {
    fn new(name: &str) -> Certificates {
        let folder = format!("imcore-tls-{name}-{}", std::process::id());
        let folder = Certificates(std::env::temp_dir().join(folder));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn put(&self, identity: &Identity) {
        fs::write(self.cert(), &identity.cert).unwrap();
        fs::write(self.key(), &identity.key).unwrap();
    }

    fn cert(&self) -> String {
        self.path("fullchain.pem")
    }

    fn key(&self) -> String {
        self.path("privkey.pem")
    }

    fn path(&self, file: &str) -> String {
        Path::new(&self.0).join(file).display().to_string()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_renewed_certificate_is_taken_over_by_sighup() {
    let (files, first, second) = (Certificates::new("renew"), Identity::new(), Identity::new());
    files.put(&first);
    let mut node = Imserver::start(&[
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        &files.cert(),
        "--tls-key",
        &files.key(),
    ]);
    node.says("clients connect to wss://127.0.0.1:");
    node.says("TLS; the certificate ends in ");
    let address = node.address();
    let ready = |identity: &Identity| {
        let trust = Arc::new(identity.trust());
        forget(address);
        secure(address, &trust);
        eventually("ready", || Client::connect(address, "ws://x/ws?token=no").err() == Some(401));
        let mut again = Stream::connect(address).unwrap();
        std::io::Write::write_all(&mut again, b"GET").unwrap();
        again.session().handshake_kind()
    };
    assert_eq!(ready(&first), Some(HandshakeKind::Resumed));
    // Half of a renewal is not used, and the node says why.
    fs::write(files.key(), &second.key).unwrap();
    node.signal("HUP");
    node.says("the settings stay as they are");
    node.says("(--tls-key was given)");
    assert_eq!(ready(&first), Some(HandshakeKind::Resumed));
    files.put(&second);
    node.signal("HUP");
    node.says("settings read again");
    ready(&second);
    node.signal("TERM");
    assert_eq!(node.ends().code(), Some(0));
    forget(address);
}

#[test]
fn mistakes_end_with_code_2_and_say_what_was_expected() {
    let files = Certificates::new("mistakes");
    files.put(&Identity::new());
    let (cert, key) = (files.cert(), files.key());
    let cases: [(&[&str], &str); 4] = [
        (&["--tls-cert", &cert], "--tls-cert needs --tls-key beside it"),
        (&["--tls-key", &key], "--tls-key needs --tls-cert beside it"),
        (&["--tls-cert", "/no/such", "--tls-key", &key], "/no/such cannot be read"),
        (&["--tls-cert", &cert, "--tls-key", &cert], "BEGIN PRIVATE KEY"),
    ];
    for (args, expected) in cases {
        let (code, message) = outcome(&[&["--listen", "127.0.0.1:0"], args].concat());
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(message.contains(expected), "{args:?}: {message}");
        assert!(message.contains("--tls-"), "{args:?}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_and_a_secret_that_everybody_would_try_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let outcome = |args: &[&str]| {
        let output = std::process::Command::new(testkit::imserver::program()).args(args).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let folder = Certificates::new("modes");
    folder.put(&Identity::new());
    let (cert, key) = (folder.cert(), folder.key());
    let args = ["--check", "--tls-cert", &cert, "--tls-key", &key];
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(folder.key(), fs::Permissions::from_mode(mode)).unwrap();
        let output = outcome(&args);
        assert_eq!(
            output.contains("every user of this machine can read"),
            warned,
            "{mode:o} {output}"
        );
    }
    for (key, warned) in [
        ("aaaaaaaaaaaaaaaa", true),
        ("password12345678", true),
        ("5f4e3d2c1b0a69788796a5b4c3d2e1f0", false),
    ] {
        let output = outcome(&["--check", "--api", "127.0.0.1:7001", "--api-key", key]);
        assert_eq!(output.contains("easy to guess"), warned, "{output}");
        assert!(!output.contains(key));
    }
    fs::set_permissions(folder.key(), fs::Permissions::from_mode(0o644)).unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let node = Imserver::start(&listen);
    node.says("every user of this machine can read");
}
