//! A change of a regions file that keeps what stands in it, in its order.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use vehiclecount_core::preprocess::InputScale;
use vehiclecount_core::region::{Region, Regions};

/// JSON whose keys keep their order.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    /// A text, a number, a flag or null, as it is written.
    Plain(serde_json::Value),
    List(Vec<Json>),
    Table(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
                Ok(Json::Plain(value.into()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
                Ok(Json::Plain(serde_json::Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Json::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Json, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = table.next_entry()? {
                    keys.push(entry);
                }
                Ok(Json::Table(keys))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Columns of a line that is not broken up.
const WIDTH: usize = 96;

impl Json {
    fn of(value: &impl serde::Serialize) -> Result<Self> {
        Ok(serde_json::from_str(&serde_json::to_string(value)?)?)
    }

    /// The value of a key of a table, which is added where it is not there.
    fn key(&mut self, name: &str, new: impl FnOnce() -> Json) -> Result<&mut Json> {
        let Self::Table(keys) = self else { bail!("{name:?} stands in no table") };
        let index = keys.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
            keys.push((name.to_owned(), new()));
            keys.len() - 1
        });
        Ok(&mut keys[index].1)
    }

    /// Sets a key, or takes it out.
    fn set(&mut self, name: &str, value: Option<Json>) -> Result<()> {
        match value {
            Some(value) => *self.key(name, || Json::List(Vec::new()))? = value,
            None => {
                if let Self::Table(keys) = self {
                    keys.retain(|(key, _)| key != name);
                }
            }
        }
        Ok(())
    }

    fn write(&self, text: &mut String, indent: usize) {
        let mut line = String::new();
        self.write_line(&mut line);
        let column = text.len() - text.rfind('\n').map_or(0, |end| end + 1);
        if column + line.len() <= WIDTH {
            text.push_str(&line);
            return;
        }
        let inner = indent + 2;
        let entry = |text: &mut String, last: bool, write: &dyn Fn(&mut String)| {
            let _ = write!(text, "\n{:inner$}", "");
            write(text);
            text.push_str(if last { "" } else { "," });
        };
        match self {
            Self::Plain(_) => text.push_str(&line),
            Self::List(values) => {
                text.push('[');
                for (index, value) in values.iter().enumerate() {
                    let last = index + 1 == values.len();
                    entry(text, last, &|text| value.write(text, inner));
                }
                let _ = write!(text, "\n{:indent$}]", "");
            }
            Self::Table(keys) => {
                text.push('{');
                for (index, (key, value)) in keys.iter().enumerate() {
                    let last = index + 1 == keys.len();
                    entry(text, last, &|text| {
                        let _ = write!(text, "{}: ", serde_json::Value::from(key.as_str()));
                        value.write(text, inner);
                    });
                }
                let _ = write!(text, "\n{:indent$}}}", "");
            }
        }
    }

    fn write_line(&self, text: &mut String) {
        match self {
            Self::Plain(value) => {
                let _ = write!(text, "{value}");
            }
            Self::List(values) => {
                text.push('[');
                for (index, value) in values.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    value.write_line(text);
                }
                text.push(']');
            }
            Self::Table(keys) => {
                text.push_str(if keys.is_empty() { "{" } else { "{ " });
                for (index, (key, value)) in keys.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    let _ = write!(text, "{}: ", serde_json::Value::from(key.as_str()));
                    value.write_line(text);
                }
                text.push_str(if keys.is_empty() { "}" } else { " }" });
            }
        }
    }
}

/// The file `text` with `settings` for the camera called `camera`, or for all that have no entry of
/// their own: scale, factor and the regions' detail are set, regions that are new are added, and
/// everything else stays.
pub fn edited(text: &str, camera: Option<&str>, settings: &Regions) -> Result<String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut file: Json = serde_json::from_str(text).context("the regions file is no JSON")?;
    let table = match camera {
        None => &mut file,
        Some(name) => {
            // An entry stands for all that holds for a camera: a new one begins with that.
            let common = match &file {
                Json::Table(keys) => keys.iter().filter(|(key, _)| key != "cameras").cloned(),
                _ => bail!("the regions file is no table"),
            };
            let common = Json::Table(common.collect());
            let cameras = file.key("cameras", || Json::Table(Vec::new()))?;
            cameras.key(name, || common)?
        }
    };
    let scale = settings.input_scale;
    let scale = (scale != InputScale::NORMAL).then(|| Json::of(&scale)).transpose()?;
    table.set("input-scale", scale)?;
    let factor = settings.scale_factor.map(|factor| Json::of(&factor)).transpose()?;
    table.set("scale-factor", factor)?;
    let Json::List(regions) = table.key("regions", || Json::List(Vec::new()))? else {
        bail!("\"regions\" is no list");
    };
    for region in &settings.regions {
        let named = |json: &Json| match json {
            Json::Table(keys) => keys.iter().any(|(key, value)| {
                key == "name" && *value == Json::Plain(region.name.as_str().into())
            }),
            _ => false,
        };
        match regions.iter_mut().find(|json| named(json)) {
            Some(json) => {
                let detail = Some(&region.detail).filter(|detail| !detail.is_off());
                json.set("detail", detail.map(Json::of).transpose()?)?;
            }
            None => regions.push(plain(region)?),
        }
    }
    let mut written = String::new();
    file.write(&mut written, 0);
    written.push('\n');
    Ok(written)
}

/// A new region, without the levels that hold anyway.
fn plain(region: &Region) -> Result<Json> {
    let mut json = Json::of(region)?;
    json.set("levels", None)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vehiclecount_core::region::{Detail, RegionsFile};

    const FILE: &str = r#"{
        "levels": {"moderate": 3, "dense": 6, "jammed": 12},
        "regions": [
            {"polygon": [[0.1, 1.0], [0.45, 0.3], [0.5, 1.0]], "name": "left", "levels": {"moderate": 2, "dense": 4, "jammed": 8}},
            {"name": "far", "polygon": [[0, 0.2], [1, 0.2], [1, 0.4]], "detail": 2}
        ],
        "cameras": {"south": {"regions": [], "scale-factor": 1.5}}
    }"#;

    /// `FILE` with other settings for `camera`.
    fn changed(camera: Option<&str>, name: &str, change: impl Fn(&mut Regions)) -> RegionsFile {
        let mut settings = RegionsFile::parse(FILE).unwrap().for_camera(name);
        change(&mut settings);
        let text = edited(FILE, camera, &settings).unwrap();
        let read = RegionsFile::parse(&text).unwrap();
        assert_eq!(read.for_camera(name), settings, "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        read
    }

    #[test]
    fn what_is_not_set_stays() {
        let before = RegionsFile::parse(FILE).unwrap();
        let all = changed(None, "north", |settings| {
            settings.input_scale = "large".parse().unwrap();
            settings.scale_factor = Some(1.25);
            settings.regions[0].detail = Detail::On;
            settings.regions[1].detail = Detail::Off;
        });
        assert_eq!(all.for_camera("south"), before.for_camera("south"));
        let text = edited(FILE, None, &all.for_camera("north")).unwrap();
        let place = |word: &str| text.find(word).unwrap();
        assert!(place("levels") < place("regions") && place("regions") < place("cameras"));
        assert!(place("polygon") < place("\"left\""), "keys keep their order: {text}");
    }

    #[test]
    fn camera_has_an_entry_of_its_own_which_begins_with_what_held_for_it() {
        let before = RegionsFile::parse(FILE).unwrap();
        let file = changed(Some("north"), "north", |settings| settings.scale_factor = Some(0.9));
        assert_eq!(file.for_camera("east"), before.for_camera("east"));
        let file = changed(Some("south"), "south", |settings| {
            settings.scale_factor = None;
            let mut region = before.for_camera("east").regions[1].clone();
            region.name = "close look".to_owned();
            settings.regions.push(region);
        });
        assert_eq!(file.for_camera("north"), before.for_camera("north"));
    }

    #[test]
    fn empty_file_becomes_one() {
        let settings = Regions { scale_factor: Some(1.2), ..Regions::default() };
        for text in ["", "{}"] {
            let file = RegionsFile::parse(&edited(text, Some("a \"b\""), &settings).unwrap());
            assert_eq!(file.unwrap().for_camera("a \"b\"").scale_factor, Some(1.2));
        }
        assert!(edited("[]", None, &settings).is_err());
        assert!(edited("{\"regions\": 7}", None, &settings).is_err());
    }
}
