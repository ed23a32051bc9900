//! What addresses of brokers have in common: `USER:PASSWORD@HOST:PORT/TOPIC`.

use std::fmt;

/// What follows `SCHEME://`.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Hosts and ports; one at least.
    pub hosts: Vec<(String, u16)>,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// What follows the first `/`, decoded, without those at its end.
    pub topic: String,
}

impl BrokerAddress {
    /// Reads an address. Hosts without a port have `port`. The error, which ends with the `form`
    /// that an address has, never holds a part of it.
    pub fn parse(rest: &str, port: u16, form: &str) -> Result<Self, String> {
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
        Ok(Self { hosts, login, topic: decode(topic.trim_end_matches('/'))? })
    }

    /// Hosts and ports, separated by commas.
    pub fn places(&self) -> String {
        let places = self.hosts.iter().map(|(host, port)| {
            let (left, right) = if host.contains(':') { ("[", "]") } else { ("", "") };
            format!("{left}{host}{right}:{port}")
        });
        places.collect::<Vec<_>>().join(",")
    }
}

/// Shows no login.
impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() { "***@" } else { "" };
        write!(f, "{login}{}/{}", self.places(), self.topic)
    }
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
