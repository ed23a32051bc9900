//! Where records go: from the table of a sink to what is made of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use vehiclecount_core::publish::sink::Rotation;
use vehiclecount_core::publish::sink::kafka::KafkaAddress;
use vehiclecount_core::publish::sink::mqtt::MqttAddress;
use vehiclecount_core::publish::sink::webhook::Webhook;
use vehiclecount_core::window::WINDOWS;

use super::database::Database;
use super::secret::Secret;
use super::table::{RecordKind, SinkTable};
use super::value::{Problems, authorities, file_at, is_name, path};

/// Where records go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: SinkPlace,
    /// What is sent.
    pub records: Vec<RecordKind>,
    /// Lengths of the windows that are sent, seconds.
    pub windows: Vec<u32>,
    /// How long a record waits.
    pub keep: Duration,
    /// Bytes of records that wait.
    pub keep_bytes: u64,
}

/// Where a sink is. `Debug` and `Display` show no secret.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkPlace {
    /// A file of lines.
    File(PathBuf, Rotation),
    /// An MQTT broker.
    Mqtt {
        /// The broker, the login and the topic.
        address: MqttAddress,
        /// Certificates that are trusted instead of the system's.
        authorities: Option<Vec<u8>>,
        /// The topic under which Home Assistant looks for devices.
        home_assistant: Option<String>,
    },
    /// A topic of a Kafka cluster.
    Kafka {
        /// The cluster, the login and the topic.
        address: KafkaAddress,
        /// A file of certificates that are trusted instead of the system's.
        authorities: Option<PathBuf>,
    },
    /// A database for the history.
    Postgres {
        /// The database.
        database: Database,
        /// Days for which records and events are kept in it.
        keep_days: u32,
    },
    /// An HTTP server.
    Webhook(Webhook),
}

impl Sink {
    /// The name of the history's own sink.
    pub const HISTORY: &str = "history";

    /// How long, and in how many bytes, records wait for a history that is away.
    const HISTORY_KEEP: (Duration, u64) = (Duration::from_secs(7 * 86_400), 256_000_000);

    /// The sink of a history in a database: all windows, and events.
    pub fn history(database: Database, keep_days: u32) -> Self {
        let (keep, keep_bytes) = Self::HISTORY_KEEP;
        Self {
            name: Self::HISTORY.to_owned(),
            place: SinkPlace::Postgres { database, keep_days },
            records: vec![RecordKind::Window, RecordKind::Event],
            windows: WINDOWS.to_vec(),
            keep,
            keep_bytes,
        }
    }
}

impl fmt::Display for SinkPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => write!(f, "file:{}", path.display()),
            Self::Mqtt { address, .. } => write!(f, "{address}"),
            Self::Kafka { address, .. } => write!(f, "{address}"),
            Self::Postgres { database, .. } => write!(f, "{database}"),
            Self::Webhook(webhook) => write!(f, "{webhook}"),
        }
    }
}

/// Reads the table of one sink.
pub struct Reader<'a> {
    name: &'a str,
    table: &'a SinkTable,
    folder: &'a Path,
    wrong: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// A reader of the sink `name`, which says what is `wrong` with it.
    pub fn new(
        name: &'a str,
        table: &'a SinkTable,
        folder: &'a Path,
        wrong: &'a mut Problems,
    ) -> Self {
        Self { name, table, folder, wrong }
    }

    /// The sink, where nothing is wrong with it.
    pub fn sink(&mut self) -> Option<Sink> {
        let before = self.wrong.len();
        if !is_name(self.name) {
            let what = "a sink's name has 1 to 64 letters, no control character, no / # +";
            self.wrong.push((path(&["sinks", self.name]), what.to_owned()));
        }
        let SinkTable { records, windows, keep_days, keep_megabytes, .. } = self.table;
        if records.is_empty() {
            self.wrong("records", "nothing is sent; it names count, window or event");
        }
        if let Some(length) = windows.iter().find(|length| !WINDOWS.contains(length)) {
            self.wrong("windows", format!("{length} is not 10, 60, 900 or 3600"));
        }
        if !(0.001..=36_500.0).contains(keep_days) {
            self.wrong("keep-days", format!("{keep_days} is not from 0.001 to 36500"));
        }
        if !(0.001..=1e6).contains(keep_megabytes) {
            self.wrong("keep-megabytes", format!("{keep_megabytes} is not from 0.001 to 1000000"));
        }
        let place = self.place();
        if self.wrong.len() > before {
            return None;
        }
        Some(Sink {
            name: self.name.to_owned(),
            place: place?,
            records: records.clone(),
            windows: windows.clone(),
            keep: Duration::from_secs_f64(keep_days * 86_400.0),
            keep_bytes: (keep_megabytes * 1e6) as u64,
        })
    }

    fn wrong(&mut self, key: &str, what: impl Into<String>) {
        self.wrong.push((path(&["sinks", self.name, key]), what.into()));
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) -> Option<String> {
        match secret?.get(self.folder) {
            Ok(text) => Some(text),
            Err(what) => {
                self.wrong(key, what);
                None
            }
        }
    }

    fn place(&mut self) -> Option<SinkPlace> {
        if self.table.url.is_none() {
            self.wrong.push((path(&["sinks", self.name]), "the sink has no url".to_owned()));
            return None;
        }
        let url = self.secret("url", self.table.url.as_ref())?;
        match url.split_once(':').map_or("", |(scheme, _)| scheme) {
            "file" => self.file(&url),
            "mqtt" | "mqtts" => self.mqtt(&url),
            "kafka" | "kafkas" => self.kafka(&url),
            "http" | "https" => self.webhook(&url),
            _ => {
                let what = "a sink's url begins with file:, mqtt://, mqtts://, kafka://, \
                            kafkas://, http:// or https://";
                self.wrong("url", what);
                None
            }
        }
    }

    /// Refuses those of `given` that are there: keys that say nothing about this kind of sink.
    fn refuse(&mut self, what: &str, given: &[(&str, bool)]) {
        for (key, _) in given.iter().filter(|(_, is_given)| *is_given) {
            self.wrong(key, format!("it says nothing about {what}"));
        }
    }

    fn file(&mut self, url: &str) -> Option<SinkPlace> {
        let table = self.table;
        self.refuse(
            "a file",
            &[
                ("user", table.user.is_some()),
                ("password", table.password.is_some()),
                ("secret", table.secret.is_some()),
                ("ca-file", table.ca_file.is_some()),
                ("home-assistant", table.home_assistant.is_some()),
            ],
        );
        let rest = url.strip_prefix("file:").unwrap_or_default();
        let path = match file_at(url, rest, self.folder) {
            Ok(path) => path,
            Err(what) => {
                self.wrong("url", what);
                return None;
            }
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        if path.is_dir() || path.file_name().is_none() {
            self.wrong("url", format!("{} is no file", path.display()));
        }
        let rotation = Rotation {
            max_size: table.max_file_size.unwrap_or_default(),
            max_duration: Duration::from_secs(table.max_file_duration.unwrap_or_default()),
            max_files: table.max_files.unwrap_or_default(),
        };
        if rotation.max_files > 0 && !rotation.is_wanted() {
            let what = "files are counted where they are begun anew: with max-file-size or \
                        max-file-duration";
            self.wrong("max-files", what);
        }
        Some(SinkPlace::File(path, rotation))
    }

    fn refuse_rotation(&mut self, what: &str) {
        let table = self.table;
        self.refuse(
            what,
            &[
                ("max-file-size", table.max_file_size.is_some()),
                ("max-file-duration", table.max_file_duration.is_some()),
                ("max-files", table.max_files.is_some()),
            ],
        );
    }

    fn address<T: FromStr<Err = String>>(&mut self, url: &str) -> Option<T> {
        url.parse::<T>().map_err(|what| self.wrong("url", what)).ok()
    }

    fn mqtt(&mut self, url: &str) -> Option<SinkPlace> {
        self.refuse_rotation("a broker");
        self.refuse("a broker", &[("secret", self.table.secret.is_some())]);
        let address: MqttAddress = self.address(url)?;
        let login = self.login(address.login().is_some());
        let address = match login {
            Some((user, password)) => address.with_login(user, password),
            None => address,
        };
        let authorities = self.authorities(address.is_secure(), "mqtts://");
        let home_assistant = self.table.home_assistant.clone();
        let is_wrong = |topic: &String| {
            topic.is_empty() || topic.ends_with('/') || topic.contains(['+', '#', '\0'])
        };
        if home_assistant.as_ref().is_some_and(is_wrong) {
            self.wrong("home-assistant", "it is no topic, such as \"homeassistant\"");
        }
        Some(SinkPlace::Mqtt { address, authorities, home_assistant })
    }

    fn kafka(&mut self, url: &str) -> Option<SinkPlace> {
        let table = self.table;
        self.refuse_rotation("a Kafka cluster");
        self.refuse(
            "a Kafka cluster",
            &[
                ("secret", table.secret.is_some()),
                ("home-assistant", table.home_assistant.is_some()),
            ],
        );
        let address: KafkaAddress = self.address(url)?;
        let login = self.login(address.login().is_some());
        let address = match login {
            Some((user, password)) => address.with_login(user, password),
            None => address,
        };
        let read = self.authorities(address.is_secure(), "kafkas://");
        let authorities = read.and_then(|_| Some(self.folder.join(table.ca_file.as_ref()?)));
        Some(SinkPlace::Kafka { address, authorities })
    }

    fn webhook(&mut self, url: &str) -> Option<SinkPlace> {
        self.refuse_rotation("a webhook");
        let home_assistant = self.table.home_assistant.is_some();
        self.refuse("a webhook", &[("home-assistant", home_assistant)]);
        let webhook = match Webhook::new(url) {
            Ok(webhook) => webhook,
            Err(form) => {
                self.wrong("url", format!("{form}; user and password are keys of their own"));
                return None;
            }
        };
        let login = self.login(false);
        let secret = self.secret("secret", self.table.secret.as_ref());
        let authorities = self.authorities(url.starts_with("https://"), "https://");
        Some(SinkPlace::Webhook(Webhook { login, secret, authorities, ..webhook }))
    }

    /// User name and password, where they stand apart from the URL.
    fn login(&mut self, in_url: bool) -> Option<(String, String)> {
        let SinkTable { user, password, .. } = self.table;
        if in_url && (user.is_some() || password.is_some()) {
            let key = if user.is_some() { "user" } else { "password" };
            self.wrong(key, "the url has a user name of its own; give one of them");
            return None;
        }
        if user.is_none() && password.is_some() {
            self.wrong("password", "a password needs a user");
            return None;
        }
        let user = self.secret("user", user.as_ref())?;
        let password = match password {
            Some(password) => self.secret("password", Some(password))?,
            None => String::new(),
        };
        Some((user, password))
    }

    fn authorities(&mut self, is_secure: bool, scheme: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(self.table.ca_file.as_ref()?);
        if !is_secure {
            self.wrong("ca-file", format!("certificates are for {scheme}"));
            return None;
        }
        authorities(&path).map_err(|what| self.wrong("ca-file", what)).ok()
    }
}
