//! Addresses of brokers: `SCHEME://USER:PASSWORD@HOST:PORT/TOPIC`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use super::{Destination, LocationError, Log, Sink, SinkError};

/// A kind of broker, as far as its addresses differ from those of others.
pub trait Broker: Send + Sized + 'static {
    /// The schemes without and with TLS, each with the port of hosts that name none.
    const SCHEMES: [(&'static str, u16); 2];

    /// The form of an address.
    const FORM: &'static str;

    /// Checks hosts and topic. The error never holds a part of them.
    fn check(address: &BrokerAddress<Self>) -> Result<(), String>;
}

/// Hosts, a login and a topic. `Display` and `Debug` show no login.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress<B> {
    is_secure: bool,
    /// Hosts and ports; one at least.
    pub(super) hosts: Vec<(String, u16)>,
    /// User name and password.
    login: Option<(String, String)>,
    /// What follows the first `/`, decoded, without those at its end.
    topic: String,
    broker: PhantomData<B>,
}

impl<B> BrokerAddress<B> {
    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// User name and password.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The topic, or what those of all messages begin with.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The same with another login.
    pub fn with_login(mut self, user: String, password: String) -> Self {
        self.login = Some((user, password));
        self
    }

    /// Hosts and ports, separated by commas.
    pub(super) fn places(&self) -> String {
        let places = self.hosts.iter().map(|(host, port)| {
            let (left, right) = if host.contains(':') { ("[", "]") } else { ("", "") };
            format!("{left}{host}{right}:{port}")
        });
        places.collect::<Vec<_>>().join(",")
    }
}

impl<B: Broker> FromStr for BrokerAddress<B> {
    type Err = String;

    /// Reads an address. The error never holds a part of it.
    fn from_str(url: &str) -> Result<Self, String> {
        let form = B::FORM;
        let [(plain, port), (secure, secure_port)] = B::SCHEMES;
        let (is_secure, rest, port) = match url.split_once("://") {
            Some((scheme, rest)) if scheme == plain => (false, rest, port),
            Some((scheme, rest)) if scheme == secure => (true, rest, secure_port),
            _ => return Err(form.to_owned()),
        };
        if rest.contains(['?', '#']) {
            let remedy = "; ? # in a user name, password or topic are written %3F %23";
            return Err(form.to_owned() + remedy);
        }
        let (authority, topic) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, places) = match authority.rsplit_once('@') {
            Some((login, places)) => (Some(login), places),
            None => (None, authority),
        };
        let hosts = places.split(',').map(|place| host(place, port, form));
        let hosts = hosts.collect::<Result<_, _>>()?;
        let decode = |text: &str| {
            super::decode(text)
                .ok_or("each % is followed by two hexadecimal digits, and makes UTF-8")
        };
        let login = match login {
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                Some((decode(user)?, decode(password)?))
            }
            None => None,
        };
        let topic = decode(topic.trim_end_matches('/'))?;
        let address = Self { is_secure, hosts, login, topic, broker: PhantomData };
        B::check(&address)?;
        Ok(address)
    }
}

impl<B: Broker> fmt::Display for BrokerAddress<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = B::SCHEMES[usize::from(self.is_secure)];
        let login = if self.login.is_some() { "***@" } else { "" };
        write!(f, "{scheme}://{login}{}/{}", self.places(), self.topic)
    }
}

impl<B: Broker> fmt::Debug for BrokerAddress<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The destination at `url`, to which `open` connects.
pub(super) fn destination<B: Broker>(
    url: &str,
    open: impl Fn(&BrokerAddress<B>) -> Result<Box<dyn Sink>, SinkError> + Send + 'static,
) -> Result<Destination, LocationError> {
    let address: BrokerAddress<B> = url
        .parse()
        .map_err(|reason| LocationError::Malformed { location: super::masked(url), reason })?;
    let place = address.to_string();
    let open = move |_: &Log| open(&address);
    // A broker that is addressed by two logins has two connections.
    Ok(Destination { key: url.to_owned(), place, open: Box::new(open) })
}

fn host(place: &str, port: u16, form: &str) -> Result<(String, u16), String> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().ok().filter(|port| *port > 0);
            let slash = "; / in a user name or password is written %2F";
            (host, port.ok_or_else(|| format!("the port is none: {form}{slash}"))?)
        }
        _ => (place, port),
    };
    let is_wrong = |letter: char| letter.is_whitespace() || "[]@%:".contains(letter);
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => Ok((host.to_owned(), port)),
        _ if host.is_empty() || host.contains(is_wrong) => Err(format!("the host is none: {form}")),
        _ => Ok((host.to_owned(), port)),
    }
}
