//! Which properties the user has set, so that a preset leaves them alone.

use std::collections::BTreeSet;

/// Properties that a preset chooses, where they are not set themselves.
pub const CHOSEN: [&str; 6] =
    ["model", "input-size", "precision", "batch-size", "batched-push-timeout", "max-latency"];

/// Names of properties that were set by the user.
#[derive(Clone, Debug, Default)]
pub struct ExplicitProperties(BTreeSet<String>);

impl ExplicitProperties {
    /// `property` was set.
    pub fn add(&mut self, property: &str) {
        if CHOSEN.contains(&property) {
            self.0.insert(property.to_owned());
        }
    }

    /// Whether `property` was set.
    pub fn has(&self, property: &str) -> bool {
        self.0.contains(property)
    }
}
