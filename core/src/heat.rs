//! The heat scale: one colour for each density, in the overlay and in pictures of an evaluation.

/// Density, in vehicles per cell, at which heat has gone 63 % of the way from cold to hot.
pub const WARM: f32 = 0.07;

/// Colours from cold to hot at equal steps of heat: red, green and blue in 0..1.
const COLORS: [[f64; 3]; 4] =
    [[0.1, 0.25, 0.95], [0.0, 0.85, 0.75], [1.0, 0.85, 0.1], [1.0, 0.15, 0.1]];

/// The heat of a density, from 0 for none towards 1. It rises fast and never quite arrives, so that
/// a crowd still has structure.
pub fn of_density(density: f64) -> f64 {
    1.0 - (-density.max(0.0) / f64::from(WARM)).exp()
}

/// The colour of `heat`, from 0 (blue) to 1 (red): red, green and blue in 0..1.
pub fn color(heat: f64) -> [f64; 3] {
    let place = heat.clamp(0.0, 1.0) * (COLORS.len() - 1) as f64;
    let index = (place as usize).min(COLORS.len() - 2);
    let share = place - index as f64;
    std::array::from_fn(|channel| {
        COLORS[index][channel] * (1.0 - share) + COLORS[index + 1][channel] * share
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_rises_with_density_and_runs_through_the_colors() {
        assert_eq!((of_density(0.0), of_density(-1.0)), (0.0, 0.0));
        assert!((of_density(f64::from(WARM)) - 0.632).abs() < 0.001);
        assert!(of_density(0.1) < of_density(0.2) && of_density(1e9) <= 1.0);
        assert_eq!((color(0.0), color(1.0)), (COLORS[0], COLORS[3]));
        assert_eq!((color(-1.0), color(2.0)), (COLORS[0], COLORS[3]));
        let close = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close(color(1.0 / 3.0), COLORS[1]));
        assert!(close(color(0.5), [0.5, 0.85, 0.425]));
    }
}
