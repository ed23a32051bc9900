//! Texts that may be secret.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A text that stands in the configuration itself, in an environment variable or in a file. `Debug`
/// shows where it is kept, never what it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// The name of an environment variable.
    Env(String),
    /// A file that holds the text and perhaps a line break after it.
    File(PathBuf),
}

impl Secret {
    /// The text. A relative path begins at `folder`.
    ///
    /// # Errors
    /// Why there is none, in words without the text.
    pub fn get(&self, folder: &Path) -> Result<String, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set"))?,
            Self::File(path) => {
                let path = folder.join(path);
                let read = std::fs::read_to_string(&path);
                let text = read.map_err(|error| format!("the file {}: {error}", path.display()))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        };
        match (text.is_empty(), self) {
            (false, _) => Ok(text),
            (true, Self::Text(_)) => Err("it is empty".to_owned()),
            (true, Self::Env(name)) => Err(format!("the environment variable {name} is empty")),
            (true, Self::File(path)) => {
                Err(format!("the file {} is empty", folder.join(path).display()))
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(***)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

const FORM: &str = "a text in quotes, { env = \"NAME\" } or { file = \"PATH\" }";

/// An error names the expected form and never the value, as serde's own would.
struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(format!("a value without quotes, expected {FORM}")))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
        let table = SecretSource::deserialize(MapAccessDeserializer::new(map))?;
        match (table.env, table.file) {
            (Some(name), None) => Ok(Secret::Env(name)),
            (None, Some(path)) => Ok(Secret::File(path)),
            _ => Err(de::Error::custom(format!("a table with one key, expected {FORM}"))),
        }
    }
}

/// The forms of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretSource {
    env: Option<String>,
    file: Option<PathBuf>,
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let table = |key: &str, what: &str| {
            json_schema!({
                "type": "object",
                "properties": { key: { "type": "string", "description": what } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "The text itself, or where it is kept.",
            "anyOf": [
                { "type": "string" },
                table("env", "Name of an environment variable that holds it."),
                table("file", "Path of a file that holds it, relative to the configuration's folder."),
            ],
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form)
    }
}
