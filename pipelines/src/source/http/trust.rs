//! Certificates of HTTPS servers: what is wrong with one, and a client that takes all.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
};
use vehiclecount_core::publish::sink::tls;

/// What is wrong with a certificate.
pub fn words(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => "no authority that this system trusts vouches for it".to_owned(),
        E::Expired | E::ExpiredContext { .. } => "it has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "it is not valid yet; is this machine's clock right?".to_owned()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "it is for another host".to_owned()
        }
        E::Revoked => "it was revoked".to_owned(),
        E::BadSignature => "its signature is wrong".to_owned(),
        E::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "it is that of an authority, and none for a server".to_owned()
        }
        error => error.to_string(),
    }
}

/// A client that takes every certificate: for cameras with one of their own making.
///
/// # Errors
/// What the library says.
pub fn everything() -> Result<Arc<ClientConfig>, String> {
    let provider = tls::provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Everything(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate. That the server has its key is checked.
#[derive(Debug)]
struct Everything(Arc<CryptoProvider>);

impl ServerCertVerifier for Everything {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
