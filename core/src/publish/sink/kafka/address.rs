//! Where a Kafka cluster is, and to which topic records go.

use crate::publish::sink::address::{Broker, BrokerAddress};

/// Brokers of a cluster, a login and a topic: `kafka://USER:PASSWORD@HOST:PORT,HOST:PORT/TOPIC`,
/// or `kafkas://` for TLS. `Display` and `Debug` show no login.
pub type KafkaAddress = BrokerAddress<Kafka>;

/// Apache Kafka.
#[derive(Clone, PartialEq, Eq)]
pub enum Kafka {}

/// The form of an address.
const FORM: &str = "the form is kafka://HOST:PORT/TOPIC, or kafkas:// for TLS; further brokers of \
                    the cluster follow the first after commas";

/// Letters of a topic at most.
const TOPIC: usize = 249;

impl Broker for Kafka {
    const SCHEMES: [(&'static str, u16); 2] = [("kafka", 9092), ("kafkas", 9092)];

    const FORM: &'static str = FORM;

    fn check(address: &KafkaAddress) -> Result<(), String> {
        let topic = address.topic();
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if !(1..=TOPIC).contains(&topic.len())
            || !topic.chars().all(is_legal)
            || matches!(topic, "." | "..")
        {
            return Err(format!("a topic has 1 to {TOPIC} of a-z A-Z 0-9 . _ -: {FORM}"));
        }
        Ok(())
    }
}

impl KafkaAddress {
    /// Hosts and ports of brokers, separated by commas.
    pub fn brokers(&self) -> String {
        self.places()
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
