//! Where a Kafka cluster is, and to which topic records go.

use std::fmt;
use std::str::FromStr;

use crate::publish::sink::address::BrokerAddress;

/// Brokers of a cluster, a login and a topic: `kafka://USER:PASSWORD@HOST:PORT,HOST:PORT/TOPIC`,
/// or `kafkas://` for TLS. `Display` and `Debug` show no login.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaAddress {
    is_secure: bool,
    address: BrokerAddress,
}

/// The form of an address.
const FORM: &str = "the form is kafka://HOST:PORT/TOPIC, or kafkas:// for TLS; further brokers of \
                    the cluster follow the first after commas";

/// Letters of a topic at most.
const TOPIC: usize = 249;

impl KafkaAddress {
    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Hosts and ports of brokers, separated by commas.
    pub fn brokers(&self) -> String {
        self.address.places()
    }

    /// User name and password.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.address.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.address.topic
    }

    /// The same with another login.
    pub fn with_login(mut self, user: String, password: String) -> Self {
        self.address.login = Some((user, password));
        self
    }
}

impl FromStr for KafkaAddress {
    type Err = String;

    /// Reads an address. The error never holds a part of it.
    fn from_str(url: &str) -> Result<Self, String> {
        let (is_secure, rest) = match url.split_once("://") {
            Some(("kafka", rest)) => (false, rest),
            Some(("kafkas", rest)) => (true, rest),
            _ => return Err(FORM.to_owned()),
        };
        let address = BrokerAddress::parse(rest, 9092, FORM)?;
        let topic = &address.topic;
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if !(1..=TOPIC).contains(&topic.len())
            || !topic.chars().all(is_legal)
            || matches!(topic.as_str(), "." | "..")
        {
            return Err(format!("a topic has 1 to {TOPIC} of a-z A-Z 0-9 . _ -: {FORM}"));
        }
        Ok(Self { is_secure, address })
    }
}

impl fmt::Display for KafkaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "kafkas" } else { "kafka" };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl fmt::Debug for KafkaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_cluster_is_read_and_shown_without_its_login() {
        let read = |url: &str| url.parse::<KafkaAddress>().unwrap_or_else(|e| panic!("{url}: {e}"));
        let full = read("kafkas://me:s3cret%2F%40x@one.example:9093,[::1]:9094,two/site.counts_1");
        assert_eq!(full.brokers(), "one.example:9093,[::1]:9094,two:9092");
        assert_eq!(full.login(), Some(("me", "s3cret/@x")));
        assert_eq!((full.topic(), full.is_secure()), ("site.counts_1", true));
        assert_eq!(format!("{full} {full:?}").matches("s3cret").count(), 0);
        assert_eq!(
            full.to_string(),
            "kafkas://***@one.example:9093,[::1]:9094,two:9092/site.counts_1"
        );
        let other = read("kafka://host/t").with_login("me".to_owned(), "s3cret".to_owned());
        assert_eq!(other.to_string(), "kafka://***@host:9092/t");
    }

    #[test]
    fn wrong_address_of_a_cluster_is_refused_without_being_repeated() {
        let long = format!("kafka://me:s3cret@host/{}", "a".repeat(250));
        for url in [
            "http://me:s3cret@host/t",
            "kafka://me:s3cret@/t",
            "kafka://me:s3cret@host,/t",
            "kafka://me:s3cret@host:0/t",
            "kafka://me:s3cret@host:9092,other:port/t",
            "kafka://me:s3c/ret@host/t",
            "kafka://me:s3c?ret@host/t",
            "kafka://me:s3cret@host",
            "kafka://me:s3cret@host/",
            "kafka://me:s3cret@host/..",
            "kafka://me:s3cret@host/a/b",
            "kafka://me:s3cret@host/a%20b",
            "kafka://me:s3cret@ho st/t",
            "kafka:s3cret",
            &long,
        ] {
            let error = url.parse::<KafkaAddress>().unwrap_err();
            assert!(!error.contains("s3c") && error.len() > 20, "{url}: {error}");
        }
    }
}
