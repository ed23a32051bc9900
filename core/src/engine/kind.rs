//! What is known of each engine before it is opened, from the table [`engines!`](crate::engines):
//! names, help texts, the order of preference.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A GPU.
    Gpu,
}

/// What is known of an engine before it is opened.
#[derive(Clone, Copy, Debug)]
pub struct EngineEntry {
    /// Which engine; never `Auto`.
    pub kind: EngineKind,
    /// The name used in properties, manifests and messages.
    pub name: &'static str,
    /// What it is, for help texts.
    pub title: &'static str,
    /// What it runs on.
    pub device: Device,
    /// Whether it runs networks: `auto` tries those that do.
    pub runs_networks: bool,
}

/// Makes [`EngineKind`] and [`ENGINES`] of the table.
macro_rules! kinds {
    ($($kind:ident = $number:tt, $module:ident, $name:tt, $device:ident, $runs:ident,
        $title:tt;)*) => {
        /// The engines that can be asked for by name.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EngineKind {
            /// The fastest that opens.
            #[default]
            #[serde(rename = "auto")]
            Auto,
            $(
                #[doc = concat!($title, ".")]
                #[serde(rename = $name)]
                $kind,
            )*
        }

        /// Every engine, in the order of the table.
        pub static ENGINES: [EngineEntry; [$($name),*].len()] = [$(
            EngineEntry {
                kind: EngineKind::$kind,
                name: $name,
                title: $title,
                device: Device::$device,
                runs_networks: runs_networks!($runs),
            },
        )*];
    };
}

/// A column of the table.
macro_rules! runs_networks {
    (network) => {
        true
    };
    (script) => {
        false
    };
}

crate::engines!(kinds);

/// The name of [`EngineKind::Auto`].
const AUTO: &str = "auto";

/// No engine has that name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no engine is called {name:?}: it is one of {}", EngineKind::names())]
pub struct UnknownEngine {
    /// The name asked for.
    pub name: String,
}

impl Device {
    /// The largest batch that suits it: on a processor a batch gains nothing, and one frame at a
    /// time has the shortest way.
    pub fn batch_size(self) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Gpu => 16,
        }
    }
}

impl EngineKind {
    /// The engines that run networks, in the order of [`ENGINES`].
    pub fn networks() -> impl DoubleEndedIterator<Item = Self> + Clone {
        ENGINES.iter().filter(|entry| entry.runs_networks).map(|entry| entry.kind)
    }

    /// What `auto` tries, in this order. Elsewhere than on x86-64, OpenVINO is the last: the
    /// portable engine is the faster one there.
    pub fn preference() -> Vec<Self> {
        let mut kinds: Vec<_> = Self::networks().collect();
        if cfg!(not(target_arch = "x86_64")) {
            kinds.sort_by_key(|kind| *kind == Self::OpenVino);
        }
        kinds
    }

    /// Its entry in the table; `None` of `auto`.
    pub fn entry(self) -> Option<&'static EngineEntry> {
        ENGINES.iter().find(|entry| entry.kind == self)
    }

    /// The name used in properties, manifests and messages.
    pub fn name(self) -> &'static str {
        self.entry().map_or(AUTO, |entry| entry.name)
    }

    /// What it is, for help texts.
    pub fn title(self) -> &'static str {
        self.entry().map_or("The fastest that opens", |entry| entry.title)
    }

    /// What it runs on; `None` of `auto`, which may be either.
    pub fn device(self) -> Option<Device> {
        self.entry().map(|entry| entry.device)
    }

    /// Every name, for messages: "auto, a, b and c".
    pub fn names() -> String {
        let mut names: Vec<_> =
            [AUTO].into_iter().chain(ENGINES.iter().map(|entry| entry.name)).collect();
        let last = names.pop().unwrap_or_default();
        format!("{} and {last}", names.join(", "))
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let mut all = [Self::Auto].into_iter().chain(ENGINES.iter().map(|entry| entry.kind));
        all.find(|kind| kind.name() == name).ok_or_else(|| UnknownEngine { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests_and_of_the_command_line() {
        for kind in [EngineKind::Auto].into_iter().chain(ENGINES.map(|entry| entry.kind)) {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).expect("a name"), format!("{:?}", kind.name()));
        }
        let names = EngineKind::names();
        assert!(names.starts_with("auto, ") && names.ends_with(" and scripted"), "{names}");
        let error = "tensorflow".parse::<EngineKind>().expect_err("no engine of that name");
        assert_eq!(
            error.to_string(),
            format!("no engine is called \"tensorflow\": it is one of {}", EngineKind::names())
        );
    }

    #[test]
    fn gpus_come_first_and_scripts_are_never_chosen() {
        let preference = EngineKind::preference();
        assert_eq!(preference[0], EngineKind::TensorRt);
        assert!(
            !preference.contains(&EngineKind::Scripted) && preference.len() == ENGINES.len() - 1
        );
    }
}
