//! From the tables of the file to what the service is made of.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use vehiclecount_core::preprocess::InputChoice;
use vehiclecount_core::region::{Levels, Regions, RegionsFile};

use super::certificate::Certificate;
use super::database::Database;
use super::secret::Secret;
use super::sink::{self, Sink};
use super::table::{
    CameraTable, CounterTable, Decoder, File, HistoryTable, HttpTable, Transport, Viewpoint,
};
use super::value::{Problems, file_at, is_name, path};
use crate::source::{Address, device_at};

/// How vehicles are counted.
pub type Counter = CounterTable;

/// All that the service does.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The page and the HTTP interface.
    pub http: Http,
    /// How vehicles are counted.
    pub counter: Counter,
    /// Where what was counted is kept.
    pub history: Option<History>,
    /// The file of records that wait for their sinks.
    pub outbox: PathBuf,
    /// Where records go, in the order of their names.
    pub sinks: Vec<Sink>,
    /// The cameras, in the order of their names.
    pub cameras: Vec<Camera>,
}

/// The page and the HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where they listen.
    pub listen: SocketAddr,
    /// What gives access to them.
    pub token: Option<Token>,
    /// With what they speak TLS.
    pub certificate: Option<Certificate>,
    /// Requests a second from one client.
    pub rate_limit: NonZeroU32,
}

/// What gives access. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that is long enough not to be guessed, and stands in a header as it is.
    fn new(text: String) -> Result<Self, &'static str> {
        match (16..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text)),
            false => Err("a token has 16 to 256 letters, digits and signs of ASCII; \
                          `openssl rand -hex 16` makes one"),
        }
    }

    /// Whether `given` is it. How long the answer takes tells nothing of it.
    pub fn is(&self, given: &str) -> bool {
        let (token, given) = (self.0.as_bytes(), given.as_bytes());
        let differ = token.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b));
        std::hint::black_box(differ) == 0 && token.len() == given.len()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Where what was counted is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Where that is.
    pub place: HistoryPlace,
    /// Days for which records and events are kept.
    pub keep_days: u32,
}

/// Where a history is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryPlace {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL.
    Postgres(Box<Database>),
}

/// One camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// Where the pictures come from.
    pub place: Place,
    /// Take every certificate.
    pub insecure: bool,
    /// How pictures come from an RTSP server.
    pub transport: Transport,
    /// What decodes pictures.
    pub decoder: Decoder,
    /// Counts a second at most.
    pub rate: f64,
    /// Every count is multiplied by this.
    pub scale: f64,
    /// How long no picture may come before it is connected anew.
    pub timeout: Duration,
    /// Time constant of the smoothing.
    pub smoothing: Duration,
    /// Whether pictures that do not differ from the last counted one keep its count.
    pub skip_unchanged: bool,
    /// Polygons, levels, and how large its pictures are shown.
    pub regions: Regions,
}

impl Camera {
    /// What every count is multiplied by: the camera's own factor, or else that of its file of
    /// regions.
    pub fn factor(&self) -> f64 {
        self.regions.scale_factor.filter(|_| self.scale == 1.0).unwrap_or(self.scale)
    }
}

/// Where the pictures of a camera come from. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An RTSP server.
    Rtsp(Address),
    /// An HTTP server.
    Http(Address),
    /// A camera of this machine, by Video4Linux.
    Device(PathBuf),
    /// A file, which begins again at its end.
    File(PathBuf),
    /// Simulated traffic.
    Simulated(Viewpoint),
}

/// What `[http]` says; none where something is wrong with it.
fn http(table: &HttpTable, folder: &Path, wrong: &mut Problems) -> Option<Http> {
    let listen = table.listen.parse::<SocketAddr>().map_err(|_| {
        let what =
            "it is not an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
        wrong.push((path(&["http", "listen"]), what.to_owned()));
    });
    let token = table.token.as_ref().and_then(|token| {
        let token = token.get(folder).and_then(|text| Token::new(text).map_err(str::to_owned));
        token.map_err(|what| wrong.push((path(&["http", "token"]), what))).ok()
    });
    if table.token.is_none() && listen.is_ok_and(|listen| !listen.ip().is_loopback()) {
        let what = "all who reach this address could see and change everything: set [http] token, \
                    or listen on 127.0.0.1";
        wrong.push((path(&["http", "listen"]), what.to_owned()));
    }
    let certificate = match (&table.certificate, &table.key) {
        (Some(certificate), Some(key)) => {
            let files =
                Certificate { certificate: folder.join(certificate), key: folder.join(key) };
            if let Err((key, what)) = files.read() {
                wrong.push((path(&["http", key]), what));
            }
            Some(files)
        }
        (None, None) => None,
        (certificate, _) => {
            let (given, other) =
                if certificate.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            wrong.push((path(&["http", given]), format!("{given} needs {other} too")));
            None
        }
    };
    let rate_limit = NonZeroU32::new(table.rate_limit).filter(|rate| rate.get() <= 100_000);
    if rate_limit.is_none() {
        let what = format!("{} is not from 1 to 100000", table.rate_limit);
        wrong.push((path(&["http", "rate-limit"]), what));
    }
    Some(Http { listen: listen.ok()?, token, certificate, rate_limit: rate_limit? })
}

pub fn resolve(file: &File, folder: &Path) -> Result<Service, Problems> {
    let mut wrong = Problems::new();
    let http = http(&file.http, folder, &mut wrong);
    if file.defaults.url.is_some() {
        wrong.push((path(&["defaults", "url"]), "every camera has a url of its own".to_owned()));
    }
    let input_size = file.counter.input_size.as_deref().map(str::parse::<InputChoice>);
    if let Some(Err(error)) = input_size {
        wrong.push((path(&["counter", "input-size"]), error.to_string()));
    }
    let history = history(&file.history, folder, &mut wrong);
    let cameras: Vec<_> = file
        .cameras
        .iter()
        .filter_map(|(name, own)| {
            let mut reader =
                Reader { name, own, defaults: &file.defaults, folder, wrong: &mut wrong };
            reader.camera()
        })
        .collect();
    let sinks: Vec<_> = file
        .sinks
        .iter()
        .filter_map(|(name, table)| sink::Reader::new(name, table, folder, &mut wrong).sink())
        .collect();
    let outbox = folder.join(&file.outbox.file);
    let is_remote = matches!(history, Some(History { place: HistoryPlace::Postgres(_), .. }));
    if (is_remote || !sinks.is_empty()) && file.outbox.file.as_os_str().is_empty() {
        let what = "sinks and [history] url need a file for what waits";
        wrong.push((path(&["outbox", "file"]), what.to_owned()));
    }
    if is_remote && sinks.iter().any(|sink| sink.name == Sink::HISTORY) {
        let what = "with [history] url, the sink of this name is that of the history";
        wrong.push((path(&["sinks", Sink::HISTORY]), what.to_owned()));
    }
    match http {
        Some(http) if wrong.is_empty() => {
            let counter = file.counter.settled();
            Ok(Service { http, counter, history, outbox, sinks, cameras })
        }
        _ => Err(wrong),
    }
}

/// Reads the table of the history.
fn history(table: &HistoryTable, folder: &Path, wrong: &mut Problems) -> Option<History> {
    let HistoryTable { file, url, ca_file, keep_days } = table;
    if !(1..=36_500).contains(keep_days) {
        wrong
            .push((path(&["history", "keep-days"]), format!("{keep_days} is not from 1 to 36500")));
    }
    let mut refuse = |key: &str, what: String| wrong.push((path(&["history", key]), what));
    let place = match (url, ca_file) {
        (None, None) => {
            let is_kept = !file.as_os_str().is_empty();
            is_kept.then(|| HistoryPlace::File(folder.join(file)))?
        }
        (None, Some(_)) => {
            refuse("ca-file", "certificates are for a url".to_owned());
            return None;
        }
        (Some(url), ca_file) => {
            let url = url.get(folder).and_then(|url| Database::parse(&url));
            let mut database = url.map_err(|what| refuse("url", what)).ok()?;
            if let Some(file) = ca_file {
                let read = database.trust(&folder.join(file));
                read.map_err(|what| refuse("ca-file", what)).ok()?;
            }
            HistoryPlace::Postgres(Box::new(database))
        }
    };
    Some(History { place, keep_days: *keep_days })
}

/// Reads one camera.
struct Reader<'a> {
    name: &'a str,
    own: &'a CameraTable,
    defaults: &'a CameraTable,
    folder: &'a Path,
    wrong: &'a mut Problems,
}

impl Reader<'_> {
    fn camera(&mut self) -> Option<Camera> {
        if !is_name(self.name) {
            let what =
                "a camera's name has 1 to 64 letters, among them no control character, no / # +";
            self.wrong.push((path(&["cameras", self.name]), what.to_owned()));
        }
        let table = self.own.or(self.defaults).or(&CameraTable::standard());
        let place = self.place(&table);
        let rate = self.bounded("rate", table.rate, 0.01..=60.0);
        let scale = self.bounded("scale", table.scale, 0.01..=100.0);
        let timeout = self.bounded("timeout", table.timeout, 2.0..=3600.0);
        let smoothing = self.bounded("smoothing", table.smoothing, 0.0..=3600.0);
        let mut regions = self.regions(&table);
        if let (Some(regions), Some(scale)) = (&mut regions, table.input_scale) {
            regions.input_scale = scale;
        }
        // The file's own factor counts where the configuration has none.
        if let (Some(regions), Some(_)) = (&mut regions, self.own.scale.or(self.defaults.scale)) {
            regions.scale_factor = None;
        }
        Some(Camera {
            name: self.name.to_owned(),
            place: place?,
            insecure: table.insecure?,
            transport: table.transport?,
            decoder: table.decoder?,
            rate: rate?,
            scale: scale?,
            timeout: Duration::from_secs_f64(timeout?),
            smoothing: Duration::from_secs_f64(smoothing?),
            skip_unchanged: table.skip_unchanged?,
            regions: regions?,
        })
    }

    /// What is wrong with the value of a key, which stands in the camera's own table or in
    /// `defaults`.
    fn wrong(&mut self, key: &str, own: bool, what: impl Into<String>) {
        let keys = if own { path(&["cameras", self.name, key]) } else { path(&["defaults", key]) };
        let entry = (keys, what.into());
        // Of many cameras with the same default, one tells.
        if !self.wrong.contains(&entry) {
            self.wrong.push(entry);
        }
    }

    fn secret(
        &mut self,
        key: &str,
        own: Option<&Secret>,
        default: Option<&Secret>,
    ) -> Option<String> {
        match own.or(default)?.get(self.folder) {
            Ok(text) => Some(text),
            Err(what) => {
                self.wrong(key, own.is_some(), what);
                None
            }
        }
    }

    fn place(&mut self, table: &CameraTable) -> Option<Place> {
        let own = self.own;
        if table.url.is_none() {
            self.wrong.push((path(&["cameras", self.name]), "the camera has no url".to_owned()));
            return None;
        }
        let url = self.secret("url", own.url.as_ref(), None)?;
        if let Some(view) = url.strip_prefix("simulated:") {
            let view: StrDeserializer<'_, Error> = view.into_deserializer();
            return match Viewpoint::deserialize(view) {
                Ok(view) => Some(Place::Simulated(view)),
                Err(_) => {
                    self.wrong(
                        "url",
                        true,
                        "after simulated: comes highway, junction, top-down, roadside or street",
                    );
                    None
                }
            };
        }
        if let Some(file) = url.strip_prefix("file:") {
            let file = match file_at(&url, file, self.folder) {
                Ok(file) => file,
                Err(what) => {
                    self.wrong("url", true, what);
                    return None;
                }
            };
            return Some(Place::File(file));
        }
        if let Some(device) = device_at(&url) {
            return device.map(Place::Device).map_err(|what| self.wrong("url", true, what)).ok();
        }
        let address: Address = match url.parse() {
            Ok(address) => address,
            Err(crate::source::AddressError::Scheme) => {
                let what = "a url begins with rtsp://, rtsps://, http://, https://, file:, v4l2: \
                            or simulated:";
                self.wrong("url", true, what);
                return None;
            }
            Err(error) => {
                self.wrong("url", true, error.to_string());
                return None;
            }
        };
        let is_http = address.is_http();
        self.login(address).map(if is_http { Place::Http } else { Place::Rtsp })
    }

    /// Adds user name and password, where they stand apart from the URL.
    fn login(&mut self, address: Address) -> Option<Address> {
        let (own, defaults) = (self.own, self.defaults);
        // A login in the URL is nearer than a default.
        if address.credentials().is_some() {
            if own.user.is_some() || own.password.is_some() {
                let key = if own.user.is_some() { "user" } else { "password" };
                self.wrong(key, true, "the url has a user name of its own; give one of them");
                return None;
            }
            return Some(address);
        }
        let is_given =
            |secret: Option<&Secret>, default: Option<&Secret>| secret.or(default).is_some();
        let user_given = is_given(own.user.as_ref(), defaults.user.as_ref());
        if !user_given && is_given(own.password.as_ref(), defaults.password.as_ref()) {
            self.wrong("password", own.password.is_some(), "a password needs a user");
            return None;
        }
        if !user_given {
            return Some(address);
        }
        let user = self.secret("user", own.user.as_ref(), defaults.user.as_ref());
        let password = match own.password.as_ref().or(defaults.password.as_ref()) {
            Some(_) => self.secret("password", own.password.as_ref(), defaults.password.as_ref()),
            None => Some(String::new()),
        };
        Some(address.with_credentials(user?, password?))
    }

    fn bounded(
        &mut self,
        key: &str,
        value: Option<f64>,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let value = value?;
        if range.contains(&value) {
            return Some(value);
        }
        let own = match key {
            "rate" => self.own.rate,
            "scale" => self.own.scale,
            "timeout" => self.own.timeout,
            _ => self.own.smoothing,
        };
        self.wrong(
            key,
            own.is_some(),
            format!("{value} is not from {} to {}", range.start(), range.end()),
        );
        None
    }

    fn regions(&mut self, table: &CameraTable) -> Option<Regions> {
        let own = self.own;
        if table.regions.is_some() && table.regions_file.is_some() {
            let is_own = own.regions_file.is_some();
            self.wrong("regions-file", is_own, "regions stand here or in a file, not in both");
            return None;
        }
        let levels: Levels = table.levels.unwrap_or_default().into();
        if let Err(error) = (Regions { levels, ..Regions::default() }).check() {
            self.wrong("levels", own.levels.is_some(), error.to_string());
            return None;
        }
        let (key, is_own, regions) = match (&table.regions, &table.regions_file) {
            (_, Some(file)) => {
                let path = self.folder.join(file);
                let read = RegionsFile::read(&path).map(|file| file.for_camera(self.name));
                // The file's own levels count where the configuration has none.
                let set = own.levels.is_some() || self.defaults.levels.is_some();
                let regions =
                    read.map(|regions| if set { Regions { levels, ..regions } } else { regions });
                ("regions-file", own.regions_file.is_some(), regions)
            }
            (regions, None) => {
                let regions = regions.iter().flatten().map(Into::into).collect();
                (
                    "regions",
                    own.regions.is_some(),
                    Ok(Regions { levels, regions, ..Regions::default() }),
                )
            }
        };
        let checked = regions.and_then(|regions| regions.check().map(|()| regions));
        checked.map_err(|error| self.wrong(key, is_own, error.to_string())).ok()
    }
}
