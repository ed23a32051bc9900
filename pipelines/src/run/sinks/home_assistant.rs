//! What Home Assistant finds by itself: for each camera a device whose sensors read the camera's
//! state. <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>

use serde_json::{Value, json};
use vehiclecount_core::publish::sink::mqtt::level;

use crate::config::Camera;

/// Topics and payloads that tell Home Assistant, which looks under `prefix`, of the sensors of a
/// camera: vehicles and level of the frame and of each region.
pub fn sensors(prefix: &str, topic: &str, camera: &Camera) -> Vec<(String, String)> {
    let device = identifier(&format!("{topic}/{}", camera.name));
    let base = format!("{topic}/{}", level(&camera.name));
    let mut sensors = Vec::new();
    let mut add = |object: String, name: String, mut config: Value| {
        let common = json!({
            "name": name,
            "unique_id": format!("{device}_{object}"),
            "state_topic": format!("{base}/state"),
            "availability_mode": "all",
            "availability": [
                { "topic": format!("{topic}/status") },
                { "topic": format!("{base}/availability") },
            ],
            "device": {
                "identifiers": [&device],
                "name": camera.name,
                "manufacturer": "vehiclecount",
                "model": "camera",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
        });
        if let (Some(config), Value::Object(common)) = (config.as_object_mut(), common) {
            config.extend(common);
        }
        let topic = format!("{prefix}/sensor/{device}/{object}/config");
        sensors.push((topic, config.to_string()));
    };
    for region in std::iter::once(None).chain(camera.regions.regions.iter().map(Some)) {
        let (object, name) = match region {
            Some(region) => {
                (format!("region_{}_", identifier(&region.name)), format!("{} ", region.name))
            }
            None => Default::default(),
        };
        // A region is found by its name: its place among the others may change.
        let template = |field: &str| match region.map(|region| Value::from(region.name.as_str())) {
            Some(name) => format!(
                "{{{{ value_json.regions | selectattr('name', 'eq', {name}) | \
                 map(attribute='{field}') | first }}}}"
            ),
            None => format!("{{{{ value_json.{field} }}}}"),
        };
        let vehicles = json!({
            "value_template": template("smoothed"),
            "state_class": "measurement",
            "unit_of_measurement": "vehicles",
            "suggested_display_precision": 1,
            "icon": "mdi:car-multiple",
        });
        add(format!("{object}vehicles"), format!("{name}vehicles"), vehicles);
        let levels = json!({
            "value_template": template("level"),
            "device_class": "enum",
            "options": ["free", "moderate", "dense", "jammed"],
            "icon": "mdi:traffic-light",
        });
        add(format!("{object}level"), format!("{name}level"), levels);
    }
    sensors
}

/// `text` in the letters that Home Assistant takes in ids; others are written as their number.
fn identifier(text: &str) -> String {
    let mut identifier = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || letter == '-' {
            identifier.push(letter);
        } else {
            identifier.push_str(&format!("_{:x}_", u32::from(letter)));
        }
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_and_regions_are_sensors_of_one_device() {
        let text = "[cameras.\"north gate\"]\nurl = \"simulated:street\"\n\
                    regions = [{ name = \"left\", polygon = [[0, 0], [1, 0], [1, 1]] }]\n";
        let service = crate::config::parse(text, std::path::Path::new("counter.toml")).unwrap();
        let sensors = sensors("homeassistant", "site", &service.cameras[0]);
        assert_eq!(sensors.len(), 4);
        let (topic, payload) = &sensors[2];
        let device = "site_2f_north_20_gate";
        assert_eq!(topic, &format!("homeassistant/sensor/{device}/region_left_vehicles/config"));
        let payload: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(payload["name"], "left vehicles");
        assert_eq!(payload["state_topic"], "site/north gate/state");
        assert_eq!(
            payload["value_template"],
            "{{ value_json.regions | selectattr('name', 'eq', \"left\") | \
             map(attribute='smoothed') | first }}"
        );
        assert_eq!(payload["availability"][0]["topic"], "site/status");
        assert_eq!(payload["device"]["identifiers"][0], device);
        let ids: std::collections::BTreeSet<_> = sensors
            .iter()
            .map(|(_, payload)| {
                serde_json::from_str::<Value>(payload).unwrap()["unique_id"].to_string()
            })
            .collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
    }
}
