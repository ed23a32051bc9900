//! Pictures of Jetson, which are counted in copies.

use super::engine::{engine_stage, in_frame, picture};
use super::*;

/// One of Jetson's picture buffers, block-linear, as its decoder leaves it.
fn jetson(color_format: i32) -> BatchSpec {
    BatchSpec { color_format, memory_type: 4, layout: 1, ..BatchSpec::default() }
}

#[test]
fn pictures_that_cannot_be_mapped_are_counted_in_a_copy() {
    let standin = standin();
    let (transforms, _) = standin.transforms();
    // Block-linear, and pitch-linear of a format that only the transform reads: NV12 of BT.2020.
    for (batch, white) in [
        (jetson(19), 255),
        (jetson(6), 235),
        (jetson(33), 235),
        (BatchSpec { layout: 0, ..jetson(36) }, 235),
    ] {
        let stage = engine_stage("copies");
        for _ in 0..3 {
            let frames = [
                picture(7, 2, white),
                picture(3, 0, if white == 255 { 51 } else { 60 }),
                picture(5, 1, 0),
            ];
            let seen = look(&stage.pass(standin.buffer(&batch, &frames)));
            assert_eq!(
                seen.iter().map(in_frame).collect::<Vec<_>>(),
                [32.0, 6.4, 0.0],
                "{batch:?}"
            );
        }
        // One after the other is read, so one surface serves them all.
        assert_eq!(standin.live_surfaces(), (1, 0));
        stage.end();
    }
    assert_eq!(standin.transforms(), (transforms + 36, 0));
    assert_eq!((standin.live_surfaces(), standin.mapped(), standin.live_batches()), ((0, 0), 0, 0));
}

#[test]
fn copy_that_never_worked_ends_the_stream_and_one_that_did_costs_a_count() {
    let standin = standin();
    let frame = || [picture(4, 0, 255)];
    let stage = engine_stage("never");
    standin.limit_transforms(0, -2);
    let error = stage.fail(standin.buffer(&jetson(6), &frame()));
    standin.limit_transforms(-1, 0);
    stage.end();
    assert!(
        error.starts_with("camera-4: NvBufSurfTransform says -2 (failed on the way)"),
        "{error}"
    );
    assert!(
        error.contains("64x32, block-linear, colour format 6") && error.contains("nvvideoconvert"),
        "{error}"
    );

    let stage = engine_stage("never");
    standin.limit_surfaces(0, -1, 1);
    let error = stage.fail(standin.buffer(&jetson(6), &frame()));
    standin.limit_surfaces(-1, -1, 1);
    stage.end();
    assert!(
        error.starts_with("camera-4: NvBufSurfaceCreate says -1: no memory for a copy"),
        "{error}"
    );

    let stage = engine_stage("once");
    let pass = |red| {
        let report = look(
            &stage.pass(standin.buffer(&jetson(19), &[picture(4, 0, red), picture(5, 1, 255)])),
        );
        report
            .into_iter()
            .map(|seen| (in_frame(&seen), seen.report.unwrap().stale))
            .collect::<Vec<_>>()
    };
    assert_eq!(pass(255), [(32.0, false), (32.0, false)]);
    standin.limit_transforms(0, -1);
    assert_eq!(pass(0), [(32.0, true), (32.0, true)]);
    assert_eq!(pass(0), [(32.0, true), (32.0, true)]);
    standin.limit_transforms(-1, 0);
    let warnings =
        [stage.message(gst::MessageType::Warning), stage.message(gst::MessageType::Warning)]
            .map(Option::unwrap);
    assert!(
        warnings[0].starts_with("camera-4: NvBufSurfTransform says -1 (not supported)"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("camera-5: ") && warnings[1].contains("keep the last count"),
        "{warnings:?}"
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    assert_eq!(pass(0), [(0.0, false), (32.0, false)]);
    assert_eq!((stage.figure(4, "failed"), stage.figure(5, "failed")), (2, 2));
    stage.end();
    assert_eq!((standin.live_surfaces(), standin.mapped(), standin.live_batches()), ((0, 0), 0, 0));
}

#[test]
fn copies_are_bounded_and_go_back_when_they_have_been_read() {
    let standin = standin();
    let api = Api::get().unwrap();
    let batch = BatchSpec { room: 1, ..jetson(19) };
    let buffer = standin.buffer(&batch, &[picture(0, 0, 9)]);
    let larger = standin.buffer(&BatchSpec { width: 128, ..batch }, &[picture(0, 0, 9)]);
    let (surfaces, others) =
        (Surfaces::of(&buffer, api.version).unwrap(), Surfaces::of(&larger, api.version).unwrap());
    let mut converter = Converter::new(None);
    let mut copy = |surfaces: &Surfaces<'_>| surfaces.picture(0, &mut converter);
    let (first, second) = (copy(&surfaces).unwrap(), copy(&surfaces).unwrap());
    let Err(PictureError::Now(reason)) = copy(&surfaces) else { panic!("a third of two surfaces") };
    assert_eq!(reason, "all 2 surfaces for copies of pictures are still with the engine");
    drop(first);
    assert!(copy(&surfaces).is_ok());
    // A picture of another size takes the place of a surface that is free.
    let third = copy(&others).unwrap();
    assert_eq!((third.format.width, standin.live_surfaces()), (128, (2, 0)));
    assert!(copy(&surfaces).is_err());
    drop(converter);
    assert_eq!(standin.live_surfaces(), (2, 0));
    drop((second, third));
    assert_eq!(standin.live_surfaces(), (0, 0));
    drop((surfaces, others));
}

#[test]
fn layout_that_does_not_fit_ends_the_stream_with_both_figures() {
    let standin = standin();
    let error = |batch: BatchSpec| {
        let stage = engine_stage("layout");
        let error = stage.fail(standin.buffer(&batch, &[picture(0, 0, 9), picture(1, 1, 9)]));
        stage.end();
        error
    };
    let (size, other, stride) = if version().0 >= 8 { (72, 64, 384) } else { (64, 72, 416) };
    let mixed = error(BatchSpec { mapped_size: other, ..BatchSpec::default() });
    let (major, minor) = version();
    assert!(
        mixed.contains(&format!("{other} bytes")) && mixed.contains(&format!("{size}, the size")),
        "{mixed}"
    );
    assert!(mixed.contains(&format!("DeepStream {major}.{minor}")), "{mixed}");
    assert!(error(BatchSpec { mapped_size: 56, ..BatchSpec::default() }).contains("56 bytes"));
    let second = error(BatchSpec { stride, ..BatchSpec::default() });
    assert!(
        second.contains("picture 1 of the batch") && second.contains("doctor --deepstream"),
        "{second}"
    );
    let overfull = error(BatchSpec { filled: 9, ..BatchSpec::default() });
    assert!(overfull.contains("of 9 pictures with room for 4"), "{overfull}");
}
