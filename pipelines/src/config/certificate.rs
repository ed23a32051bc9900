//! The certificate with which the page and the HTTP interface speak TLS.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use vehiclecount_core::publish::sink::tls;

/// The files of a certificate, with those that lead to its authority, and of its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is wrong with a file, and the key of `[http]` that names it.
pub type Wrong = (&'static str, String);

impl Certificate {
    /// Reads both. What is wrong is told without a word of them.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, a key that is another's.
    pub fn read(&self) -> Result<CertifiedKey, Wrong> {
        let none = |file: &Path| format!("there is none in PEM form in {}", file.display());
        let text = read("certificate", &self.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| ("certificate", none(&self.certificate)))?;
        let key = PrivateKeyDer::from_pem_slice(&read("key", &self.key)?);
        let key = key.map_err(|_| ("key", none(&self.key)))?;
        let provider = tls::provider();
        let key = provider.key_provider.load_private_key(key).map_err(|_| {
            ("key", format!("the key in {} is of no kind that is known", self.key.display()))
        })?;
        let both = CertifiedKey::new(chain, key);
        let matched = both.keys_match();
        matched.map_err(|_| ("key", "the key is not that of the certificate".to_owned()))?;
        Ok(both)
    }
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, Wrong> {
    std::fs::read(file).map_err(|error| (key, format!("{}: {error}", file.display())))
}
