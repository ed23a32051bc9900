//! Cameras that are read over HTTP, and those of this machine: what is counted, and what is told
//! where nothing comes.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cbc::cipher::{Array, BlockModeEncrypt, KeyIvInit};
use glib::ChecksumType;
use gst::prelude::*;
use serde_json::{Value, json};
use vehiclecount_tests::certificates::self_signed;
use vehiclecount_tests::service::Service;
use vehiclecount_tests::web::{Peer, Request, WebServer, ask, begin_parts, jpeg, part, reply};
use vehiclecount_tests::{assert_no_leak, free_port, init, run_to_end};

const LOGIN: (&str, &str) = ("me", "s3cret/1");

/// The login in a URL.
const IN_URL: &str = "me:s3cret%2F1@";

/// Sends a picture again and again.
fn endless(peer: &mut dyn Peer, picture: &[u8]) -> io::Result<()> {
    begin_parts(peer)?;
    loop {
        part(peer, picture)?;
    }
}

/// The cameras of a configuration.
fn cameras(urls: &[(&str, &str)]) -> String {
    let cameras = urls.iter().map(|(name, url)| format!("[cameras.{name}]\nurl = {url:?}\n"));
    format!("[defaults]\nrate = 10\n{}", cameras.collect::<String>())
}

fn is_live(camera: &Value) -> bool {
    camera["state"] == "live" && camera["counted"].as_u64() > Some(3) && camera["count"].is_number()
}

fn says(camera: &Value, state: &str, words: &str) -> bool {
    camera["state"] == state && camera["reason"].as_str().is_some_and(|said| said.contains(words))
}

/// All that the service shows and has said holds no password.
fn tells_no_secret(service: &mut Service) {
    let mut all = String::new();
    for path in ["/metrics", "/api/v1/cameras", "/api/v1/events", "/api/v1/counts"] {
        all += &service.ask(path).1;
    }
    assert!(service.terminate(), "{}", service.said);
    all += &service.said;
    assert!(!all.contains("s3cret") && !all.contains("czNjcmV0"), "{all}");
}

/// Answers as cameras of many makers do.
fn answer(request: &Request, peer: &mut dyn Peer, picture: &[u8]) -> io::Result<()> {
    let digest = |kind, name, peer: &mut dyn Peer| {
        if request.has_digest(kind, "a1", LOGIN) {
            return endless(peer, picture);
        }
        ask(
            peer,
            &format!(
                "Basic realm=\"camera\", Digest realm=\"camera\", nonce=\"a1\", \
                 algorithm={name}, qop=\"auth,auth-int\""
            ),
        )
    };
    let asked = request.path.split('?').next().unwrap_or_default();
    match asked {
        "/open.mjpg" => endless(peer, picture),
        "/basic" if request.has_basic(LOGIN.0, LOGIN.1) => endless(peer, picture),
        "/basic" => ask(peer, "Basic realm=\"camera\""),
        "/md5" => digest(ChecksumType::Md5, "MD5", peer),
        "/sha256" => digest(ChecksumType::Sha256, "SHA-256", peer),
        "/renewed.jpg" => {
            // What it asks for grows old with every fifth request.
            static ASKED: AtomicUsize = AtomicUsize::new(0);
            let nonce = format!("n{}", ASKED.fetch_add(1, Ordering::SeqCst) / 5);
            if request.has_digest(ChecksumType::Md5, &nonce, LOGIN) {
                return reply(peer, "200 OK", "image/jpeg", "", picture);
            }
            let asked = format!("Digest realm=\"camera\", nonce=\"{nonce}\", qop=\"auth\"");
            ask(peer, &asked)
        }
        "/still.jpg" => reply(peer, "200 OK", "image/jpeg", "", picture),
        "/moved" => reply(peer, "302 Found", "text/plain", "Location: open.mjpg\r\n", b""),
        "/round" => reply(peer, "302 Found", "text/plain", "Location: /round\r\n", b""),
        "/page" => reply(peer, "200 OK", "text/html; charset=utf-8", "", b"<html></html>"),
        "/nothing" => reply(peer, "200 OK", "image/jpeg", "", b""),
        "/half.jpg" => reply(peer, "200 OK", "image/jpeg", "", &picture[..picture.len() / 2]),
        "/busy" => reply(peer, "503 Service Unavailable", "text/plain", "", b"busy"),
        "/babble" => {
            peer.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").and(Err(io::ErrorKind::Other.into()))
        }
        "/silent" => peer.read(&mut [0; 1]).map(drop),
        "/locked.m3u8" => {
            let list =
                b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n\
                         #EXTINF:2,\na.ts\n";
            reply(peer, "200 OK", "application/vnd.apple.mpegurl", "", list)
        }
        _ => reply(peer, "404 Not Found", "text/html", "", b"<html></html>"),
    }
}

#[test]
fn cameras_of_motion_jpeg_are_counted_and_those_that_fail_say_why() {
    init();
    let picture = jpeg(160, 120);
    let server = WebServer::start(0, move |request, peer| answer(request, peer, &picture));
    let gone = format!("http://me:s3cret3@127.0.0.1:{}/?password=s3cret4", free_port());
    let urls = [
        ("open", server.url("", "open.mjpg")),
        ("basic", server.url(IN_URL, "basic?channel=1")),
        ("md5", server.url(IN_URL, "md5?channel=1")),
        ("sha256", server.url(IN_URL, "sha256")),
        ("still", server.url("", "still.jpg")),
        ("renewed", server.url(IN_URL, "renewed.jpg")),
        ("moved", server.url("", "moved")),
        ("wrong", server.url("me:s3cret2@", "md5")),
        ("anonymous", server.url("", "basic")),
        ("missing", server.url("", "no-such-path")),
        ("page", server.url("", "page")),
        ("round", server.url("", "round")),
        ("nothing", server.url("", "nothing")),
        ("half", server.url("", "half.jpg")),
        ("busy", server.url("", "busy")),
        ("babble", server.url("", "babble")),
        ("silent", server.url("", "silent")),
        ("locked", server.url("", "locked.m3u8")),
        ("tls", server.url("", "open.mjpg").replace("http:", "https:")),
        ("gone", gone),
    ];
    let urls: Vec<_> = urls.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &cameras(&urls));
    service.until("cameras are counted, and the others say why not", |camera| {
        ["open", "basic", "md5", "sha256", "still", "moved"]
            .iter()
            .all(|name| is_live(&camera(name)))
            && camera("renewed")["counted"].as_u64() > Some(12)
            && [
                ("wrong", "refused", "refuses the user name or the password (401)"),
                ("anonymous", "refused", "http://USER:PASSWORD@... (401)"),
                ("missing", "refused", "no stream of that path (404)"),
                ("page", "refused", "it sends text/html and no pictures"),
                ("round", "refused", "on and on"),
                ("nothing", "refused", "it sends nothing"),
                ("half", "waiting", "a JPEG picture in part"),
                ("busy", "waiting", "503 Service Unavailable"),
                ("babble", "waiting", "does not speak HTTP"),
                ("silent", "waiting", "no answer for 8 s"),
                ("locked", "refused", "its HLS stream is encrypted in another way"),
                ("tls", "refused", "does not speak TLS"),
                ("gone", "waiting", "refuses the connection"),
            ]
            .iter()
            .all(|(name, state, words)| says(&camera(name), state, words))
    });
    assert_eq!(service.json("/api/v1/cameras/renewed")["failures"], 0, "{}", service.said);
    let shown = service.json("/api/v1/cameras/basic")["url"].clone();
    assert_eq!(shown, server.url("***@", "basic?channel=1"));
    tells_no_secret(&mut service);
}

#[test]
fn camera_of_motion_jpeg_survives_garbage_other_sizes_and_a_restart() {
    init();
    let (small, large) = (jpeg(160, 120), jpeg(640, 360));
    let handler = {
        let (small, large) = (small.clone(), large.clone());
        move |_: &Request, peer: &mut dyn Peer| {
            begin_parts(peer)?;
            for round in 0_u64.. {
                part(peer, &small)?;
                part(peer, b"this is no picture")?;
                part(peer, &[0xff; 999])?;
                part(peer, &small[..small.len() / 2])?;
                part(peer, b"")?;
                // What a decoder chokes on: the head of a picture, and noise.
                let mut noise = small.clone();
                let half = noise.len() / 2;
                for (place, byte) in noise[half..].iter_mut().enumerate() {
                    *byte = (place as u64 * 37 + round) as u8 & 0x7f;
                }
                part(peer, &noise)?;
                part(peer, &large)?;
            }
            Ok(())
        }
    };
    let server = WebServer::start(0, handler.clone());
    let (port, url) = (server.port, server.url("", "video"));
    let steady = WebServer::start(0, move |_, peer| endless(peer, &small));
    let folder = tempfile::tempdir().unwrap();
    let text = cameras(&[("mortal", &url), ("steady", &steady.url("", "a"))]);
    let mut service = Service::start(folder.path(), &text);
    service.until("both are counted", |camera| {
        camera("mortal")["counted"].as_u64() > Some(20) && is_live(&camera("steady"))
    });
    let failures = service.json("/api/v1/cameras/mortal")["failures"].clone();
    assert_eq!(failures, 0, "garbage breaks no connection: {}", service.said);
    drop(server);
    service.until("one is gone", |camera| {
        let mortal = camera("mortal");
        assert_eq!(camera("steady")["failures"], 0);
        mortal["state"] == "waiting" && mortal["count"].is_null() && mortal["reason"].is_string()
    });
    let again = WebServer::start(port, handler);
    service.until("it is back", |camera| {
        assert_eq!(camera("steady")["failures"], 0);
        is_live(&camera("mortal"))
    });
    assert!(service.terminate(), "{}", service.said);
    drop(again);
}

/// A pipeline that writes segments of a second into `folder`.
fn segments(folder: &Path, source: &str, sink: &str) -> gst::Pipeline {
    let line = format!(
        "videotestsrc pattern=red {source} ! \
         video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! h264parse ! \
         hlssink2 target-duration=1 name=sink {sink}"
    );
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap();
    sink.set_property("location", folder.join("segment%05d.ts"));
    sink.set_property("playlist-location", folder.join("list.m3u8"));
    pipeline
}

/// Encrypts the segments of a recording with AES-128, from its second one on, and writes a playlist
/// of them, and one that names a key that is none.
fn lock_segments(folder: &Path) {
    let (key, list) = (*b"a key of a video", fs::read_to_string(folder.join("list.m3u8")).unwrap());
    fs::write(folder.join("one.key"), key).unwrap();
    fs::write(folder.join("short.key"), b"no key").unwrap();
    let (mut locked, mut number) = (String::new(), 0_u128);
    for line in list.lines() {
        if !line.ends_with(".ts") {
            locked += &format!("{line}\n");
            continue;
        }
        if number == 0 {
            locked += &format!("{line}\n#EXT-X-KEY:METHOD=AES-128,URI=\"one.key\"\n");
        } else {
            let mut data = fs::read(folder.join(line)).unwrap();
            let padding = 16 - data.len() % 16;
            data.resize(data.len() + padding, padding as u8);
            // No vector is given: it is the number of the segment.
            let vector = number.to_be_bytes();
            cbc::Encryptor::<aes::Aes128>::new(&Array(key), &Array(vector))
                .encrypt_blocks(Array::slice_as_chunks_mut(&mut data).0);
            fs::write(folder.join(format!("locked-{line}")), data).unwrap();
            locked += &format!("locked-{line}\n");
        }
        number += 1;
    }
    assert!(number > 1, "{list}");
    fs::write(folder.join("short.m3u8"), locked.replace("one.key", "short.key")).unwrap();
    fs::write(folder.join("locked.m3u8"), locked).unwrap();
}

/// Gives what is in a folder.
fn file(folder: &Path, request: &Request, peer: &mut dyn Peer) -> io::Result<()> {
    let name = request.path.trim_start_matches('/').split('?').next().unwrap_or_default();
    match fs::read(folder.join(name)) {
        Ok(bytes) if name.ends_with("m3u8") => {
            reply(peer, "200 OK", "application/vnd.apple.mpegurl", "", &bytes)
        }
        Ok(bytes) => reply(peer, "200 OK", "video/mp2t", "", &bytes),
        Err(_) => reply(peer, "404 Not Found", "text/plain", "", b"none"),
    }
}

#[test]
fn playlists_are_counted_live_and_from_the_beginning_and_a_stream_that_is_over_says_so() {
    init();
    let (live, recorded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pipeline = segments(recorded.path(), "num-buffers=20", "");
    run_to_end(&pipeline);
    assert_no_leak(pipeline);
    let main = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=160x120\nlist.m3u8?from=main\n";
    fs::write(recorded.path().join("main.m3u8"), main).unwrap();
    fs::write(recorded.path().join("gaps.m3u8"), {
        let list = fs::read_to_string(recorded.path().join("list.m3u8")).unwrap();
        list.replacen("#EXTINF", "#EXT-X-DISCONTINUITY\n#EXTINF", 9)
    })
    .unwrap();
    lock_segments(recorded.path());
    let pipeline = segments(live.path(), "is-live=true", "playlist-length=5 max-files=9");
    pipeline.set_state(gst::State::Playing).unwrap();

    let asked = Arc::new(AtomicUsize::new(0));
    let lists = asked.clone();
    let (folder, recordings) = (live.path().to_owned(), recorded.path().to_owned());
    let server = WebServer::start(0, move |request, peer| {
        // A password for every piece.
        if !request.has_basic(LOGIN.0, LOGIN.1) {
            return ask(peer, "Basic realm=\"camera\"");
        }
        if request.path.starts_with("/live/list") {
            lists.fetch_add(1, Ordering::Relaxed);
        }
        match request.path.strip_prefix("/live") {
            Some(path) => {
                let request = Request { path: path.to_owned(), ..request.clone() };
                file(&folder, &request, peer)
            }
            None => file(&recordings, request, peer),
        }
    });
    let urls = [
        ("live", server.url(IN_URL, "live/list.m3u8")),
        ("recorded", server.url(IN_URL, "main.m3u8")),
        ("gaps", server.url(IN_URL, "gaps.m3u8")),
        ("locked", server.url(IN_URL, "locked.m3u8")),
        ("short", server.url(IN_URL, "short.m3u8")),
        ("plain", server.url(IN_URL, "segment00000.ts")),
    ];
    let urls: Vec<_> = urls.iter().map(|(name, url)| (*name, url.as_str())).collect();
    let own = tempfile::tempdir().unwrap();
    let mut service = Service::start(own.path(), &cameras(&urls));
    // More than the recordings have: they begin again.
    let counted = |camera: &Value, least: u64| {
        camera["state"] == "live" && camera["counted"].as_u64() > Some(least)
    };
    service.until("all are counted", |camera| {
        counted(&camera("live"), 30)
            && ["recorded", "gaps", "locked", "plain"].iter().all(|name| counted(&camera(name), 30))
            && says(&camera("short"), "refused", "the key of its HLS stream has 6 bytes, not 16")
    });
    assert!(asked.load(Ordering::Relaxed) > 1, "a live playlist is read again");

    pipeline.send_event(gst::event::Eos::new());
    service.until("the live one is over", |camera| says(&camera("live"), "waiting", "over"));
    pipeline.set_state(gst::State::Null).unwrap();
    assert_no_leak(pipeline);
    tells_no_secret(&mut service);
}

#[test]
fn certificate_that_nothing_vouches_for_is_refused_in_words_and_taken_where_that_is_asked_for() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("camera.pem");
    self_signed(&pem);
    let picture = jpeg(160, 120);
    let server = WebServer::secure(&pem, move |request, peer| answer(request, peer, &picture));
    let url = server.url(IN_URL, "md5");
    let text = format!(
        "{}[cameras.trusting]\nurl = {url:?}\ninsecure = true\n",
        cameras(&[("careful", &url)])
    );
    let mut service = Service::start(folder.path(), &text);
    service.until("one is refused, one is counted", |camera| {
        let words = "certificate is not trusted: no authority that this system trusts";
        says(&camera("careful"), "refused", words) && is_live(&camera("trusting"))
    });
    tells_no_secret(&mut service);
}

#[test]
fn devices_that_are_none_say_why() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        ("missing", "v4l2:/dev/vehiclecount-none"),
        ("other", "/dev/null"),
        ("folder", "v4l2:/dev/fd"),
    ];
    let mut service = Service::start(folder.path(), &cameras(&urls));
    service.until("all say why", |camera| {
        says(&camera("missing"), "waiting", "there is no device /dev/vehiclecount-none")
            && says(&camera("other"), "refused", "/dev/null is no camera of Video4Linux")
            && says(&camera("folder"), "refused", "/dev/fd is no device")
    });
    assert_eq!(service.json("/api/v1/cameras/other")["url"], "v4l2:/dev/null");
    assert!(service.terminate(), "{}", service.said);
}

#[test]
fn addresses_of_every_kind_are_tried_before_they_are_saved() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let picture = jpeg(160, 120);
    let server = WebServer::start(0, move |request, peer| answer(request, peer, &picture));
    let service = Service::start(folder.path(), "");
    let tried = |keys: Value| -> Value {
        let (status, body) = service.send("POST", "/api/v1/try", &keys.to_string());
        assert_eq!(status, 200, "{body}");
        assert!(!body.contains("s3cret"), "{body}");
        serde_json::from_str(&body).unwrap()
    };
    for (url, login) in [("open.mjpg", ""), ("still.jpg", ""), ("md5", IN_URL)] {
        let answer = tried(json!({ "url": server.url(login, url) }));
        assert_eq!((&answer["ok"], &answer["width"]), (&json!(true), &json!(160)), "{answer}");
    }
    for (url, words) in [
        (server.url("me:s3cret2@", "basic"), "(401)"),
        (server.url("", "page"), "text/html"),
        ("v4l2:/dev/vehiclecount-none".to_owned(), "there is no device"),
    ] {
        let answer = tried(json!({ "url": url }));
        let said = answer["reason"].as_str().unwrap_or_default();
        assert!(answer["ok"] == false && said.contains(words), "{answer}");
    }
    let (status, body) = service.send("POST", "/api/v1/try", "{\"url\": \"v4l2:/etc/passwd\"}");
    assert!(status == 422 && body.contains("v4l2:/dev/video0"), "{status} {body}");
}
