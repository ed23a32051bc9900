//! What is missing or wrong: it is named, with the remedy.

use super::*;

#[test]
fn tensors_of_another_nvinfer_are_left_alone_and_named() {
    let standin = standin();
    let stage = Stage::new("infer-on-gie-id=4");
    let foreign = FrameSpec { unique_id: 9, ..FrameSpec::new(0, 0, 1, &[4.0]) };
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &[foreign]));
    assert_eq!(look(&passed)[0].report.as_ref().unwrap().count, None);
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(warning.contains("{9}, none of 4: set infer-on-gie-id"), "{warning}");
    // Among two, ours is found.
    let both = FrameSpec { unique_id: 4, tensors: 2, ..FrameSpec::new(0, 0, 1, &[2.0]) };
    assert_eq!(count(&look(&stage.pass(standin.buffer(&BatchSpec::default(), &[both])))[0]), 2.0);
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn pipeline_without_any_tensor_says_what_nvinfer_needs() {
    let standin = standin();
    let stage = Stage::new("");
    for _ in 0..101 {
        let frame = FrameSpec { tensors: 0, ..FrameSpec::new(0, 0, 1, &[0.0]) };
        stage.pass(standin.buffer(&BatchSpec::default(), &[frame]));
    }
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(
        warning.contains("output-tensor-meta=1") && warning.contains("network-type=100"),
        "{warning}"
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
}

#[test]
fn counts_survive_demux_and_copies_after_the_batch_is_gone() {
    let standin = standin();
    let stage = Stage::new(
        "message-blob=true osd-mode=counts regions=\"{\\\"regions\\\":[{\\\"name\\\":\\\"r\\\",\\\"polygon\\\":[[0,0],[1,0],[1,1]]}]}\"",
    );
    let frames = [FrameSpec::new(0, 0, 2, &[1.0, 0.0]), FrameSpec::new(1, 1, 2, &[2.0, 5.0])];
    let passed = stage.pass(standin.buffer(&BatchSpec::default(), &frames));
    let whole = look(&passed);
    let demuxed = [standin.demux(&passed, 1, true), standin.demux(&passed, 1, false)];
    let copied = passed.copy();
    drop(passed);
    for buffer in &demuxed {
        let seen = look(buffer);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].report, whole[1].report);
        assert_eq!((&seen[0].messages, &seen[0].texts), (&whole[1].messages, &whole[1].texts));
    }
    assert_eq!(look(&copied)[0].report, whole[0].report);
    assert_eq!(look(&copied.copy())[1].report, whole[1].report);
    drop((demuxed, copied));
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn exhausted_pool_costs_counts_but_no_video() {
    let standin = standin();
    if standin.is_real() {
        return;
    }
    let stage = Stage::new("message-blob=true");
    // Two tensors, one count (and its message, where there are any): nothing is left for the second
    // frame.
    let messages = abi::custom_message_type(version()).is_some();
    standin.set_pools(if messages { 4 } else { 3 }, 0);
    let frames = [FrameSpec::new(0, 0, 1, &[1.0]), FrameSpec::new(1, 1, 1, &[2.0])];
    let buffer = standin.buffer(&BatchSpec::default(), &frames);
    let again = standin.buffer(&BatchSpec::default(), &frames);
    standin.set_pools(0, 0);
    let seen = look(&stage.pass(buffer));
    assert_eq!(
        (seen[0].report.is_some(), seen[0].messages.len(), seen[1].report.is_some()),
        (true, usize::from(messages), false)
    );
    assert_eq!(seen[1].misc[0], 2000);
    stage.pass(again);
    assert_eq!((stage.figure(0, "unattached"), stage.figure(1, "unattached")), (0, 2));
    if !messages {
        assert!(stage.message(gst::MessageType::Warning).unwrap().contains("NVDS_CUSTOM_MSG_BLOB"));
    }
    assert!(
        stage.message(gst::MessageType::Warning).unwrap().contains("pool of metadata is exhausted")
    );
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn density_that_is_no_number_leaves_the_last_count_and_is_said_once() {
    let standin = standin();
    let stage = Stage::new("");
    let pass = |cell: f32| {
        let frames = [FrameSpec::new(0, 0, 1, &[cell]), FrameSpec::new(1, 1, 1, &[9.0])];
        let mut seen = look(&stage.pass(standin.buffer(&BatchSpec::default(), &frames)));
        let other = count(&seen[1]);
        let report = seen.remove(0).report.unwrap();
        (report.count.unwrap().raw, report.stale, other)
    };
    assert_eq!(pass(3.0), (3.0, false, 9.0));
    assert_eq!(pass(f32::NAN), (3.0, true, 9.0));
    assert_eq!(pass(f32::INFINITY), (3.0, true, 9.0));
    let warning = stage.message(gst::MessageType::Warning).unwrap();
    assert!(warning.starts_with("camera-0: the density has a cell of NaN"), "{warning}");
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    assert_eq!(pass(4.0), (4.0, false, 9.0));
    assert_eq!(stage.figure(0, "failed"), 2);
    stage.end();
}

#[test]
fn tensor_that_is_no_density_ends_the_stream_with_the_remedy() {
    let standin = standin();
    let error = |properties: &str, frame: FrameSpec| {
        let stage = Stage::new(properties);
        let error = stage.fail(standin.buffer(&BatchSpec::default(), &[frame]));
        stage.end();
        error
    };
    let good = FrameSpec::new(0, 0, 2, &[1.0; 4]);
    let shape = error("", FrameSpec { dims: vec![3, 2, 2], ..good.clone() });
    assert!(shape.contains("gie-unique-id=1") && shape.contains("[3, 2, 2]"), "{shape}");
    assert!(error("", FrameSpec { dims: vec![4], ..good.clone() }).contains("1 x rows x columns"));
    assert!(error("", FrameSpec { data_type: 2, ..good.clone() }).contains("data type 2"));
    // The second frame of a batch that was not copied to the host: its pointer is an offset from
    // nowhere.
    let stage = Stage::new("");
    let frames = [good.clone(), FrameSpec { place: 1, ..FrameSpec::new(1, 1, 2, &[1.0; 4]) }];
    let device = stage.fail(standin.buffer(&BatchSpec::default(), &frames));
    stage.end();
    assert!(device.contains("disable-output-host-copy=0"), "{device}");
    assert!(error("", FrameSpec { place: 2, ..good.clone() }).contains("has no values"));
    let layer = error("tensor-layer=heat", FrameSpec { layers: 2, ..good.clone() });
    assert!(layer.contains("\"heat\", there are: other, density"), "{layer}");
    let unnamed = error("", FrameSpec { layers: 2, layer: Some(c"map".to_owned()), ..good });
    assert!(unnamed.contains("name the density in `tensor-layer`"), "{unnamed}");
    assert_eq!((meta::live(), standin.live_batches()), (0, 0));
}

#[test]
fn buffer_that_no_muxer_made_ends_the_stream_with_the_remedy() {
    let standin = standin();
    let stage = Stage::new("");
    let error =
        stage.fail(standin.buffer(&BatchSpec { batch_meta: 0, ..BatchSpec::default() }, &[]));
    assert!(error.contains("put vehiclecounternvmm after nvstreammux"), "{error}");
    stage.end();
}
