//! Certificates for the loopback address, made by OpenSSL for a test.

use std::path::Path;
use std::process::Command;

/// Writes a certificate that nothing vouches for, and its key, into a file (PEM).
///
/// # Panics
/// When that cannot be done.
pub fn self_signed(path: &Path) {
    let key = path.with_extension("key");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=camera", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(path)
        .output()
        .expect("openssl is installed: ca-certificates needs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = |path: &Path| std::fs::read_to_string(path).expect("it was written");
    let both = text(key.as_path()) + &text(path);
    std::fs::write(path, both).expect("it can be written");
}

/// Makes an authority, and a certificate that it vouches for: `ca.pem`, `certificate.pem`, its key
/// `key.pem`, and key and certificate in one file `both.pem`, in `folder`.
///
/// # Panics
/// When that cannot be done.
pub fn signed(folder: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \\
            -keyout ca-key.pem -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout key.pem -out request.pem
        echo subjectAltName=IP:127.0.0.1 > extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 \\
            -extfile extensions -out certificate.pem
        cat key.pem certificate.pem > both.pem";
    let made = Command::new("sh").args(["-ec", script]).current_dir(folder).output();
    let made = made.expect("there is a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
