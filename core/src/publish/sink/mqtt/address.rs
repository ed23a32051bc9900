//! Where a broker is, and under which topic messages go to it.

use std::fmt;
use std::str::FromStr;

/// A broker, a login and a topic: `mqtt://USER:PASSWORD@HOST:PORT/TOPIC`, or `mqtts://` for TLS.
/// `Display` and `Debug` show no login.
#[derive(Clone, PartialEq, Eq)]
pub struct MqttAddress {
    is_secure: bool,
    host: String,
    port: u16,
    login: Option<(String, String)>,
    topic: String,
}

/// The form of an address.
const FORM: &str = "the form is mqtt://HOST:PORT/TOPIC, or mqtts:// for TLS";

impl MqttAddress {
    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port.
    pub fn broker(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// User name and password.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The topic that those of all messages begin with.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The same with another login.
    pub fn with_login(self, user: String, password: String) -> Self {
        Self { login: Some((user, password)), ..self }
    }
}

impl FromStr for MqttAddress {
    type Err = String;

    /// Reads an address. The error never holds a part of it.
    fn from_str(url: &str) -> Result<Self, String> {
        let (is_secure, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => return Err(FORM.to_owned()),
        };
        if rest.contains(['?', '#']) {
            let remedy = "; ? # in a user name, password or topic are written %3F %23";
            return Err(FORM.to_owned() + remedy);
        }
        let (authority, topic) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                let slash = "; / in a user name or password is written %2F";
                (host, port.ok_or_else(|| format!("the port is none: {FORM}{slash}"))?)
            }
            _ => (place, if is_secure { 8883 } else { 1883 }),
        };
        let is_wrong = |letter: char| letter.is_whitespace() || "[]@%:".contains(letter);
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            _ if host.is_empty() || host.contains(is_wrong) => {
                return Err(format!("the host is none: {FORM}"));
            }
            _ => host,
        };
        let decode = |text: &str| {
            super::super::decode(text)
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
        if topic.is_empty() || topic.contains(['+', '#']) || topic.len() > 1024 {
            return Err(format!("the topic is empty, too long, or holds + or #: {FORM}"));
        }
        Ok(Self { is_secure, host: host.to_owned(), port, login, topic })
    }
}

impl fmt::Display for MqttAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        let login = if self.login.is_some() { "***@" } else { "" };
        let (left, right) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let Self { host, port, topic, .. } = self;
        write!(f, "{scheme}://{login}{left}{host}{right}:{port}/{topic}")
    }
}

impl fmt::Debug for MqttAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `name` as one level of a topic: what separates levels, is a wildcard or a control character is
/// written as `%` and two hexadecimal digits.
pub fn level(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_control() || "/+#%".contains(letter) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                level.push_str(&format!("%{byte:02X}"));
            }
        } else {
            level.push(letter);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_and_shown_without_its_login() {
        let read = |url: &str| url.parse::<MqttAddress>().unwrap_or_else(|e| panic!("{url}: {e}"));
        let full = read("mqtts://me:s3cret%2F%40x@broker.example:8884/site/a%20b/");
        assert_eq!(full.broker(), ("broker.example", 8884));
        assert_eq!((full.login(), full.topic()), (Some(("me", "s3cret/@x")), "site/a b"));
        assert_eq!(format!("{full} {full:?}").matches("s3cret").count(), 0);
        assert_eq!(full.to_string(), "mqtts://***@broker.example:8884/site/a b");
        // What is nearest to the host separates it.
        assert_eq!(read("mqtt://me:a@b@host/t").login(), Some(("me", "a@b")));
        for (url, shown) in [
            ("mqtt://10.0.0.1/t", "mqtt://10.0.0.1:1883/t"),
            ("mqtts://host/t", "mqtts://host:8883/t"),
            ("mqtt://[::1]:1884/t", "mqtt://[::1]:1884/t"),
            ("mqtt://[::1]/t", "mqtt://[::1]:1883/t"),
        ] {
            assert_eq!(read(url).to_string(), shown);
        }
        assert_eq!(read("mqtt://[::1]/t").broker(), ("::1", 1883));
    }

    #[test]
    fn wrong_address_is_refused_without_being_repeated() {
        for url in [
            "http://me:s3cret@host/t",
            "mqtt://me:s3cret@/t",
            "mqtt://me:s3cret@host:0/t",
            "mqtt://me:s3cret@host:port/t",
            "mqtt://me:s3c/ret@host/t",
            "mqtt://me:s3c?ret@host/t",
            "mqtt://me:s3cret@host",
            "mqtt://me:s3cret@host/",
            "mqtt://me:s3cret@host/#",
            "mqtt://me:s3cret@host/a+b",
            "mqtt://me:s3cret%@host/t",
            "mqtt://me:s3cret@ho st/t",
            "mqtt://me:s3cret@::1/t",
            "mqtt:s3cret",
        ] {
            let error = url.parse::<MqttAddress>().unwrap_err();
            assert!(!error.contains("s3c") && error.len() > 20, "{url}: {error}");
        }
    }

    #[test]
    fn any_camera_is_one_level_of_a_topic() {
        assert_eq!(level("north gate"), "north gate");
        assert_eq!(level("rtsp://a/#+%\0ü"), "rtsp:%2F%2Fa%2F%23%2B%25%00ü");
    }
}
