//! Cameras as they are: every codec, every shape of picture, and every way in which one fails.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;

use vehicle_count::source::{Health, RtspOptions, RtspSource};
use vehiclecount_tests::camera::{Access, Cameras, H264, H265, MJPEG, SOUND, has_h265, pictures};
use vehiclecount_tests::system::System;
use vehiclecount_tests::{free_port, init};

/// A part of a test's pipelines: pictures of this form, through this encoder.
fn camera(caps: &str, end: &str) -> String {
    format!("{} ! {end}", pictures(caps))
}

/// Each camera at each path is counted.
fn are_counted(cameras: &[(&str, String)]) {
    let cameras: Vec<_> =
        cameras.iter().map(|(path, pipeline)| (*path, pipeline.as_str())).collect();
    let server = Cameras::start(&cameras, Access::default());
    let urls: Vec<_> = cameras.iter().map(|(path, _)| server.url("", path)).collect();
    let mut system = System::new(&urls, "scripted");
    system.until("all are counted", |frames, _| frames.iter().all(|&frames| frames >= 5));
    system.end();
}

#[test]
fn cameras_of_every_codec_are_counted() {
    init();
    let small = "format=I420,width=160,height=120";
    let mut cameras = vec![
        ("h264", camera(small, H264)),
        ("mjpeg", camera(small, MJPEG)),
        ("vp8", camera(small, "vp8enc deadline=1 ! rtpvp8pay name=pay0")),
        (
            "transport-stream",
            camera(
                small,
                "x264enc tune=zerolatency key-int-max=10 ! mpegtsmux ! rtpmp2tpay name=pay0",
            ),
        ),
        ("with-sound", format!("{} {SOUND}", camera(small, H264))),
        (
            "sound-first",
            format!(
                "{} {}",
                SOUND.replace("pay1", "pay0"),
                camera(small, H264).replace("pay0", "pay1")
            ),
        ),
    ];
    if has_h265() {
        cameras.push(("h265", camera(small, H265)));
    }
    are_counted(&cameras);
}

#[test]
fn pictures_of_every_shape_are_counted() {
    init();
    let h264 = |caps: &str| camera(caps, H264);
    let mut cameras = vec![
        ("ten-bit", h264("format=I420_10LE,width=160,height=120")),
        ("4-2-2", h264("format=Y42B,width=160,height=120")),
        ("portrait", h264("format=I420,width=90,height=160")),
        ("odd", camera("format=Y444,width=161,height=119", H264)),
        ("odd-mjpeg", camera("format=I420,width=161,height=119", MJPEG)),
        (
            "interlaced",
            h264("format=I420,width=160,height=120")
                .replace("x264enc", "interlace field-pattern=1:1 ! x264enc interlaced=true"),
        ),
    ];
    if has_h265() {
        cameras.push(("h265-ten-bit", camera("format=I420_10LE,width=160,height=120", H265)));
    }
    are_counted(&cameras);
}

/// Runs until camera 0 has failed, and gives why.
fn failure(system: &mut System, enough: impl Fn(&str) -> bool) -> String {
    let mut reason = String::new();
    system.until("the camera fails", |_, cameras| match &cameras[0].health {
        Health::Failed(text) => {
            reason.clone_from(text);
            enough(text)
        }
        _ => false,
    });
    reason
}

#[test]
fn why_a_camera_fails_is_told_in_its_own_words() {
    init();
    let h264 = camera("format=I420,width=160,height=120", H264);
    let sound = SOUND.replace("pay1", "pay0");
    let open = Cameras::start(&[("video", &h264), ("sound", &sound)], Access::default());
    let locked = Cameras::start(
        &[("video", &h264)],
        Access { login: Some(("me", "p@ss:w/rd")), ..Access::default() },
    );
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let gone = free_port();
    for (url, said) in [
        (open.url("", "nothing"), "it has no stream of that path (404)"),
        (open.url("", "sound"), "it sends no video, only audio PCMU"),
        (locked.url("", "video"), "it asks for a user name and a password"),
        (locked.url("me:wrong@", "video"), "it refuses the user name or the password"),
        (format!("rtsp://127.0.0.1:{gone}/video"), "refuses the connection"),
        (
            "rtsp://no-such-host.invalid/video".to_owned(),
            "the host no-such-host.invalid is not known",
        ),
        (format!("rtsp://127.0.0.1:{silent_port}/video"), "no answer for 8 s"),
    ] {
        let mut system = System::new(std::slice::from_ref(&url), "scripted");
        let reason =
            failure(&mut system, |text| text.contains(said) || !text.contains("connection failed"));
        assert!(reason.contains(said), "{url}: {reason}");
        system.end();
    }
}

#[test]
fn passwords_of_any_form_let_in() {
    init();
    let h264 = camera("format=I420,width=160,height=120", H264);
    let locked = Cameras::start(
        &[("video", &h264)],
        Access { login: Some(("me", "p@ss:w/rd%")), ..Access::default() },
    );
    let urls =
        ["me:p@ss:w%2Frd%@", "me:p%40ss%3Aw%2Frd%25@"].map(|login| locked.url(login, "video"));
    let mut system = System::new(&urls, "scripted");
    system.until("both are let in", |frames, _| frames.iter().all(|&frames| frames >= 3));
    system.end();
}

#[test]
fn certificates_that_nothing_vouches_for_are_taken_where_that_was_asked_for() {
    init();
    let h264 = camera("format=I420,width=160,height=120", H264);
    let server = Cameras::start(&[("video", &h264)], Access { tls: true, ..Access::default() });
    let urls = [server.url("", "video")];
    let mut system = System::new(&urls, "scripted");
    let reason = failure(&mut system, |_| true);
    assert!(reason.contains("certificate is not trusted"), "{reason}");
    system.end();
    let mut system =
        System::with(&urls, "scripted", RtspOptions { insecure: true, ..Default::default() });
    system.until("it is taken", |frames, _| frames[0] >= 3);
    system.end();
}

#[test]
fn camera_at_an_ipv6_address_is_counted() {
    init();
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("not tested: this machine has no IPv6");
    }
    let h264 = camera("format=I420,width=160,height=120", H264);
    let server =
        Cameras::start(&[("video", &h264)], Access { address: "::1", ..Access::default() });
    let mut system = System::new(&[server.url("", "video")], "scripted");
    system.until("it is counted", |frames, _| frames[0] >= 3);
    system.end();
}

#[test]
fn camera_comes_back_with_another_codec_and_another_size() {
    init();
    let first = camera("format=I420,width=160,height=120", H264);
    let server = Cameras::start(&[("video", &first)], Access::default());
    let port = server.port();
    let mut system = System::new(&[server.url("", "video")], "scripted");
    system.until("it is counted", |frames, _| frames[0] >= 3);
    drop(server);
    let failed = |cameras: &[RtspSource]| matches!(cameras[0].health, Health::Failed(_));
    system.until("it is gone", |_, cameras| failed(cameras));
    let end = if has_h265() { H265 } else { MJPEG };
    let second = camera("format=I420,width=320,height=176", end);
    let again = Cameras::start(&[("video", &second)], Access { port, ..Access::default() });
    system.until("it is counted again", |frames, cameras| {
        cameras[0].health == Health::Playing && frames[0] >= 3
    });
    system.end();
    drop(again);
}

#[test]
fn camera_changes_size_and_rate_within_a_session() {
    init();
    let part = |size: &str, rate: u32, count: &str, place: u32| {
        format!(
            "videotestsrc is-live=true {count} \
             ! video/x-raw,format=I420,{size},framerate={rate}/1 \
             ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 \
             ! video/x-h264,stream-format=byte-stream ! c.sink_{place}"
        )
    };
    let pipeline = format!(
        "concat name=c ! h264parse config-interval=-1 ! rtph264pay name=pay0 config-interval=-1 \
         {} {}",
        part("width=160,height=120", 20, "num-buffers=40", 0),
        part("width=320,height=176", 10, "", 1)
    );
    let server = Cameras::start(&[("changing", &pipeline)], Access::default());
    let mut system = System::new(&[server.url("", "changing")], "scripted");
    // The first part alone has forty pictures.
    system.until("pictures of both sizes are counted", |frames, cameras| {
        assert!(!matches!(cameras[0].health, Health::Failed(_)), "{:?}", cameras[0].health);
        frames[0] >= 60
    });
    system.end();
}

#[test]
fn stream_that_is_broken_all_the_time_holds_no_other_camera() {
    init();
    let broken = |probability: f64| {
        let end = H264.replace(
            "rtph264pay",
            &format!("breakmydata skip=2000 probability={probability} ! rtph264pay"),
        );
        camera("format=I420,width=160,height=120", &end)
    };
    let server = Cameras::start(
        &[
            ("good", &camera("format=I420,width=160,height=120", H264)),
            ("scratched", &broken(0.001)),
            ("garbage", &broken(0.5)),
        ],
        Access::default(),
    );
    let urls = ["good", "scratched", "garbage"].map(|path| server.url("", path));
    let mut system = System::new(&urls, "scripted");
    system.until("the good one is counted", |frames, cameras| {
        assert!(!matches!(cameras[0].health, Health::Failed(_)), "{:?}", cameras[0].health);
        frames[0] >= 60 && frames[1] >= 10
    });
    system.end();
}
