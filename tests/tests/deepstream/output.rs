//! What else is made of a count: messages, drawings, and regions that change.

use super::*;

#[test]
fn message_is_the_report_as_json_and_misc_info_goes_where_it_was_told() {
    let standin = standin();
    let stage = Stage::new("message-blob=true misc-index=3 misc-scale=10 density-map=false");
    let seen = look(
        &stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(1, 0, 1, &[2.5])])),
    )
    .remove(0);
    if version() == (6, 4) {
        // Nobody has published the number of the type in 6.4.
        assert_eq!(seen.messages.len(), 0);
        assert!(
            stage
                .message(gst::MessageType::Warning)
                .unwrap()
                .contains("NVDS_CUSTOM_MSG_BLOB in DeepStream 6.4")
        );
    } else {
        let json: JsonReport = serde_json::from_str(&seen.messages[0]).unwrap();
        assert_eq!(
            (json.camera.as_str(), json.count, json.engine.as_str()),
            ("camera-1", Some(2.5), "nvinfer")
        );
    }
    assert_eq!((seen.misc, seen.report.unwrap().density), ([0, 0, 0, 25], None));
    stage.end();
    // Whoever knows the number says it.
    let kind = abi::custom_message_type(version()).unwrap_or(25);
    let stage = Stage::new(&format!("message-blob=true message-type={kind}"));
    let passed =
        stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(1, 0, 1, &[2.5])]));
    let batch = Batch::of(Api::get().unwrap(), &passed).unwrap();
    let locked = batch.lock();
    let metas =
        locked.frames().iter().flat_map(|frame| locked.user_metas(frame)).collect::<Vec<_>>();
    assert_eq!(metas.iter().filter(|(found, _)| *found == kind).count(), 1);
    drop(locked);
    assert_eq!(stage.message(gst::MessageType::Warning), None);
    drop(passed);
    stage.end();
}

#[test]
fn nvdsosd_is_given_outlines_and_counts_in_as_many_pieces_as_it_takes() {
    let standin = standin();
    let corner = |i: i32| f64::from(i) / 20.0 * std::f64::consts::TAU;
    let corners: Vec<_> = (0..20)
        .map(|i| format!("[{}, {}]", 0.5 + 0.4 * corner(i).cos(), 0.5 + 0.4 * corner(i).sin()))
        .collect();
    let regions =
        format!(r#"{{"regions": [{{"name": "ring", "polygon": [{}]}}]}}"#, corners.join(", "));
    let stage = Stage::unstarted("source=tensor-meta osd-mode=counts");
    stage.element.set_property("regions", regions);
    stage.pipeline.set_state(gst::State::Playing).unwrap();
    let pass = || {
        look(&stage.pass(standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])])))
            .remove(0)
    };
    let mut seen = pass();
    // NVIDIA's library puts what is added first, the stand-in last.
    seen.lines.sort_unstable();
    assert_eq!((seen.lines.as_slice(), seen.texts.len()), (&[4, 16][..], 2));
    assert!(seen.texts.contains(&"camera-0: 7, moderate".to_owned()), "{:?}", seen.texts);
    stage.element.set_property_from_str("osd-mode", "regions");
    assert_eq!(pass().texts, ["ring"]);
    stage.element.set_property_from_str("osd-mode", "off");
    assert_eq!(pass().lines, [0u32; 0]);
    stage.end();
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}

#[test]
fn wrong_regions_stop_the_start_and_leave_what_was_set_while_it_runs() {
    let standin = standin();
    let stage = Stage::unstarted("source=tensor-meta config-file-path=/nowhere/sources.txt");
    assert!(stage.pipeline.set_state(gst::State::Paused).is_err());
    assert!(stage.message(gst::MessageType::Error).unwrap().contains("/nowhere/sources.txt"));
    stage.end();
    let stage = Stage::new("");
    stage.element.set_property("regions", "{\"region\": 1}");
    assert!(
        stage
            .message(gst::MessageType::Warning)
            .unwrap()
            .contains("the settings stay as they were")
    );
    assert_eq!(
        count(
            &look(
                &stage.pass(
                    standin.buffer(&BatchSpec::default(), &[FrameSpec::new(0, 0, 1, &[7.0])])
                )
            )[0]
        ),
        7.0
    );
    stage.end();
}
