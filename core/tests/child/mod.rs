//! Tests whose body runs in processes of its own, with another environment or another library.
//!
//! Such a test starts itself again, and begins with this:
//!
//! ```ignore
//! if child::is_this() {
//!     return body();
//! }
//! ```

use std::env;
use std::process::{Command, Output};

const MARK: &str = "VEHICLECOUNT_TEST_CHILD";

/// Whether this process was started by a test, with [`command`].
pub fn is_this() -> bool {
    env::var_os(MARK).is_some()
}

/// The name of the test that this stands in, as the test program takes it.
macro_rules! this_test {
    () => {{
        fn here() {}
        $crate::child::test_name(std::any::type_name_of_val(&here))
    }};
}
pub(crate) use this_test;

/// The test in whose function, or in a closure of it, the function of this type name stands.
pub fn test_name(here: &'static str) -> &'static str {
    let path = here.split("::{{closure}}").next().unwrap_or(here);
    let path = path.strip_suffix("::here").unwrap_or(path);
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Starts nothing but the test of this name, in a process that is a child.
pub fn command(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--nocapture"]).env(MARK, "1");
    command
}

/// Runs the child, which must succeed. Returns what it wrote to standard output.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("this program runs again");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success() && stdout.contains("1 passed"),
        "{command:?}: {status}\n{stdout}\n{stderr}"
    );
    stdout.into_owned()
}
