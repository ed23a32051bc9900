//! What TensorRT says: its messages go to the listener, and the last error becomes the reason of
//! ours.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use parking_lot::Mutex;

/// How grave a message of TensorRT is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// TensorRT itself is at fault.
    Internal,
    /// Something failed.
    Error,
    /// Something is not as good as it could be.
    Warning,
    /// What it is doing.
    Info,
    /// What it is doing, in detail.
    Verbose,
}

type Listener = Box<dyn Fn(Severity, &str) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Hands TensorRT's messages, and what is said of plans that are built, to `listener`, which any
/// thread may call. Only the first one in a process is taken; without one, they are dropped. What
/// matters of them is in the errors.
pub fn listen(listener: impl Fn(Severity, &str) + Send + Sync + 'static) -> bool {
    LISTENER.set(Box::new(listener)).is_ok()
}

thread_local! {
    /// The last error that this thread was told: a call's own, while many threads work.
    static MINE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The last error that any thread was told: the builder works in threads of its own.
static ANY: Mutex<Option<String>> = Mutex::new(None);

pub(super) extern "C" fn receive(severity: i32, message: *const c_char) {
    // SAFETY: the shim hands over a text that ends in zero and lives until this returns.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let severity = match severity {
        0 => Severity::Internal,
        1 => Severity::Error,
        2 => Severity::Warning,
        3 => Severity::Info,
        _ => Severity::Verbose,
    };
    if severity <= Severity::Error {
        // The first error of a call is the cause; those after it are its echo.
        MINE.with_borrow_mut(|mine| {
            mine.get_or_insert_with(|| message.to_string());
        });
        ANY.lock().get_or_insert_with(|| message.to_string());
    }
    if let Some(listener) = LISTENER.get() {
        listener(severity, &message);
    }
}

/// Tells the listener something of our own.
pub(crate) fn tell(severity: Severity, message: &str) {
    if let Some(listener) = LISTENER.get() {
        listener(severity, message);
    }
}

/// Forgets earlier errors: what comes now is the reason of the call that follows.
pub(super) fn forget() {
    MINE.with_borrow_mut(Option::take);
    ANY.lock().take();
}

/// The first error since [`forget`], this thread's before others'.
pub(super) fn reason() -> Option<String> {
    let mine = MINE.with_borrow_mut(Option::take);
    mine.or_else(|| ANY.lock().take())
}

/// `what`, with the reason that TensorRT gave.
pub(super) fn with_reason(what: &str) -> String {
    match reason() {
        Some(said) if what.is_empty() => said,
        Some(said) => format!("{what}: {said}"),
        None if what.is_empty() => "TensorRT gives no reason".to_owned(),
        None => what.to_owned(),
    }
}
