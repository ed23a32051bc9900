//! Whom a sink trusts when it connects with TLS.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use rumqttc::tokio_rustls::rustls::pki_types::CertificateDer;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub use super::tls_error as words;

/// The certificates of the authorities that are trusted, as DER: those in `pem`, else those of the
/// system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
///
/// # Errors
/// There is none, or `pem` holds something else.
pub fn authorities(pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(pem) = pem else {
        // One file that cannot be read among many is no reason to trust none.
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let remedy = "install ca-certificates, or name a file of certificates";
            return Err(format!("this system knows no certificate authority: {remedy}"));
        }
        return Ok(found.certs);
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("there is no certificate in PEM form in it".to_owned()),
    }
}

/// What encrypts.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that trusts [`authorities`].
///
/// # Errors
/// As there.
pub fn client(pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities(pem)? {
        // The system's store may hold one of an old form.
        if let (Err(error), true) = (roots.add(certificate), pem.is_some()) {
            return Err(error.to_string());
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
