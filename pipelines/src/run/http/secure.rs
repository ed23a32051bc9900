//! TLS of the page and the HTTP interface. Certificate and key are read anew when they change.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use parking_lot::{Mutex, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use vehiclecount_core::publish::sink::tls;

use crate::config::Certificate;
use crate::run::log;

/// The first byte of a connection that speaks TLS: a record of the handshake.
pub const HANDSHAKE: u8 = 22;

/// By what a file is seen to have changed: its inode, size and time.
type Stamp = Option<(u64, u64, SystemTime)>;

/// The certificate that is shown, and the files that it comes from.
#[derive(Debug)]
pub struct Shown {
    files: Certificate,
    current: RwLock<Arc<CertifiedKey>>,
    stamps: Mutex<[Stamp; 2]>,
}

impl Shown {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(files: &Certificate) -> Result<Arc<Self>> {
        let stamps = stamps(files);
        let current = files.read().map_err(|(key, what)| anyhow!("[http] {key}: {what}"))?;
        let (current, stamps) = (RwLock::new(Arc::new(current)), Mutex::new(stamps));
        Ok(Arc::new(Self { files: files.clone(), current, stamps }))
    }

    /// Reads the files anew where they have changed. Where they are wrong, the certificate stays
    /// that was there.
    pub fn renew(&self) {
        let now = stamps(&self.files);
        if std::mem::replace(&mut *self.stamps.lock(), now) == now {
            return;
        }
        match self.files.read() {
            Ok(new) => {
                *self.current.write() = Arc::new(new);
                log("the certificate is read");
            }
            // One file may be written after the other.
            Err((key, what)) => log(&format!("the certificate is not taken: [http] {key}: {what}")),
        }
    }

    /// What speaks TLS.
    ///
    /// # Errors
    /// What the library says.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .context("there are versions of TLS")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

fn stamps(files: &Certificate) -> [Stamp; 2] {
    [&files.certificate, &files.key].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
    })
}
