//! Procedural traffic with known truth.
