//! An HTTP server that takes reports, many in a request, signed as *Standard Webhooks* has it:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ureq::Agent;
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Destination, LocationError, Log, Report, Sent, Sink, SinkError, tls};
use crate::report::unix_nanoseconds;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reports of one request.
const MOST: usize = 256;

/// The form of an address.
const FORM: &str = "the form is https://HOST:PORT/PATH";

/// An HTTP server that takes reports. `Debug` and `Display` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The whole address, without a login. It may hold a secret anywhere behind the host.
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// What requests are signed with.
    pub secret: Option<String>,
    /// Certificates that are trusted instead of the system's, in PEM form.
    pub authorities: Option<Vec<u8>>,
}

impl Webhook {
    /// The server at `url`, in which no login stands.
    ///
    /// # Errors
    /// It is no such address. The error never holds a part of it.
    pub fn new(url: &str) -> Result<Self, String> {
        let parsed = url.parse::<Uri>().map_err(|_| FORM)?;
        let scheme = parsed.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        let (Some(scheme), Some(host)) = (scheme, parsed.authority()) else {
            return Err(FORM.to_owned());
        };
        if host.as_str().contains('@') || host.host().is_empty() {
            return Err(FORM.to_owned());
        }
        let origin = format!("{scheme}://{host}");
        let url = url.split('#').next().unwrap_or(url).to_owned();
        Ok(Self { url, origin, login: None, secret: None, authorities: None })
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.origin)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server that is sent to.
pub struct WebhookConnection {
    agent: Agent,
    webhook: Webhook,
    /// Most reports of a request: fewer where the server takes no request of that size.
    most: usize,
}

impl WebhookConnection {
    /// A client of the server. Nothing is sent yet.
    ///
    /// # Errors
    /// There is no authority whose certificates are trusted.
    pub fn open(webhook: &Webhook) -> Result<Self, SinkError> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // Reports and signature are for this server alone.
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
        Ok(Self { agent, webhook: webhook.clone(), most: MOST })
    }

    /// Sends reports, each an object of JSON, in one request: `{"records": [...]}`. `id` makes the
    /// request's id of their number: the same reports have the same one when they are sent again.
    /// Returns how many of them, from the first one on, the server has taken; none where it is to
    /// be asked again with fewer.
    ///
    /// # Errors
    /// There is no answer, or one that is no success.
    pub fn send(
        &mut self,
        reports: &[&str],
        id: impl Fn(usize) -> String,
    ) -> Result<usize, SinkError> {
        let reports = &reports[..reports.len().min(self.most)];
        if reports.is_empty() {
            return Ok(0);
        }
        let body = format!("{{\"records\":[{}]}}", reports.join(","));
        let status = self.post(&id(reports.len()), &body)?;
        if status.is_success() {
            self.most = self.most.saturating_mul(2).min(MOST);
            return Ok(reports.len());
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE && reports.len() > 1 {
            self.most = reports.len() / 2;
            return Ok(0);
        }
        Err(SinkError::temporary(format!("it answers {status}")))
    }

    fn post(&self, id: &str, body: &str) -> Result<StatusCode, SinkError> {
        let time = (unix_nanoseconds(SystemTime::now()) / 1_000_000_000).to_string();
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

/// `http://...` or `https://...`, where a login may stand before the host, and `#secret=SECRET`
/// signs.
pub fn from_url(url: &str) -> Result<Destination, LocationError> {
    let webhook = parse(url).map_err(|reason| {
        // Whatever follows the host may be a secret.
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        LocationError::Malformed { location: format!("{scheme}://{host}/***"), reason }
    })?;
    let run = unix_nanoseconds(SystemTime::now());
    let place = webhook.to_string();
    // Numbers go on when the sink is opened again.
    let taken = Arc::new(AtomicU64::new(0));
    let open = move |_: &Log| {
        let connection = WebhookConnection::open(&webhook)?;
        let sink = WebhookSink { connection, run: format!("{run:x}"), taken: taken.clone() };
        Ok(Box::new(sink) as Box<dyn Sink>)
    };
    Ok(Destination { key: url.to_owned(), place, open: Box::new(open) })
}

fn parse(url: &str) -> Result<Webhook, String> {
    let (url, fragment) = url.split_once('#').map_or((url, None), |(url, rest)| (url, Some(rest)));
    let decode = |text: &str| {
        super::decode(text).ok_or("each % is followed by two hexadecimal digits, and makes UTF-8")
    };
    let (scheme, rest) = url.split_once("://").ok_or(FORM)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (login, url) = match rest[..end].rsplit_once('@') {
        Some((login, host)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let login = Some((decode(user)?, decode(password)?));
            (login, format!("{scheme}://{host}{}", &rest[end..]))
        }
        None => (None, url.to_owned()),
    };
    let secret = match fragment.map(|fragment| fragment.strip_prefix("secret=")) {
        Some(Some(secret)) if !secret.is_empty() => Some(decode(secret)?),
        None => None,
        Some(_) => return Err("what follows # is secret=SECRET".to_owned()),
    };
    Ok(Webhook { login, secret, ..Webhook::new(&url)? })
}

/// Reports as the records of requests.
struct WebhookSink {
    connection: WebhookConnection,
    /// Tells requests from those of other runs.
    run: String,
    /// Reports that the server has taken.
    taken: Arc<AtomicU64>,
}

impl Sink for WebhookSink {
    fn send(&mut self, reports: &[Report]) -> Result<Sent, SinkError> {
        let records: Vec<_> = reports.iter().map(|report| report.json.as_str()).collect();
        let first = self.taken.load(Ordering::Relaxed) + 1;
        let delivered =
            self.connection.send(&records, |count| format!("{}-{first}.{count}", self.run))?;
        self.taken.fetch_add(delivered as u64, Ordering::Relaxed);
        Ok(Sent { delivered })
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

    #[test]
    fn address_holds_login_and_secret_and_shows_neither() {
        let webhook =
            parse("https://me:p%40ss@hooks.example:8443/a/s3cret?b=c#secret=whsec_a%2Fb").unwrap();
        assert_eq!(webhook.url, "https://hooks.example:8443/a/s3cret?b=c");
        assert_eq!(webhook.login, Some(("me".to_owned(), "p@ss".to_owned())));
        assert_eq!(webhook.secret.as_deref(), Some("whsec_a/b"));
        assert_eq!(webhook.to_string(), "https://hooks.example:8443/***");
        assert_eq!(format!("{webhook:?}"), webhook.to_string());
        for wrong in [
            "https://",
            "http:///s3cret",
            "https://h/s3cret#key=a",
            "https://h/#",
            "http://a%zz@h/",
        ] {
            let Err(error) = from_url(wrong) else { panic!("{wrong} is taken") };
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
