//! `VehicleCountMeta`: what was counted in a frame.

use std::sync::{Arc, LazyLock};

use vehiclecount_core::density::{DensityMap, Grid, Rect};
use vehiclecount_core::region::{Level, Polygon};
use vehiclecount_core::report::{FrameCount, FrameReport, RegionReport};

/// Name of the metadata, and of the structure inside.
pub const NAME: &str = "VehicleCountMeta";

// No tags: positions are given in 0..1 of the frame, so the metadata stays true when the picture is
// converted or scaled as a whole.
static REGISTERED: LazyLock<()> = LazyLock::new(|| gst::meta::CustomMeta::register(NAME, &[]));

/// Makes the metadata known to GStreamer; needed before the first call of anything else here.
pub fn register() {
    LazyLock::force(&REGISTERED);
}

/// Puts `report` on `buffer`, which may carry one of each counter (`unique-id`).
pub fn attach(buffer: &mut gst::BufferRef, report: &FrameReport) {
    register();
    let mut meta = gst::meta::CustomMeta::add(buffer, NAME).expect("the metadata is registered");
    write(meta.mut_structure(), report);
}

/// The first count on `buffer`, of any counter.
pub fn read(buffer: &gst::BufferRef) -> Option<FrameReport> {
    all(buffer).next()
}

/// The counts of all counters that `buffer` passed, in that order.
pub fn all(buffer: &gst::BufferRef) -> impl Iterator<Item = FrameReport> + '_ {
    buffer
        .iter_meta::<gst::Meta>()
        .filter_map(|meta| {
            meta.try_as_custom_meta()
                .filter(|meta| meta.has_name(NAME))
                .map(|meta| parse(meta.structure()))
        })
        .flatten()
}

fn write(structure: &mut gst::StructureRef, report: &FrameReport) {
    structure.set("camera", &*report.camera);
    structure.set("sequence", report.sequence);
    structure.set("unique-id", report.unique_id);
    if let Some(pts) = report.pts {
        structure.set("pts", pts);
    }
    if let Some(time) = report.capture_time {
        structure.set("capture-time", time);
    }
    structure.set("received-time", report.received_time);
    write_count(structure, report.count);
    structure.set("stale", report.stale);
    structure.set("confirmed", report.confirmed);
    structure.set("age", report.age);
    let regions = report.regions.iter().map(|region| {
        let mut entry = gst::Structure::new_empty("region");
        entry.set("name", &region.name);
        entry.set("polygon", gst::Array::new(region.polygon.iter().flatten()));
        write_count(&mut entry, region.count);
        entry
    });
    structure.set("regions", gst::Array::new(regions));
    if let Some(map) = &report.density {
        let Grid { columns, rows, rect } = map.grid;
        structure.set("density", bytes(map));
        structure.set("density-columns", columns as u32);
        structure.set("density-rows", rows as u32);
        structure.set("density-x", rect.x);
        structure.set("density-y", rect.y);
        structure.set("density-width", rect.width);
        structure.set("density-height", rect.height);
    }
    structure.set("model", &*report.model);
    structure.set("engine", &*report.engine);
    structure.set("inference-time", report.inference_time);
}

/// The cells in little-endian order. They are shared with the map where that is the machine's own.
fn bytes(map: &DensityMap) -> glib::Bytes {
    struct Shared(Arc<[f32]>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    if cfg!(target_endian = "little") {
        return glib::Bytes::from_owned(Shared(map.cells.clone()));
    }
    let bytes: Vec<u8> = map.cells.iter().flat_map(|cell| cell.to_le_bytes()).collect();
    glib::Bytes::from_owned(bytes)
}

fn write_count(structure: &mut gst::StructureRef, count: Option<FrameCount>) {
    if let Some(FrameCount { raw, smoothed, level }) = count {
        structure.set("count", raw);
        structure.set("count-smoothed", smoothed);
        structure.set("level", level.name());
    }
}

/// `None` where a field that every count has is missing: other metadata of the same name.
fn parse(structure: &gst::StructureRef) -> Option<FrameReport> {
    let regions = structure.get::<gst::ArrayRef>("regions").ok()?;
    let regions = regions.as_slice().iter().map(|entry| {
        let entry = entry.get::<gst::Structure>().ok()?;
        let corners = entry.get::<gst::ArrayRef>("polygon").ok()?;
        let corners: Vec<f64> =
            corners.as_slice().iter().map(|value| value.get().ok()).collect::<Option<_>>()?;
        let polygon: Polygon =
            corners.chunks_exact(2).map(|corner| [corner[0], corner[1]]).collect();
        Some(RegionReport { name: entry.get("name").ok()?, polygon, count: parse_count(&entry) })
    });
    Some(FrameReport {
        camera: structure.get::<&str>("camera").ok()?.into(),
        sequence: structure.get("sequence").ok()?,
        unique_id: structure.get("unique-id").ok()?,
        pts: structure.get("pts").ok(),
        capture_time: structure.get("capture-time").ok(),
        received_time: structure.get("received-time").ok()?,
        count: parse_count(structure),
        stale: structure.get("stale").ok()?,
        confirmed: structure.get("confirmed").ok()?,
        age: structure.get("age").ok()?,
        regions: regions.collect::<Option<_>>()?,
        density: parse_density(structure),
        model: structure.get::<&str>("model").ok()?.into(),
        engine: structure.get::<&str>("engine").ok()?.into(),
        inference_time: structure.get("inference-time").ok()?,
    })
}

fn parse_count(structure: &gst::StructureRef) -> Option<FrameCount> {
    let level = Level::from_name(structure.get::<&str>("level").ok()?)?;
    Some(FrameCount {
        raw: structure.get("count").ok()?,
        smoothed: structure.get("count-smoothed").ok()?,
        level,
    })
}

fn parse_density(structure: &gst::StructureRef) -> Option<DensityMap> {
    let side = |name: &str| structure.get::<u32>(name).ok().map(|side| side as usize);
    let real = |name: &str| structure.get::<f64>(name).ok();
    let grid = Grid {
        columns: side("density-columns")?,
        rows: side("density-rows")?,
        rect: Rect {
            x: real("density-x")?,
            y: real("density-y")?,
            width: real("density-width")?,
            height: real("density-height")?,
        },
    };
    let bytes = structure.get::<glib::Bytes>("density").ok()?;
    let (cells, rest) = bytes.as_chunks::<4>();
    let fits = rest.is_empty() && cells.len() == grid.len();
    fits.then(|| DensityMap {
        grid,
        cells: cells.iter().map(|cell| f32::from_le_bytes(*cell)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> FrameReport {
        let grid =
            Grid { columns: 2, rows: 1, rect: Rect { x: -0.25, y: 0.0, width: 1.5, height: 1.0 } };
        FrameReport {
            camera: "north gate".into(),
            sequence: 7,
            unique_id: 3,
            pts: Some(40),
            capture_time: Some(1_700_000_000_000_000_000),
            received_time: 1_700_000_000_250_000_000,
            count: Some(FrameCount { raw: 4.5, smoothed: 4.25, level: Level::Moderate }),
            stale: true,
            confirmed: false,
            age: 80_000_000,
            regions: vec![RegionReport {
                name: "left".to_owned(),
                polygon: vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]],
                count: None,
            }],
            density: Some(DensityMap { grid, cells: vec![1.5, 3.0].into() }),
            model: "m".into(),
            engine: "openvino".into(),
            inference_time: 12_000_000,
        }
    }

    #[test]
    fn report_survives_the_way_through_a_buffer_and_its_copy() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        attach(buffer.make_mut(), &report());
        assert_eq!(read(&buffer), Some(report()));
        assert_eq!(read(&buffer.copy()), Some(report()));
    }

    #[test]
    fn two_counters_leave_two_reports() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let second = FrameReport {
            unique_id: 4,
            stale: false,
            confirmed: true,
            density: None,
            capture_time: None,
            count: None,
            ..report()
        };
        attach(buffer.make_mut(), &report());
        attach(buffer.make_mut(), &second);
        assert_eq!(all(&buffer).collect::<Vec<_>>(), [report(), second]);
    }
}
