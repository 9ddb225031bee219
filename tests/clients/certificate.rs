//! The certificate that secure nodes show and clients trust: one for the whole run, in files.

use std::{fs, path::PathBuf, sync::OnceLock};

use testkit::tls::Identity;

use crate::driver::folder;

pub(crate) struct Certificate {
    pub(crate) identity: Identity,
    folder: PathBuf,
}

/// Made when it is first asked for.
pub(crate) fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Certificate { identity: Identity::new(), folder: folder("certificate") };
        fs::create_dir_all(&made.folder).unwrap();
        fs::write(made.cert_file(), &made.identity.cert).unwrap();
        fs::write(made.key_file(), &made.identity.key).unwrap();
        made
    })
}

impl Certificate {
    pub(crate) fn cert_file(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}
