//! `VehicleTruthMeta`: what a simulated camera knows of its own frame.
