//! Certificates: where they come from, what is wrong with them, and how they are renewed.

use std::thread;

use imcore::{
    ErrorKind,
    server::{ServerConfig, TlsConfig},
};
use testkit::tls::Identity;

use crate::tls::{connect, shared, world};
use crate::world::{Backend, World};

#[test]
fn a_byte_order_mark_is_no_part_of_a_certificate() {
    let identity = Identity::new();
    let marked = |text: &str| format!("\u{feff}{text}");
    let tls = TlsConfig::from_pem(marked(&identity.cert), marked(&identity.key));
    let config = ServerConfig { tls: Some(tls), ..ServerConfig::default() };
    config.validate().unwrap();
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let world = world(|_| {});
    let first_end = world.nodes[0].vitals().stats().tls_expiry;
    assert!(first_end.is_some());
    let mut old: Vec<_> = (1..=4).map(|id| world.connect(id)).collect();
    world.im.join(1..=4, ["room"]).unwrap();
    let fresh = Identity::new();
    let node = &world.nodes[0];
    thread::scope(|scope| {
        let readers: Vec<_> = old
            .iter_mut()
            .map(|client| {
                scope.spawn(move || (0..300).for_each(|number| assert_eq!(client.json(), number)))
            })
            .collect();
        for number in 0..300 {
            if number == 100 {
                let tls = TlsConfig::from_pem(fresh.cert.as_str(), fresh.key.as_str());
                node.reload_tls(&tls).unwrap();
            }
            world.im.send(imcore::Message::to_channel("room"), &number).unwrap();
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    connect(&world, 5, fresh.trust()).silent();
    // What cannot be used changes nothing.
    let wrong = TlsConfig::from_pem(fresh.cert.as_str(), shared().0.key.as_str());
    let error = node.reload_tls(&wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("tls.key: "), "{error}");
    connect(&world, 6, fresh.trust()).silent();
    let plain = World::new(Backend::Memory, 1);
    assert_eq!(plain.nodes[0].reload_tls(&wrong).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn mistakes_name_the_setting_and_what_was_expected() {
    let (identity, other) = (&shared().0, Identity::new());
    let refusal = |cert: &str, key: &str| {
        let tls = Some(TlsConfig::from_pem(cert, key));
        let config = ServerConfig { tls, ..ServerConfig::default() };
        config.validate().unwrap_err().to_string()
    };
    let cases = [
        (refusal("", &identity.key), "tls.cert", "BEGIN CERTIFICATE"),
        (refusal(&identity.key, &identity.key), "tls.cert", "BEGIN CERTIFICATE"),
        (refusal(&identity.cert, ""), "tls.key", "BEGIN PRIVATE KEY"),
        (refusal(&identity.cert, &identity.cert), "tls.key", "BEGIN PRIVATE KEY"),
        (refusal(&identity.cert, &other.key), "tls.key", "first certificate"),
        (
            refusal(&identity.cert, &identity.key.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            "tls.key",
            "encrypted",
        ),
        (refusal(&identity.cert.replace("MII", "!!!"), &identity.key), "tls.cert", "PEM"),
    ];
    for (message, setting, expected) in cases {
        assert!(message.contains(setting) && message.contains(expected), "{message}");
    }
    let missing = TlsConfig::from_files("/no/such/cert.pem", "/no/such/key.pem");
    let config = ServerConfig { tls: Some(missing), ..ServerConfig::default() };
    let message = config.validate().unwrap_err().to_string();
    assert!(message.contains("tls.cert: /no/such/cert.pem cannot be read"), "{message}");
    // One file may hold both, and no key shows.
    let both = format!("{}{}", identity.key, identity.cert);
    let tls = TlsConfig::from_pem(both.as_str(), both.as_str());
    assert_eq!(format!("{tls:?}"), "TlsConfig { cert: (text), key: (text) }");
    ServerConfig { tls: Some(tls), ..ServerConfig::default() }.validate().unwrap();
}
