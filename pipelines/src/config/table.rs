//! The tables of the file as they stand there. Comments of the fields are the schema's
//! descriptions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vehiclecount_core::preprocess::{InputChoice, InputScale};
use vehiclecount_core::region::{Detail, Levels, Point, Region};

use super::secret::Secret;
use crate::source::SILENCE;

/// The configuration of `vehicle-count run`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "counter.toml")]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct File {
    /// The page and the HTTP interface.
    pub http: HttpTable,
    /// How vehicles are counted.
    pub counter: CounterTable,
    /// What was counted, in a file or a database.
    pub history: HistoryTable,
    /// Records that wait for their sinks.
    pub outbox: OutboxTable,
    /// Where records go, by name.
    pub sinks: BTreeMap<String, SinkTable>,
    /// What holds for every camera that does not say otherwise.
    pub defaults: CameraTable,
    /// The cameras, by name.
    pub cameras: BTreeMap<String, CameraTable>,
}

/// The page and the HTTP interface.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HttpTable {
    /// IP address and port to listen on; port 0 takes any that is free. Beyond the loopback a token
    /// is needed.
    pub listen: String,
    /// What gives access to all but the checks of health: 16 to 256 letters, digits and signs of
    /// ASCII. Without it all who reach the address have access.
    #[serde(skip_serializing)]
    pub token: Option<Secret>,
    /// A file of the certificate (PEM), with those that lead to its authority: the page is then
    /// `https://...`. It is read anew when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file of the certificate's private key (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Requests a second from one address, and as many at once: from 1 to 100000. Health and
    /// metrics have 100 of their own.
    pub rate_limit: u32,
}

impl Default for HttpTable {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            token: None,
            certificate: None,
            key: None,
            rate_limit: 200,
        }
    }
}

/// What was counted, in a file of SQLite or a database of PostgreSQL.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HistoryTable {
    /// The file, relative to the configuration's folder; empty: none.
    pub file: PathBuf,
    /// A database instead of the file: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
    #[serde(skip_serializing)]
    pub url: Option<Secret>,
    /// A file of certificates (PEM) of which one vouches for the database's server; instead of
    /// those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Days for which records and events are kept: from 1 to 36500. Windows of 10 s are kept for 2
    /// days at most, those of 1 min for 14.
    pub keep_days: u32,
}

impl Default for HistoryTable {
    fn default() -> Self {
        Self { file: PathBuf::from("counter.db"), url: None, ca_file: None, keep_days: 400 }
    }
}

/// How vehicles are counted. The keys are properties of the element `vehiclecounter`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CounterTable {
    /// The need for which the model, its input size, its precision and the batches are chosen for
    /// this machine, where they are not set here.
    pub preset: Preset,
    /// Name of an installed model, or the path of a manifest (.json) or of an .onnx file; empty:
    /// the model that ships.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What runs the model.
    pub engine: Engine,
    /// In what precision it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Size of the model's input in pixels: `auto`, the size that fits each camera's aspect ratio,
    /// of about the area of the manifest's; `auto:SIDE`, of the area of another square; or
    /// WIDTHxHEIGHT, for every camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_size: Option<String>,
    /// Index of the GPU, for engines that run on one.
    pub gpu_id: u32,
}

impl CounterTable {
    /// What holds where the file says nothing and there is no preset.
    pub fn standard() -> Self {
        Self {
            model: Some(String::new()),
            precision: Some(Precision::default()),
            input_size: Some(InputChoice::default().to_string()),
            ..Self::default()
        }
    }

    /// What the table says. What it leaves open stays so where there is a preset, which chooses it.
    pub fn settled(&self) -> Self {
        if self.preset != Preset::None {
            return self.clone();
        }
        let (own, standard) = (self.clone(), Self::standard());
        Self {
            model: own.model.or(standard.model),
            precision: own.precision.or(standard.precision),
            input_size: own.input_size.or(standard.input_size),
            ..own
        }
    }
}

/// A need for which is chosen what is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Nothing is chosen.
    #[default]
    None,
    /// The most images a second.
    HighestFps,
    /// The shortest time from a frame to its count.
    LowestLatency,
    /// A small machine: the smallest file, and little memory.
    Edge,
    /// Many cameras: many images a second at little more than the least error.
    Server,
    /// The least error, however slow.
    Accuracy,
}

/// Makes [`Engine`] of the table of engines.
macro_rules! engine {
    ($($kind:ident = $number:tt, $module:ident, $name:tt, $device:ident, $runs:ident,
        $title:tt;)*) => {
        /// What runs the model.
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
        )]
        pub enum Engine {
            /// The fastest that opens.
            #[default]
            #[serde(rename = "auto")]
            Auto,
            $(
                #[doc = $title]
                #[serde(rename = $name)]
                $kind,
            )*
        }
    };
}

vehiclecount_core::engines!(engine);

/// In what precision a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The fastest that counts right.
    #[default]
    Auto,
    /// FP32.
    Fp32,
    /// FP16, with TensorRT.
    Fp16,
    /// INT8 where the network is quantized.
    Int8,
}

/// How pictures come from an RTSP server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Inside the RTSP connection.
    #[default]
    Tcp,
    /// As UDP packets: less delay, and pictures suffer where packets are lost.
    Udp,
}

/// What decodes pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    /// What GStreamer ranks first; where that is hardware and fails, the processor.
    #[default]
    Auto,
    /// The processor.
    Software,
    /// Hardware where there is any for the stream (nvcodec, VA), however GStreamer ranks it.
    Hardware,
}

/// From where a simulated camera looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Viewpoint {
    /// A motorway from a bridge.
    Highway,
    /// A crossroads with traffic lights.
    Junction,
    /// Straight down from a drone.
    TopDown,
    /// Across a road from its side.
    Roadside,
    /// A city street with parked cars.
    Street,
}

/// A camera, or what holds for all of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table of a camera's keys"
)]
pub struct CameraTable {
    /// Where the pictures come from: `rtsp://...`, `rtsps://...`, `http://...`, `https://...`,
    /// `v4l2:/dev/video0`, `file:PATH` (again and again), or `simulated:highway` (also junction,
    /// top-down, roadside, street). Not for `defaults`.
    #[serde(skip_serializing)]
    pub url: Option<Secret>,
    /// User name for the camera; instead of one in the URL.
    #[serde(skip_serializing)]
    pub user: Option<Secret>,
    /// Password for the camera; instead of one in the URL.
    #[serde(skip_serializing)]
    pub password: Option<Secret>,
    /// Take every certificate of an `rtsps` or `https` server, also one that nothing vouches for.
    pub insecure: Option<bool>,
    /// How pictures come from an RTSP server.
    pub transport: Option<Transport>,
    /// What decodes pictures.
    pub decoder: Option<Decoder>,
    /// Seconds without a picture after which the camera is connected anew: from 2 to 3600.
    pub timeout: Option<f64>,
    /// Counts a second at most: from 0.01 to 60.
    pub rate: Option<f64>,
    /// Every count is multiplied by this: from 0.01 to 100.
    pub scale: Option<f64>,
    /// How large the camera's pictures are shown to the network, where `input-size` is `auto`:
    /// `small`, `normal`, `large`, `larger`, or 256, 320, 384, 448, 512 or 640, the side of a
    /// square of the input's area.
    #[schemars(with = "Option<ScaleName>")]
    pub input_scale: Option<InputScale>,
    /// Time constant of the smoothing, in seconds: from 0 (none) to 3600.
    pub smoothing: Option<f64>,
    /// Pictures that do not differ from the last counted one keep its count, for up to 10 s.
    pub skip_unchanged: Option<bool>,
    /// From how many vehicles in the whole frame on a level holds.
    pub levels: Option<LevelsTable>,
    /// Polygons whose vehicles are counted apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<RegionTable>>,
    /// A JSON file of regions instead, relative to the configuration's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions_file: Option<PathBuf>,
}

/// A name of a scale, or the side of a square.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema alone is made of it")]
enum ScaleName {
    Name(String),
    Side(u64),
}

/// From how many vehicles on a level holds. The values rise.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LevelsTable {
    /// From here on traffic is moderate.
    pub moderate: f64,
    /// From here on it is dense.
    pub dense: f64,
    /// From here on it is jammed.
    pub jammed: f64,
}

impl Default for LevelsTable {
    fn default() -> Self {
        let Levels { moderate, dense, jammed } = Levels::default();
        Self { moderate, dense, jammed }
    }
}

impl From<LevelsTable> for Levels {
    fn from(table: LevelsTable) -> Self {
        Self { moderate: table.moderate, dense: table.dense, jammed: table.jammed }
    }
}

/// A polygon whose vehicles are counted apart.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionTable {
    /// Its name, unique within the camera.
    pub name: String,
    /// Its corners [x, y], at least three; the frame spans 0 to 1 both ways, from the top left.
    pub polygon: Vec<Point>,
    /// From how many vehicles in the region on a level holds.
    #[serde(default)]
    pub levels: LevelsTable,
    /// Whether the region is shown to the network enlarged, in crops beside the whole picture,
    /// each of which costs as much: `true` up to 4 times, or how many times at most, above 1 and
    /// up to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailValue>,
}

/// Whether a region is shown enlarged, or how many times at most.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "true, false or a number above 1 and up to 8")]
pub enum DetailValue {
    /// Up to 4 times.
    Flag(bool),
    /// Up to so many times.
    Times(f64),
}

impl From<DetailValue> for Detail {
    fn from(value: DetailValue) -> Self {
        match value {
            DetailValue::Flag(true) => Self::On,
            DetailValue::Flag(false) => Self::Off,
            DetailValue::Times(factor) => Self::Times(factor),
        }
    }
}

impl From<&RegionTable> for Region {
    fn from(table: &RegionTable) -> Self {
        Self {
            name: table.name.clone(),
            polygon: table.polygon.clone(),
            levels: table.levels.into(),
            detail: table.detail.map(Detail::from).unwrap_or_default(),
        }
    }
}

impl CameraTable {
    /// What holds for a camera where neither it nor `defaults` says anything.
    pub fn standard() -> Self {
        Self {
            insecure: Some(false),
            transport: Some(Transport::Tcp),
            decoder: Some(Decoder::Auto),
            timeout: Some(SILENCE.as_secs_f64()),
            rate: Some(1.0),
            scale: Some(1.0),
            smoothing: Some(1.0),
            skip_unchanged: Some(false),
            levels: Some(LevelsTable::default()),
            ..Self::default()
        }
    }

    /// What `self` says, and for the rest what `other` says.
    pub fn or(&self, other: &Self) -> Self {
        let (own, other) = (self.clone(), other.clone());
        // One way to give regions takes the place of the other.
        let regions = own.regions.is_some() || own.regions_file.is_some();
        Self {
            url: own.url.or(other.url),
            user: own.user.or(other.user),
            password: own.password.or(other.password),
            insecure: own.insecure.or(other.insecure),
            transport: own.transport.or(other.transport),
            decoder: own.decoder.or(other.decoder),
            rate: own.rate.or(other.rate),
            scale: own.scale.or(other.scale),
            timeout: own.timeout.or(other.timeout),
            input_scale: own.input_scale.or(other.input_scale),
            smoothing: own.smoothing.or(other.smoothing),
            skip_unchanged: own.skip_unchanged.or(other.skip_unchanged),
            levels: own.levels.or(other.levels),
            regions: own.regions.or(other.regions.filter(|_| !regions)),
            regions_file: own.regions_file.or(other.regions_file.filter(|_| !regions)),
        }
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    /// One picture: its counts.
    Count,
    /// A window of time on a camera or in a region.
    Window,
    /// A level that changed, a camera that is lost or back.
    Event,
}

impl RecordKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Window => "window",
            Self::Event => "event",
        }
    }
}

/// Records that wait for their sinks, in a file of SQLite.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OutboxTable {
    /// The file, relative to the configuration's folder. It is made where there is a sink.
    pub file: PathBuf,
}

impl Default for OutboxTable {
    fn default() -> Self {
        Self { file: PathBuf::from("outbox.db") }
    }
}

/// Where records go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    rename_all = "kebab-case",
    expecting = "a table of a sink's keys"
)]
pub struct SinkTable {
    /// `file:PATH`, `mqtt://HOST:PORT/TOPIC`, `mqtts://...`, `kafka://HOST:PORT/TOPIC`,
    /// `kafkas://...`, `http://...` or `https://...`.
    #[serde(skip_serializing)]
    pub url: Option<Secret>,
    /// User name for a broker or an HTTP server; instead of one in the URL.
    #[serde(skip_serializing)]
    pub user: Option<Secret>,
    /// Password for a broker or an HTTP server; instead of one in the URL.
    #[serde(skip_serializing)]
    pub password: Option<Secret>,
    /// What the requests of a webhook are signed with.
    #[serde(skip_serializing)]
    pub secret: Option<Secret>,
    /// A file of certificates (PEM) of which one vouches for the server; instead of those that the
    /// system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What is sent.
    pub records: Vec<RecordKind>,
    /// Lengths in seconds of the windows that are sent: 10, 60, 900, 3600.
    pub windows: Vec<u32>,
    /// Days for which a record waits for its sink: from 0.001 to 36500.
    pub keep_days: f64,
    /// Megabytes of records that wait for the sink: from 0.001 to 1000000. Then the oldest go.
    pub keep_megabytes: f64,
    /// Of an MQTT broker: the topic under which Home Assistant looks for devices, such as
    /// `homeassistant`; absent: nothing is told to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_assistant: Option<String>,
    /// Of a file: bytes after which it is renamed and begun anew; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_size: Option<u64>,
    /// Of a file: seconds after which it is renamed and begun anew; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_duration: Option<u64>,
    /// Of a file: how many are kept, the current one included; 0: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
}

impl Default for SinkTable {
    fn default() -> Self {
        Self {
            url: None,
            user: None,
            password: None,
            secret: None,
            ca_file: None,
            records: vec![RecordKind::Window, RecordKind::Event],
            windows: vec![60, 900, 3600],
            keep_days: 7.0,
            keep_megabytes: 64.0,
            home_assistant: None,
            max_file_size: None,
            max_file_duration: None,
            max_files: None,
        }
    }
}

/// The JSON Schema of [`File`], in which the keys of a camera and of the counter have their
/// defaults, too.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    let standard = [
        ("CameraTable", serde_json::to_value(CameraTable::standard())),
        ("CounterTable", serde_json::to_value(CounterTable::standard())),
    ];
    for (table, standard) in standard {
        let properties = schema.pointer_mut(&format!("/$defs/{table}/properties"));
        if let (Some(properties), Some(standard)) =
            (properties, standard.unwrap_or_default().as_object())
        {
            for (key, value) in standard {
                properties[key]["default"] = value.clone();
            }
        }
    }
    // What an empty table of them holds is nothing.
    if let Some(defaults) =
        schema.pointer_mut("/properties/defaults").and_then(|table| table.as_object_mut())
    {
        defaults.remove("default");
    }
    schema
}
