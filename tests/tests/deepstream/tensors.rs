//! Counts from tensors that nvinfer left: each frame gets its own.

use super::*;

#[test]
fn every_frame_of_a_partly_filled_batch_gets_its_own_source_s_count() {
    let standin = standin();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sources.txt");
    std::fs::write(
        &config,
        "[property]\nenable=1\nconfig-width=640\nconfig-height=320\n\
         [roi-filtering-stream-5]\nenable=1\nroi-left=0;0;320;0;320;320;0;320\n\
         [vehiclecount-stream-5]\ncamera-id=south\nscale-factor=2\n",
    )
    .unwrap();
    let stage = Stage::new(&format!("config-file-path={} unique-id=7", config.display()));
    let frames = [
        FrameSpec::new(0, 0, 2, &[1.0, 0.0]),
        FrameSpec {
            pts: 40,
            ntp: 1_700_000_000_000_000_000,
            ..FrameSpec::new(5, 1, 2, &[1.5, 1.0])
        },
        FrameSpec::new(2, 2, 2, &[0.0, 3.25]),
    ];
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &frames));
    let seen = look(&passed);
    assert_eq!(seen.iter().map(|frame| frame.source_id).collect::<Vec<_>>(), [0, 5, 2]);
    assert_eq!(seen.iter().map(count).collect::<Vec<_>>(), [1.0, 5.0, 3.25]);
    assert_eq!(seen.iter().map(|frame| frame.misc[0]).collect::<Vec<_>>(), [1000, 5000, 3250]);
    assert!(
        seen.iter()
            .all(|frame| frame.inferred && frame.lines.is_empty() && frame.messages.is_empty())
    );
    let report = seen[1].report.as_ref().unwrap();
    assert_eq!((&*report.camera, report.unique_id), ("south", 7));
    assert_eq!((report.pts, report.capture_time), (Some(40), Some(1_700_000_000_000_000_000)));
    assert_eq!(
        (report.regions[0].name.as_str(), report.regions[0].count.unwrap().raw),
        ("left", 3.0)
    );
    assert_eq!(report.density.as_ref().unwrap().cells[..], [1.5, 1.0]);
    drop(passed);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}

#[test]
fn log_tells_what_is_decided_about_each_frame() {
    let standin = standin();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = lines.clone();
    let listener = gst::log::add_log_function(
        move |category, _level, _file, _function, _line, _object, message| {
            if category.name() == "vehiclecounternvmm" {
                heard.lock().unwrap().push(message.get().unwrap().to_string());
            }
        },
    );
    gst::log::set_threshold_for_name("vehiclecounternvmm", gst::DebugLevel::Log);
    let stage = Stage::new("interval=1");
    for number in 0..2 {
        let frames = [FrameSpec { pts: number * 40, ..FrameSpec::new(3, 0, 2, &[1.5, 1.0]) }];
        drop(stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
    }
    let broken = FrameSpec { pts: 80, ..FrameSpec::new(3, 0, 2, &[f32::NAN, 1.0]) };
    drop(stage.pass(standin.buffer(&BatchSpec::default(), &[broken])));
    stage.end();
    gst::log::set_threshold_for_name("vehiclecounternvmm", gst::DebugLevel::None);
    gst::log::remove_log_function(listener);
    let lines: Vec<_> =
        lines.lock().unwrap().iter().filter(|line| line.starts_with("camera-3")).cloned().collect();
    let expected = [
        "camera-3: counted, from the tensor of nvinfer",
        "camera-3, frame 0: leaves with 2.50, age 0:00:00",
        "camera-3, frame 1: leaves with 2.50, age 0:00:00",
        "camera-3: uncounted, ",
        "camera-3, frame 2: leaves with 2.50, stale, age 0:00:00",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?}, not {expected:?}");
    }
}

#[test]
fn half_precision_counts_like_single() {
    let standin = standin();
    let stage = Stage::new("");
    let cells = [0.0f32, 0.5, 2.25, 0.125];
    let values = cells.iter().flat_map(|&cell| half(cell)).collect();
    let frame = FrameSpec { data_type: 1, values, layers: 2, ..FrameSpec::new(0, 0, 2, &cells) };
    assert_eq!(
        count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])))[0]),
        2.875
    );
    stage.end();
}

#[test]
fn borders_that_nvinfer_added_lie_outside_the_frame() {
    let standin = standin();
    let stage = Stage::new("");
    // A picture twice as wide as high in a square network: the lower half is border, or a quarter
    // above and below.
    let boxed = |symmetric| {
        let frame = FrameSpec {
            aspect: 1,
            symmetric,
            network: (64, 64),
            ..FrameSpec::new(0, 0, 1, &[0.0; 4])
        };
        let seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &[frame])));
        let rect = seen[0].report.as_ref().unwrap().density.as_ref().unwrap().grid.rect;
        (rect.x, rect.y, rect.width, rect.height)
    };
    assert_eq!(boxed(0), (0.0, 0.0, 1.0, 2.0));
    // Before 7.0 nvinfer does not tell.
    assert_eq!(
        boxed(1),
        if version() >= (7, 0) { (0.0, -0.5, 1.0, 2.0) } else { (0.0, 0.0, 1.0, 2.0) }
    );
    stage.end();
}

#[test]
fn place_of_a_density_that_cannot_be_known_ends_the_stream_with_both_figures() {
    let standin = standin();
    let good = FrameSpec {
        network: (64, 64),
        aspect: 1,
        symmetric: 1,
        ..FrameSpec::new(0, 0, 1, &[1.0; 4])
    };
    let told = BatchSpec { told: [128, 128], ..BatchSpec::default() };
    let error = |batch: &BatchSpec, frame: FrameSpec| {
        let stage = Stage::new("");
        let error = stage.fail(standin.buffer(batch, &[frame]));
        stage.end();
        error
    };
    let resized = error(&told, good.clone());
    assert!(
        resized.starts_with("camera-0: ") && resized.contains("directly behind nvinfer"),
        "{resized}"
    );
    assert!(
        resized.contains("the picture has 64x32 pixels, and its metadata says 128x128"),
        "{resized}"
    );
    let small = error(&BatchSpec::default(), FrameSpec { network: (0, 3), ..good.clone() });
    assert!(
        small.contains("1x4 cells, and the network's input is said to be 0x3 pixels"),
        "{small}"
    );
    let odd = error(&BatchSpec::default(), FrameSpec { aspect: 77, ..good.clone() });
    assert!(odd.contains("told as 77, where 0 or 1 was expected"), "{odd}");
    let layout = error(&BatchSpec { mapped_size: 80, ..BatchSpec::default() }, good.clone());
    assert!(layout.contains("80 bytes") && layout.contains("doctor --deepstream"), "{layout}");
    // A stretched picture fills the input whatever its size.
    let stage = Stage::new("");
    assert_eq!(
        count(&look(&stage.pass(standin.buffer(&told, &[FrameSpec { aspect: 0, ..good }])))[0]),
        4.0
    );
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}
