//! An HTTP server that takes records, many in a request, signed as *Standard Webhooks* has it:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use vehiclecount_core::publish::SinkError;
use vehiclecount_core::publish::sink::tls;

use super::record::Record;
use super::target::Target;
use crate::config::Webhook;
use crate::run::board::unix_time;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server that is sent to.
pub struct WebhookTarget {
    agent: Agent,
    webhook: Webhook,
    /// Most records of a request: fewer where the server takes no request of that size.
    most: usize,
}

impl WebhookTarget {
    /// A client of the server. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no authority whose certificates are trusted.
    pub fn open(webhook: &Webhook) -> Result<Self, SinkError> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // Records and signature are for this server alone.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("vehicle-count/", env!("CARGO_PKG_VERSION")));
        if webhook.url.starts_with("https") {
            let authorities = tls::authorities(webhook.authorities.as_deref());
            let authorities = authorities.map_err(SinkError::temporary)?;
            let certificates =
                authorities.iter().map(|authority| Certificate::from_der(authority).to_owned());
            let roots = RootCerts::Specific(Arc::new(certificates.collect()));
            let tls = TlsConfig::builder()
                .unversioned_rustls_crypto_provider(tls::provider())
                .root_certs(roots);
            config = config.tls_config(tls.build());
        }
        let agent = config.build().new_agent();
        Ok(Self { agent, webhook: webhook.clone(), most: usize::MAX })
    }

    fn post(&self, id: &str, body: &str) -> Result<StatusCode, SinkError> {
        let time = (unix_time() as u64).to_string();
        let mut request = self
            .agent
            .post(&self.webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &time);
        if let Some(secret) = &self.webhook.secret {
            request = request.header("webhook-signature", signature(secret, id, &time, body));
        }
        if let Some((user, password)) = &self.webhook.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {login}"));
        }
        request.send(body).map(|answer| answer.status()).map_err(|error| words(&error))
    }
}

impl Target for WebhookTarget {
    fn send(&mut self, records: &[Record]) -> Result<usize, SinkError> {
        let records = &records[..records.len().min(self.most)];
        let Some(first) = records.first() else { return Ok(0) };
        let (mut body, mut separator) = ("{\"records\":[".to_owned(), "");
        for record in records {
            body.push_str(separator);
            body.push_str(&record.json);
            separator = ",";
        }
        body.push_str("]}");
        // The same records have the same id when they are sent again.
        let status = self.post(&format!("{}.{}", first.id, records.len()), &body)?;
        if status.is_success() {
            self.most = self.most.saturating_mul(2);
            return Ok(records.len());
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE && records.len() > 1 {
            self.most = records.len() / 2;
            return Ok(0);
        }
        Err(SinkError::temporary(format!("it answers {status}")))
    }
}

/// The signature of a request: HMAC-SHA256 of its id, time and body. A secret that begins with
/// `whsec_` is a key in Base64, any other the key itself.
fn signature(secret: &str, id: &str, time: &str, body: &str) -> String {
    let decoded = secret.strip_prefix("whsec_").and_then(|key| BASE64_STANDARD.decode(key).ok());
    let key = decoded.unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length is taken");
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// Why there is no answer, in words without the address.
fn words(error: &ureq::Error) -> SinkError {
    use ureq::Error;
    SinkError::temporary(match error {
        Error::Io(error) if error.to_string().contains("peer certificate") => {
            tls::words(&error.to_string())
        }
        Error::Io(error) => error.to_string(),
        Error::Timeout(_) => format!("it does not answer within {} s", TIMEOUT.as_secs()),
        Error::HostNotFound => "its name leads to no address".to_owned(),
        Error::ConnectionFailed => "it is not connected to".to_owned(),
        Error::Rustls(error) => tls::words(&error.to_string()),
        Error::Tls(error) => tls::words(error),
        Error::Protocol(error) => format!("it does not speak HTTP: {error}"),
        _ => "the request fails".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_standard() {
        // The example that the libraries of Standard Webhooks are tested with.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, time) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature(secret, id, time, r#"{"test": 2432232314}"#), expected);
        // printf 'a.1.{}' | openssl dgst -sha256 -hmac s3cret -binary | base64
        let plain = signature("s3cret", "a", "1", "{}");
        assert_eq!(plain, "v1,iAoDJ/F6FIYS42HPGid965s+NU267NAGCrLWlzjnHU4=");
    }
}
