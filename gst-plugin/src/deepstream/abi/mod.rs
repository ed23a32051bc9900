//! DeepStream's structures as they lie in memory, declared here so that nothing of DeepStream is
//! needed to build.
//!
//! Only what is read or written has a field of its own. Offsets are asserted at compile time, for
//! each layout where versions differ: surfaces changed their size in 8.0, display metadata in 9.0.
//! Figures: compiled from the published headers of 5.0 to 6.3, 8.0, 9.0 and 9.1 on x86-64; all
//! fields have their natural alignment, so AArch64 has the same.

/// Asserts the size of a structure and the offsets of its fields.
macro_rules! layout {
    ($type:ty: $size:literal { $($field:ident @ $offset:literal),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    };
}

mod display;
mod meta;
mod surface;
mod tensor;
mod transform;

pub use display::*;
pub use meta::*;
pub use surface::*;
pub use tensor::*;
pub use transform::*;
