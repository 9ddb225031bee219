//! Webhooks over https: whose certificates are trusted, and what is said of others.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use testkit::tls::Identity;

use crate::webhooks::{Cluster, Target};

fn secure_target(identity: &Identity) -> Target {
    let certificate = CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    Target::speaking(move |socket| {
        StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), socket)
    })
}

/// A file with the authorities that a node is to trust. Dropped: gone.
struct Authorities(PathBuf);

impl Authorities {
    fn new(identity: &Identity) -> Authorities {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("imcore-webhook-ca-{}-{number}.pem", std::process::id());
        let file = Authorities(std::env::temp_dir().join(name));
        file.put(identity);
        file
    }

    fn put(&self, identity: &Identity) {
        fs::write(&self.0, &identity.cert).unwrap();
    }
}

impl Drop for Authorities {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_target_is_told_nothing_until_its_certificate_is_trusted() {
    let (own, stranger) = (Identity::new(), Identity::new());
    let target = secure_target(&own);
    let authorities = Authorities::new(&stranger);
    let port = target.address.port();
    let mut cluster = Cluster::start(&target);
    cluster.url = format!("https://localhost:{port}/hook?key=hidden");
    let ca = authorities.0.to_str().unwrap();
    let node = cluster.node("a", &["--webhook-allow", "127.0.0.1", "--webhook-ca", ca]);
    let _client = cluster.connect(42, &node);
    let why =
        "TLS: its certificate is from nobody who is trusted; webhook_ca can name who signed it";
    node.says(why);
    let status = cluster.command("status");
    assert!(status.contains(why), "{status}");
    assert!(target.posts.try_recv().is_err());
    assert!(!node.log().contains("hidden"), "{}", node.log());
    // As an operator puts it right.
    authorities.put(&own);
    node.signal("HUP");
    assert_eq!(target.next().words(), ["opened", "online"]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let own = Identity::named("hooks.example.com");
    let target = secure_target(&own);
    let authorities = Authorities::new(&own);
    let mut cluster = Cluster::start(&target);
    cluster.url = format!("https://localhost:{}/", target.address.port());
    let ca = authorities.0.to_str().unwrap();
    let node = cluster.node("a", &["--webhook-allow", "127.0.0.1", "--webhook-ca", ca]);
    let _client = cluster.connect(42, &node);
    node.says("TLS: invalid peer certificate: certificate not valid for name");
    assert!(target.posts.try_recv().is_err());
}
