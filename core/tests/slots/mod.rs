//! What tests write into slots that take values, and read from slots that hold a density map.

use vehiclecount_core::engine::Slot;

/// The input values of a slot that was made for values.
pub fn values(slot: &mut Slot) -> &mut [f32] {
    slot.input.values_mut().expect("a slot for values")
}

/// The density map that the engine left.
pub fn density(slot: &Slot) -> &[f32] {
    slot.output.map().expect("a density map")
}
