//! Changes of cameras and sinks in the text of the file: all else stays as it was written, comments
//! too.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Cameras.
    Cameras,
    /// Sinks.
    Sinks,
}

impl Section {
    /// The key of their table.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cameras => "cameras",
            Self::Sinks => "sinks",
        }
    }
}

/// The text of a configuration, to be changed.
#[derive(Clone, Debug)]
pub struct Document(DocumentMut);

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Document {
    /// Reads the text.
    ///
    /// # Errors
    /// It is no TOML. The error may quote the text: it is not to be shown.
    pub fn parse(text: &str) -> Result<Self, toml_edit::TomlError> {
        text.parse().map(Self)
    }

    /// Whether there is one of that name.
    pub fn has(&self, section: Section, name: &str) -> bool {
        let tables = self.0.get(section.key()).and_then(Item::as_table_like);
        tables.is_some_and(|tables| tables.contains_key(name))
    }

    /// Sets keys of a camera or a sink, which is added where there is none of that name; null takes
    /// a key out. A new `url` takes out what the old one was logged in and signed with, and
    /// `regions` take out `regions-file`, where they are not set too.
    ///
    /// # Errors
    /// What stands in the way in the file: a table that is none.
    pub fn set(&mut self, section: Section, name: &str, keys: &Map<String, Json>) -> Result<()> {
        let tables = self.0.entry(section.key()).or_insert_with(|| {
            let mut tables = Table::new();
            tables.set_implicit(true);
            Item::Table(tables)
        });
        let is_inline = tables.is_value();
        let no_table = || format!("{} is no table", section.key());
        let tables = tables.as_table_like_mut().with_context(no_table)?;
        let table = tables.entry(name).or_insert_with(|| match is_inline {
            true => Item::Value(InlineTable::new().into()),
            false => Item::Table(Table::new()),
        });
        let is_inline = table.is_value();
        let no_table = || format!("{}.{name} is no table", section.key());
        let table = table.as_table_like_mut().with_context(no_table)?;
        let login = &["user", "password", "secret"][..];
        for (key, drops) in [("url", login), ("regions", &["regions-file"])] {
            if keys.contains_key(key) {
                drops.iter().filter(|key| !keys.contains_key(**key)).for_each(|key| {
                    table.remove(key);
                });
            }
        }
        for (key, json) in keys {
            match json {
                Json::Null => drop(table.remove(key)),
                Json::Array(regions) if key == "regions" && !is_inline && are_tables(regions) => {
                    set_regions(table, regions);
                }
                json => set(table, key, json),
            }
        }
        Ok(())
    }

    /// Takes a camera or a sink out. Gives whether it was there. Remarks right above it go with it,
    /// those that an empty line parts from it stay.
    pub fn remove(&mut self, section: Section, name: &str) -> bool {
        let tables = self.0.get_mut(section.key()).and_then(Item::as_table_like_mut);
        let Some(removed) = tables.and_then(|tables| tables.remove(name)) else { return false };
        let prefix = removed
            .as_table()
            .and_then(|table| table.decor().prefix())
            .and_then(|prefix| prefix.as_str())
            .unwrap_or_default();
        if let Some((kept, _)) = prefix.rsplit_once("\n\n").filter(|(kept, _)| kept.contains('#')) {
            let trailing = self.0.trailing().as_str().unwrap_or_default();
            self.0.set_trailing(format!("{kept}\n{trailing}"));
        }
        true
    }
}

/// Whether these are regions that have tables of their own: `[[cameras.NAME.regions]]`. None at all
/// is `regions = []`, which is not the same as no key where `defaults` have regions.
fn are_tables(regions: &[Json]) -> bool {
    !regions.is_empty() && regions.iter().all(Json::is_object)
}

/// Sets a key to a value, unless that is what it holds. What stands around the old value stays.
fn set(table: &mut dyn TableLike, key: &str, json: &Json) {
    let mut value = value(json);
    match table.get_mut(key) {
        Some(Item::Value(old)) if holds(old, json) => {}
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        // The key of a table stands in a header: its place is not that of a value.
        _ => {
            table.remove(key);
            table.insert(key, Item::Value(value));
        }
    }
}

/// The value in TOML.
fn value(json: &Json) -> Value {
    match json {
        // Keys whose value is null are absent.
        Json::Null => Value::from(""),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => Value::from(values.iter().map(value).collect::<Array>()),
        Json::Object(keys) => {
            let keys = keys.iter().filter(|(_, json)| !json.is_null());
            Value::from(keys.map(|(key, json)| (key, value(json))).collect::<InlineTable>())
        }
    }
}

/// Whether the value is that one already, however it is written.
fn holds(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::String(text), Json::String(other)) => text.value() == other,
        (Value::Boolean(flag), Json::Bool(other)) => flag.value() == other,
        (Value::Integer(number), Json::Number(other)) => {
            other.as_f64() == Some(*number.value() as f64)
        }
        (Value::Float(number), Json::Number(other)) => other.as_f64() == Some(*number.value()),
        (Value::Array(values), Json::Array(others)) => {
            values.len() == others.len()
                && values.iter().zip(others).all(|(value, other)| holds(value, other))
        }
        (Value::InlineTable(table), Json::Object(others)) => {
            table.len() == others.len()
                && others
                    .iter()
                    .all(|(key, other)| table.get(key).is_some_and(|value| holds(value, other)))
        }
        _ => false,
    }
}

/// Sets the regions, each a table of its own. Those whose names stay keep what is written around
/// them.
fn set_regions(camera: &mut dyn TableLike, regions: &[Json]) {
    let old = match camera.get("regions") {
        Some(Item::ArrayOfTables(tables)) => tables.clone(),
        _ => ArrayOfTables::new(),
    };
    let mut tables = ArrayOfTables::new();
    for region in regions.iter().filter_map(Json::as_object) {
        let name = region.get("name").and_then(Json::as_str);
        let same = old.iter().find(|table| table.get("name").and_then(Item::as_str) == name);
        let mut table = same.cloned().unwrap_or_default();
        let gone: Vec<_> = table
            .iter()
            .map(|(key, _)| key.to_owned())
            .filter(|key| !region.contains_key(key))
            .collect();
        gone.iter().for_each(|key| drop(table.remove(key)));
        region.iter().for_each(|(key, json)| set(&mut table, key, json));
        tables.push(table);
    }
    match camera.get_mut("regions") {
        Some(Item::ArrayOfTables(old)) => *old = tables,
        _ => {
            camera.remove("regions");
            camera.insert("regions", Item::ArrayOfTables(tables));
        }
    }
}

/// Writes the file as a whole or not at all: readers see the old text or the new one. Where `path`
/// is a link, the file that it leads to is written; its permissions stay.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let path = path.canonicalize()?;
    let folder = path.parent().context("a file has a folder")?;
    let permissions = fs::metadata(&path)?.permissions();
    let mut new = tempfile::Builder::new().prefix(".counter").tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(permissions)?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    // The name itself survives a power cut, too.
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(text: &str, name: &str, keys: Json) -> String {
        let mut document = Document::parse(text).unwrap();
        document.set(Section::Cameras, name, keys.as_object().unwrap()).unwrap();
        document.to_string()
    }

    const FILE: &str = "# mine\n[defaults] # all\nrate = 2 # slow\n\n# north gate\n[cameras.north] # first\n\
                        # its place\nurl = 'rtsp://a/1' # old\nrate = 1.0\nuser = \"me\"\n\n\
                        # the lane\n[[cameras.north.regions]]\nname = \"left\" # l\npolygon = [[0, 0], [1, 0], [1, 1]]\n\n\
                        [[cameras.north.regions]]\nname = \"right\"\npolygon = [[0, 0], [1, 0], [1, 1.0]] # r\n\n\
                        [cameras.south]\nurl = \"simulated:street\"\n# the end\n";

    #[test]
    fn only_what_is_changed_changes() {
        for (keys, old, new) in [
            (json!({}), "", ""),
            (json!({ "rate": 1, "url": "rtsp://a/1", "user": "me" }), "", ""),
            (json!({ "rate": 4.5 }), "rate = 1.0", "rate = 4.5"),
            (json!({ "rate": null }), "rate = 1.0\n", ""),
            (
                json!({ "url": "rtsp://b" }),
                "'rtsp://a/1' # old\nrate = 1.0\nuser = \"me\"\n",
                "\"rtsp://b\" # old\nrate = 1.0\n",
            ),
            (
                json!({ "regions": [{ "name": "left", "polygon": [[0, 0.5], [1, 0], [1, 1]] },
                                    { "name": "right", "polygon": [[0, 0], [1, 0], [1, 1]] }] }),
                "\"left\" # l\npolygon = [[0, 0], ",
                "\"left\" # l\npolygon = [[0, 0.5], ",
            ),
            (
                json!({ "regions": [{ "name": "left", "polygon": [[0, 0], [1, 0], [1, 1]] }] }),
                "\n[[cameras.north.regions]]\nname = \"right\"\npolygon = [[0, 0], [1, 0], [1, 1.0]] # r\n",
                "",
            ),
        ] {
            let expected = FILE.replacen(old, new, 1);
            assert_eq!(edited(FILE, "north", keys.clone()), expected, "{keys}");
        }
    }

    #[test]
    fn cameras_and_regions_are_added_in_whatever_form_the_file_has() {
        let keys =
            json!({ "url": "rtsp://a", "levels": { "moderate": 1, "dense": 2, "jammed": 3.5 } });
        let line = "url = \"rtsp://a\"";
        for text in ["", "# empty\n", FILE, "cameras = {}\n", "cameras.north.url = \"rtsp://b\"\n"]
        {
            let edited = edited(text, "new gate", keys.clone());
            assert!(edited.contains(line) && edited.contains("new gate"), "{edited}");
            let service = crate::config::parse(&edited, Path::new("counter.toml")).unwrap();
            let camera = service.cameras.iter().find(|camera| camera.name == "new gate").unwrap();
            assert_eq!(camera.regions.levels.jammed, 3.5, "{edited}");
        }
        let region =
            json!({ "regions": [{ "name": "lane", "polygon": [[0, 0], [1, 0], [0.5, 1]] }] });
        for text in [
            FILE,
            "cameras = { north = { url = \"rtsp://a\" } }\n",
            "cameras.north.url = \"rtsp://a\"\n",
            "[cameras]\nnorth = { url = \"rtsp://a\", regions = [] }\n",
            "[cameras.north]\nurl = \"rtsp://a\"\nregions-file = \"none.json\"\n[history]\nfile = \"\"\n",
        ] {
            let edited = edited(text, "north", region.clone());
            let service = crate::config::parse(&edited, Path::new("counter.toml")).unwrap();
            let north = service.cameras.iter().find(|camera| camera.name == "north").unwrap();
            assert_eq!(north.regions.regions.len(), 1, "{edited}");
            assert_eq!(north.regions.regions[0].name, "lane", "{edited}");
        }
        let none = edited(FILE, "north", json!({ "regions": [] }));
        assert!(none.contains("\nregions = []\n") && !none.contains("polygon"), "{none}");
    }

    #[test]
    fn camera_goes_with_its_own_remarks_alone() {
        let mut document = Document::parse(FILE).unwrap();
        assert!(
            document.remove(Section::Cameras, "north")
                && !document.remove(Section::Cameras, "north")
        );
        let text = document.to_string();
        assert_eq!(
            text,
            "# mine\n[defaults] # all\nrate = 2 # slow\n\n[cameras.south]\nurl = \"simulated:street\"\n# the end\n"
        );
        let mut document =
            Document::parse("# all\n# of them\n\n# its\n[cameras.a]\nurl = \"rtsp://a\"\n")
                .unwrap();
        assert!(document.remove(Section::Cameras, "a"));
        assert_eq!(document.to_string().trim(), "# all\n# of them");
    }

    #[test]
    fn file_is_written_through_its_link_and_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("a.toml", &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(write(&folder.path().join("none.toml"), "new").is_err());
    }
}
