//! The schema of the service's configuration.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use vehicle_count::config;

#[test]
fn the_schema_in_the_documents_is_the_one_that_the_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/counter.schema.json");
    let schema = config::schema();
    let printed = format!("{schema:#}\n");
    if std::env::var_os("VEHICLECOUNT_BLESS").is_some() {
        fs::write(&path, &printed).unwrap();
    }
    let reviewed = fs::read_to_string(&path).unwrap_or_default();
    assert!(printed == reviewed, "VEHICLECOUNT_BLESS=1 writes {} anew", path.display());
    assert_eq!(schema["$defs"]["CameraTable"]["properties"]["rate"]["default"], 1.0);
}
