//! Stand-in cameras: an RTSP server on loopback whose streams are GStreamer's, with passwords,
//! certificates and whatever else a camera may have.

use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPAuth, RTSPMediaFactory, RTSPServer, RTSPToken, gio};
use vehicle_count::server::Listener;

use crate::certificates;

/// A server with cameras. It ends when it is dropped.
pub struct Cameras {
    listener: Listener,
    scheme: &'static str,
    host: String,
}

/// How the server is to be reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access<'a> {
    /// User name and password that it asks for.
    pub login: Option<(&'a str, &'a str)>,
    /// It speaks TLS, with a certificate that nothing vouches for.
    pub tls: bool,
    /// Its address, 127.0.0.1 where it is empty.
    pub address: &'a str,
    /// Its port, or 0.
    pub port: u16,
}

impl Cameras {
    /// A camera at each path, whose pipeline has payloaders `pay0`, `pay1` and so on.
    ///
    /// # Panics
    /// When the server does not start.
    pub fn start(cameras: &[(&str, &str)], access: Access) -> Self {
        let server = RTSPServer::new();
        let mounts = server.mount_points().expect("a server has mount points");
        for (path, pipeline) in cameras {
            let factory = RTSPMediaFactory::new();
            factory.set_launch(&format!("( {pipeline} )"));
            factory.set_shared(true);
            let role = gst::Structure::builder("viewer")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build();
            factory.add_role_from_structure(&role);
            mounts.add_factory(&format!("/{path}"), factory);
        }
        if access.login.is_some() || access.tls {
            let auth = RTSPAuth::new();
            let mut token = RTSPToken::builder().field("media.factory.role", "viewer").build();
            match access.login {
                Some((user, password)) => {
                    auth.add_basic(&RTSPAuth::make_basic(user, password), &token)
                }
                None => auth.set_default_token(Some(&mut token)),
            }
            if access.tls {
                auth.set_tls_certificate(Some(&certificate()));
            }
            server.set_auth(Some(&auth));
        }
        let address = if access.address.is_empty() { "127.0.0.1" } else { access.address };
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let listener = Listener::start(server, address, access.port).expect("the server listens");
        Self { listener, scheme: if access.tls { "rtsps" } else { "rtsp" }, host }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Where a camera is; `login` is what stands before the host, with its `@`.
    pub fn url(&self, login: &str, path: &str) -> String {
        format!("{}://{login}{}:{}/{path}", self.scheme, self.host, self.port())
    }
}

/// A certificate that nothing vouches for, made for this run.
fn certificate() -> gio::TlsCertificate {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().join("both.pem");
    certificates::self_signed(&path);
    let both = std::fs::read_to_string(&path).expect("it was written");
    gio::TlsCertificate::from_pem(&both).expect("the certificate can be read")
}

/// Pictures as a camera sends them: `caps` such as "format=I420,width=320,height=240", ten a
/// second.
pub fn pictures(caps: &str) -> String {
    format!("videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=10/1,{caps}")
}

/// The end of a camera that sends H.264.
pub const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 config-interval=1";

/// The end of a camera that sends H.265.
pub const H265: &str = "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph265pay name=pay0 config-interval=1";

/// The end of a camera that sends MJPEG.
pub const MJPEG: &str = "jpegenc ! rtpjpegpay name=pay0";

/// The end of a camera that sends sound, as its second stream.
pub const SOUND: &str = "audiotestsrc is-live=true ! mulawenc ! rtppcmupay name=pay1";

/// Whether H.265 can be encoded here. Where `VEHICLECOUNT_REQUIRE_H265` is set, it must.
///
/// # Panics
/// When it must, and cannot.
pub fn has_h265() -> bool {
    let there = gst::ElementFactory::find("x265enc").is_some();
    let required = std::env::var_os("VEHICLECOUNT_REQUIRE_H265").is_some();
    assert!(there || !required, "x265enc of gstreamer1.0-plugins-bad is missing");
    if !there {
        eprintln!("not tested: H.265, for want of x265enc");
    }
    there
}
