//! The counts as GStreamer's own analytics metadata (1.24 and later), for elements that know
//! nothing of ours.
//!
//! The whole frame, and each region's bounding box, is an object: `vehicles` and the region's name.
//! The frame contains the regions. Each object relates to a classification whose class is the level
//! (free, moderate, dense, jammed) with confidence 1, so that `objectdetectionoverlay` labels it.
//! Before the first count there are objects without levels.
//!
//! From GStreamer 1.26 on (feature `analytics-tensors`) there are tensors, f32, row by row:
//! `vehicle-counts`, a row of raw and smoothed count for the frame and then for each region, NaN
//! where nothing was counted yet; and `vehicle-density`, rows x columns, where the density was
//! asked for (`density-map=true`). Where that grid lies in the frame is said only by
//! `VehicleCountMeta`.

use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsRelationMeta, RelTypes};
use vehiclecount_core::report::{FrameCount, FrameReport};

/// Type of the object that is the whole frame.
pub const FRAME: &str = "vehicles";

/// Id of the tensor of counts.
#[cfg(feature = "analytics-tensors")]
pub const COUNTS: &str = "vehicle-counts";

/// Id of the tensor that is the density.
#[cfg(feature = "analytics-tensors")]
pub const DENSITY: &str = "vehicle-density";

type Relations<'a> = gst::MetaRefMut<'a, AnalyticsRelationMeta, gst::meta::Standalone>;

/// Puts `report` on `buffer`, whose picture is `width` by `height` pixels. Relations that are there
/// already stay.
pub fn attach(buffer: &mut gst::BufferRef, report: &FrameReport, width: u32, height: u32) {
    // Fails only where memory does, or an element before us wrote thousands of objects;
    // `VehicleCountMeta` is there all the same.
    if let Err(error) = relations(buffer, report, f64::from(width), f64::from(height)) {
        gst::warning!(
            gst::CAT_DEFAULT,
            "Analytics metadata of camera {} is not whole: {error}",
            report.camera
        );
    }
    #[cfg(feature = "analytics-tensors")]
    tensors(buffer, report);
}

fn relations(
    buffer: &mut gst::BufferRef,
    report: &FrameReport,
    width: f64,
    height: f64,
) -> Result<(), glib::BoolError> {
    // Returns the buffer's own where it has some.
    let mut meta = AnalyticsRelationMeta::add(buffer);
    let frame = object(&mut meta, FRAME, [0.0, 0.0, width, height], report.count)?;
    for region in &report.regions {
        let side = |axis: usize| {
            let corners = || region.polygon.iter().map(move |corner| corner[axis]);
            (corners().fold(f64::INFINITY, f64::min), corners().fold(f64::NEG_INFINITY, f64::max))
        };
        let ((left, right), (top, bottom)) = (side(0), side(1));
        let place = [left * width, top * height, (right - left) * width, (bottom - top) * height];
        let inner = object(&mut meta, &region.name, place, region.count)?;
        meta.set_relation(RelTypes::CONTAIN, frame, inner)?;
        meta.set_relation(RelTypes::IS_PART_OF, inner, frame)?;
    }
    Ok(())
}

/// Adds an object with its level, and returns its number.
fn object(
    meta: &mut Relations,
    name: &str,
    place: [f64; 4],
    count: Option<FrameCount>,
) -> Result<u32, glib::BoolError> {
    let [x, y, width, height] = place.map(|side| side.round() as i32);
    // Names are a configuration's: the number of quarks is bounded.
    let object = meta.add_od_mtd(glib::Quark::from_str(name), x, y, width, height, 1.0)?.id();
    if let Some(count) = count {
        let level = meta.add_one_cls_mtd(1.0, glib::Quark::from_str(count.level.name()))?.id();
        meta.set_relation(RelTypes::RELATE_TO, object, level)?;
    }
    Ok(object)
}

#[cfg(feature = "analytics-tensors")]
fn tensors(buffer: &mut gst::BufferRef, report: &FrameReport) {
    use gst_analytics::{Tensor, TensorDataType, TensorDimOrder, TensorMeta};

    let tensor = |id: &str, values: &[f32], shape: &[usize]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let data = gst::Buffer::from_slice(bytes);
        Tensor::new_simple(
            glib::Quark::from_str(id),
            TensorDataType::Float32,
            data,
            TensorDimOrder::RowMajor,
            shape,
        )
    };
    let counts =
        std::iter::once(report.count).chain(report.regions.iter().map(|region| region.count));
    let values: Vec<f32> = counts
        .flat_map(|count| {
            count.map_or([f32::NAN; 2], |count| [count.raw as f32, count.smoothed as f32])
        })
        .collect();
    let mut all = vec![tensor(COUNTS, &values, &[values.len() / 2, 2])];
    if let Some(map) = &report.density {
        all.push(tensor(DENSITY, &map.cells, &[map.grid.rows, map.grid.columns]));
    }
    TensorMeta::add(buffer).set(all.into());
}

#[cfg(test)]
mod tests {
    use vehiclecount_core::density::{DensityMap, Grid, Rect};
    use vehiclecount_core::region::Level;
    use vehiclecount_core::report::RegionReport;

    use super::*;

    fn report() -> FrameReport {
        let grid = Grid { columns: 3, rows: 2, rect: Rect::FRAME };
        FrameReport {
            camera: "gate".into(),
            sequence: 0,
            unique_id: 0,
            pts: None,
            capture_time: None,
            received_time: 0,
            count: Some(FrameCount { raw: 4.5, smoothed: 4.25, level: Level::Moderate }),
            stale: false,
            confirmed: false,
            age: 0,
            regions: vec![RegionReport {
                name: "left lane".to_owned(),
                polygon: vec![[0.1, 0.5], [0.5, 0.5], [0.3, 1.0]],
                count: None,
            }],
            density: Some(DensityMap { grid, cells: vec![0.5, 1.0, 1.5, 0.0, 1.0, 0.5].into() }),
            model: "m".into(),
            engine: "e".into(),
            inference_time: 0,
        }
    }

    #[test]
    fn frame_contains_its_regions_and_relates_to_its_level() {
        use gst_analytics::{AnalyticsClassificationMtd, AnalyticsODMtd};

        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        attach(buffer.make_mut(), &report(), 200, 100);
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        let objects: Vec<_> = meta.iter::<AnalyticsODMtd>().collect();
        assert_eq!(objects.len(), 2);
        let (frame, lane) = (&objects[0], &objects[1]);
        assert_eq!(frame.obj_type(), Some(glib::Quark::from_str(FRAME)));
        assert_eq!(lane.obj_type(), Some(glib::Quark::from_str("left lane")));
        let place = lane.location().unwrap();
        assert_eq!((place.x, place.y, place.w, place.h), (20, 50, 80, 50));
        assert_eq!(meta.relation(frame.id(), lane.id()), RelTypes::CONTAIN);
        assert_eq!(meta.relation(lane.id(), frame.id()), RelTypes::IS_PART_OF);
        let levels: Vec<_> = meta
            .iter_direct_related::<AnalyticsClassificationMtd>(frame.id(), RelTypes::RELATE_TO)
            .collect();
        assert_eq!(levels.len(), 1);
        assert_eq!(levels[0].quark(0), glib::Quark::from_str("moderate"));
        // The lane was not counted yet.
        assert_eq!(
            meta.iter_direct_related::<AnalyticsClassificationMtd>(lane.id(), RelTypes::RELATE_TO)
                .count(),
            0
        );
    }

    #[cfg(feature = "analytics-tensors")]
    #[test]
    fn tensors_hold_counts_and_a_density_that_sums_to_the_count() {
        use gst_analytics::TensorMeta;

        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        attach(buffer.make_mut(), &report(), 200, 100);
        let meta = buffer.meta::<TensorMeta>().unwrap();
        let values = |id: &str| {
            let tensor = &meta.as_slice()[meta.index_from_id(glib::Quark::from_str(id)) as usize];
            let map = tensor.data().map_readable().unwrap();
            let values: Vec<_> =
                map.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect();
            (tensor.dims().to_vec(), values)
        };
        let (shape, counts) = values(COUNTS);
        assert_eq!(shape, [2, 2]);
        assert_eq!(counts[..2], [4.5, 4.25]);
        assert!(counts[2].is_nan() && counts[3].is_nan());
        let (shape, cells) = values(DENSITY);
        assert_eq!(shape, [2, 3]);
        assert_eq!(cells.iter().sum::<f32>(), 4.5);
    }
}
