//! Where a broker is, and under which topic messages go to it.

use crate::publish::sink::address::{Broker, BrokerAddress};

/// A broker, a login and a topic: `mqtt://USER:PASSWORD@HOST:PORT/TOPIC`, or `mqtts://` for TLS.
/// `Display` and `Debug` show no login.
pub type MqttAddress = BrokerAddress<Mqtt>;

/// MQTT.
#[derive(Clone, PartialEq, Eq)]
pub enum Mqtt {}

/// The form of an address.
const FORM: &str = "the form is mqtt://HOST:PORT/TOPIC, or mqtts:// for TLS";

impl Broker for Mqtt {
    const SCHEMES: [(&'static str, u16); 2] = [("mqtt", 1883), ("mqtts", 8883)];

    const FORM: &'static str = FORM;

    fn check(address: &MqttAddress) -> Result<(), String> {
        if address.hosts.len() != 1 {
            return Err(format!("there is more than one host: {FORM}"));
        }
        let topic = address.topic();
        if topic.is_empty() || topic.contains(['+', '#']) || topic.len() > 1024 {
            return Err(format!("the topic is empty, too long, or holds + or #: {FORM}"));
        }
        Ok(())
    }
}

impl MqttAddress {
    /// Host and port.
    pub fn broker(&self) -> (&str, u16) {
        let (host, port) = &self.hosts[0];
        (host, *port)
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
            "mqtt://me:s3cret@one,two/t",
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
