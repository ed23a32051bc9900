//! Addresses of cameras, as a person gives them: `URL`, or `NAME=URL`.

use std::fmt;
use std::str::FromStr;

use super::redact;

/// Schemes that are read, and the port of each where the address names none.
const SCHEMES: [(&str, u16); 4] = [("rtsp", 554), ("rtsps", 322), ("http", 80), ("https", 443)];

/// Why text is no address. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("the address of a camera begins with rtsp://, rtsps://, http:// or https://")]
    Scheme,
    /// The address of an HTTP server, where RTSP alone is read.
    #[error("the address of a camera begins with rtsp:// or rtsps:// here")]
    Rtsp,
    /// `rtsp:///stream`.
    #[error("{0}: the address has no host")]
    Host(String),
    /// A port that is no number, as of `rtsp://user:a/b@host`, whose password is not encoded.
    #[error(
        "{0}: the port is no number from 1 to 65535; / ? # in a user name or password are written %2F %3F %23"
    )]
    Port(String),
    /// Blanks and control characters.
    #[error("{0}: the address holds white space or a control character; a blank is written %20")]
    Blank(String),
    /// `=rtsp://...`.
    #[error("{0}: the camera's name before the = is empty")]
    Name(String),
}

/// The RTSP or HTTP URL of a camera, its user information apart from the rest. `Display` and
/// `Debug` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The URL without user information.
    location: String,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

impl Address {
    /// The URL without user name and password.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The host: a name, or a numeric address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's where the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User name and password, decoded.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The same place with this user name and password, which are not encoded.
    pub fn with_credentials(self, user: String, password: String) -> Self {
        Self { credentials: Some((user, password)), ..self }
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        ["rtsps:", "https:"].iter().any(|scheme| self.location.starts_with(scheme))
    }

    /// Whether it is the URL of an HTTP server.
    pub fn is_http(&self) -> bool {
        self.location.starts_with("http")
    }

    /// Scheme, host and port, as they stand in the URL.
    fn origin(&self) -> (&str, &str) {
        let (scheme, rest) = self.location.split_once("://").unwrap_or_default();
        (scheme, rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]))
    }

    /// Host and port, as they stand in the URL.
    pub fn authority(&self) -> &str {
        self.origin().1
    }

    /// Path and query of an HTTP request, percent-encoded.
    pub fn path(&self) -> String {
        let (scheme, authority) = self.origin();
        let path = &self.location[scheme.len() + 3 + authority.len()..];
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = percent_encoding::utf8_percent_encode(path, percent_encoding::CONTROLS);
        format!("{slash}{path}")
    }

    /// Whether `other` is on the same server: same scheme, host and port.
    pub fn has_origin_of(&self, other: &Self) -> bool {
        let place =
            |address: &Self| (address.is_tls(), address.host.to_ascii_lowercase(), address.port);
        place(self) == place(other)
    }

    /// The address that `reference` means inside this one, RFC 3986, 5.2. User name and password
    /// stay where the server is the same, and are for no other server.
    ///
    /// # Errors
    /// What is wrong with the new address.
    pub fn join(&self, reference: &str) -> Result<Self, AddressError> {
        let reference = reference.trim();
        let (scheme, authority) = self.origin();
        let own = self.path();
        let own = own.split('?').next().unwrap_or_default();
        let head = reference.split(['/', '?', '#']).next().unwrap_or_default();
        let url = if head.ends_with(':') && reference.contains("://") {
            reference.to_owned()
        } else if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else if reference.starts_with('?') || reference.is_empty() {
            format!("{scheme}://{authority}{own}{reference}")
        } else {
            let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
            let end = reference.find(['?', '#']).unwrap_or(reference.len());
            let (path, query) = reference.split_at(end);
            let path = match path.starts_with('/') {
                true => path.to_owned(),
                false => format!("{folder}/{path}"),
            };
            format!("{scheme}://{authority}{}{query}", without_dots(&path))
        };
        let mut address: Self = url.parse()?;
        if address.credentials.is_none() && address.has_origin_of(self) {
            address.credentials.clone_from(&self.credentials);
        }
        Ok(address)
    }
}

/// A path that begins with `/`, without its parts `.` and `..`.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(part) = rest.next() {
        let is_last = rest.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What is percent-encoded, decoded; what only looks so, such as a `%` alone, as it is.
fn decode(text: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok();
    // C's strings end at a null character.
    decoded.filter(|decoded| !decoded.contains('\0')).map_or_else(|| text.to_owned(), Into::into)
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let known = SCHEMES.iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known));
        let &(scheme, default) = known.ok_or(AddressError::Scheme)?;
        // Paths of HTTP may be secrets as a whole.
        let shown = || match scheme.starts_with("http") {
            true => format!("{scheme}://..."),
            false => redact::url(text),
        };
        if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(AddressError::Blank(shown()));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // A password may hold an @ of its own; a host may not.
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, port)) => (host, port),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if host.is_empty() {
            return Err(AddressError::Host(shown()));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(AddressError::Port(shown())),
            },
            None => return Err(AddressError::Port(shown())),
        };
        let credentials = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            (decode(user), decode(password))
        });
        Ok(Self {
            location: format!("{scheme}://{place}{path}"),
            host: host.to_owned(),
            port,
            credentials,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = redact::text(&self.location);
        match (&self.credentials, location.split_once("://")) {
            (Some(_), Some((scheme, rest))) => write!(f, "{scheme}://{}@{rest}", redact::MASK),
            _ => f.write_str(&location),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// `URL`, or `NAME=URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// The camera's id, where one is given.
    pub name: Option<String>,
    /// Where it is.
    pub address: Address,
}

impl FromStr for NamedAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let lower = text.to_ascii_lowercase();
        let equals =
            SCHEMES.iter().filter_map(|(scheme, _)| lower.find(&format!("={scheme}://"))).min();
        // An address may hold another one in its query.
        let equals = equals.filter(|&equals| !lower[..equals].contains("://"));
        let (name, url) = match equals {
            Some(0) => return Err(AddressError::Name(redact::url(text))),
            Some(equals) => (Some(text[..equals].to_owned()), &text[equals + 1..]),
            None => (None, text),
        };
        match url.parse::<Address>()? {
            // Pipelines of RTSP alone take names.
            address if address.is_http() => Err(AddressError::Rtsp),
            address => Ok(Self { name, address }),
        }
    }
}

/// The ids of cameras: those that were given, `camera-0`, `camera-1` and so on by its place for a
/// camera without one.
///
/// # Errors
/// The name that two cameras have.
pub fn names(cameras: &[NamedAddress]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(cameras.len());
    for (index, camera) in cameras.iter().enumerate() {
        let name = camera.name.clone().unwrap_or_else(|| format!("camera-{index}"));
        if names.contains(&name) {
            return Err(name);
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn addresses_fall_apart_into_what_they_are_made_of() {
        for (text, location, host, port, credentials) in [
            ("rtsp://gate", "rtsp://gate", "gate", 554, None),
            ("RTSP://gate:8554/a?b#c", "rtsp://gate:8554/a?b#c", "gate", 8554, None),
            ("rtsps://gate/a", "rtsps://gate/a", "gate", 322, None),
            ("http://gate/a.mjpg", "http://gate/a.mjpg", "gate", 80, None),
            ("HTTPS://me:pw@gate", "https://gate", "gate", 443, Some(("me", "pw"))),
            ("rtsp://me:pw@gate:1/a", "rtsp://gate:1/a", "gate", 1, Some(("me", "pw"))),
            ("rtsp://me@gate/", "rtsp://gate/", "gate", 554, Some(("me", ""))),
            ("rtsp://me:p@ss:w@gate/", "rtsp://gate/", "gate", 554, Some(("me", "p@ss:w"))),
            ("rtsp://me:p%40s%2Fs@gate/", "rtsp://gate/", "gate", 554, Some(("me", "p@s/s"))),
            ("rtsp://me:100%@gate/", "rtsp://gate/", "gate", 554, Some(("me", "100%"))),
            ("rtsp://gate/x@y:z", "rtsp://gate/x@y:z", "gate", 554, None),
            ("rtsp://me:pw@[::1]:8554/a", "rtsp://[::1]:8554/a", "::1", 8554, Some(("me", "pw"))),
            ("rtsp://[fe80::1%eth0]/a", "rtsp://[fe80::1%eth0]/a", "fe80::1%eth0", 554, None),
        ] {
            let address = address(text);
            assert_eq!(address.location(), location, "{text}");
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
            assert_eq!(address.credentials(), credentials, "{text}");
            assert_eq!(
                address.is_tls(),
                ["rtsps", "https"].iter().any(|s| location.starts_with(s))
            );
            assert_eq!(address.is_http(), location.starts_with("http"));
        }
    }

    #[test]
    fn neither_display_nor_debug_nor_an_error_tells_a_secret() {
        for text in [
            "rtsp://me:s3cret@gate/a",
            "rtsp://me:s3%63ret@gate/?token=s3cret",
            "rtsp://s3cret@gate",
        ] {
            let address = address(text);
            let shown = format!("{address} {address:?}");
            assert!(!shown.contains("s3") && shown.contains("***@gate"), "{shown}");
        }
        for text in [
            "http://me:s3cret@gate/a",
            "ftp://me:s3cret@gate/a",
            "https://me:s3cret/x@gate/a",
            "https://gate/s3cret with a blank",
            "rtsp://me:s3cret/x@gate/a",
            "rtsp://me:s3cret@",
            "rtsp://me:s3cret@gate:port/",
            "rtsp://me:s3cret@gate:0/",
            "rtsp://me:s3cret@gate:65536/",
            "rtsp://me:s3cret two@gate/",
            "rtsp://me:s3cret@[::1]x/",
            "=rtsp://me:s3cret@gate/",
        ] {
            let error = text.parse::<NamedAddress>().unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_camera_has_the_name_before_the_address() {
        for (text, name) in [
            ("rtsp://gate/", None),
            ("rtsp://gate/?to=rtsp://yard/", None),
            ("gate=rtsp://gate/?a=b", Some("gate")),
            ("north gate, 2=1=RTSPS://gate/", Some("north gate, 2=1")),
            ("ü=rtsp://gate/?to=rtsp://yard/", Some("ü")),
        ] {
            let camera: NamedAddress = text.parse().unwrap();
            assert_eq!(camera.name.as_deref(), name, "{text}");
        }
        assert_eq!("gate=http://gate/".parse::<NamedAddress>(), Err(AddressError::Rtsp));
        assert_eq!("gate=ftp://gate/".parse::<NamedAddress>(), Err(AddressError::Scheme));
    }

    #[test]
    fn addresses_inside_others_keep_the_login_for_their_own_server_alone() {
        let base = address("https://me:pw@gate:8443/a/b/list.m3u8?x=1#y");
        assert_eq!((base.port(), base.path().as_str()), (8443, "/a/b/list.m3u8?x=1"));
        assert_eq!(base.authority(), "gate:8443");
        for (reference, location) in [
            ("s1.ts", "https://gate:8443/a/b/s1.ts"),
            ("./s1.ts?t=a/../b", "https://gate:8443/a/b/s1.ts?t=a/../b"),
            ("../s1.ts", "https://gate:8443/a/s1.ts"),
            ("../../../../s1.ts", "https://gate:8443/s1.ts"),
            ("/x/./y/..", "https://gate:8443/x/"),
            ("?t=2", "https://gate:8443/a/b/list.m3u8?t=2"),
            ("s1:2.ts", "https://gate:8443/a/b/s1:2.ts"),
            ("HTTPS://GATE:8443/z", "https://GATE:8443/z"),
        ] {
            let joined = base.join(reference).unwrap();
            assert_eq!(joined.location(), location, "{reference}");
            assert_eq!(joined.credentials(), Some(("me", "pw")), "{reference}");
        }
        for reference in
            ["//other/z", "http://gate:8443/z", "https://gate/z", "https://gate.evil:8443/z"]
        {
            let joined = base.join(reference).unwrap();
            assert_eq!(joined.credentials(), None, "{reference}");
        }
        for reference in ["ftp://gate/z", "a b", "https://gate:8443.evil/z"] {
            assert!(base.join(reference).is_err(), "{reference}");
        }
        assert_eq!(address("http://gate/ü?ß").path(), "/%C3%BC?%C3%9F");
        assert_eq!(address("http://gate?x").path(), "/?x");
    }

    #[test]
    fn no_two_cameras_have_one_name() {
        let names = |texts: &[&str]| {
            names(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
        };
        let given = names(&["rtsp://a", "gate=rtsp://a", "rtsp://a"]).unwrap();
        assert_eq!(given, ["camera-0", "gate", "camera-2"]);
        assert_eq!(names(&["gate=rtsp://a", "gate=rtsp://b"]), Err("gate".to_owned()));
        assert_eq!(names(&["camera-1=rtsp://a", "rtsp://b"]), Err("camera-1".to_owned()));
    }
}
