//! Polygons that cross themselves.
//!
//! A region's area in a cell is taken by the shoelace formula, which adds up winding numbers. It is
//! the area of the polygon where the outline winds around each of its points once, and always the
//! same way: around an hourglass it winds once to the left and once to the right, around the middle
//! of a star twice. Edges that touch, or run along each other in opposite directions, as those that
//! lead to a hole do, are fine.

use std::fmt;

use super::Point;

/// Lengths below this share of the frame are none.
const TINY: f64 = 1e-9;

/// Winding numbers are taken so far beside an edge.
const BESIDE: f64 = 1e-7;

/// Crossings that are named in a message.
const NAMED: usize = 3;

/// Edges of a polygon that cross, by the indices of the corners that they begin at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossings {
    edges: Vec<(usize, usize)>,
    corners: usize,
}

impl fmt::Display for Crossings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = |index: usize| format!("{}-{}", index + 1, (index + 1) % self.corners + 1);
        let named: Vec<_> = self
            .edges
            .iter()
            .take(NAMED)
            .map(|&(a, b)| format!("{} and {}", edge(a), edge(b)))
            .collect();
        match self.edges.len().saturating_sub(NAMED) {
            0 if named.is_empty() => write!(f, "its outline goes around it more than once"),
            0 => write!(f, "its edges cross between corners {}", named.join(", ")),
            more => {
                write!(f, "its edges cross between corners {} and {more} more", named.join(", "))
            }
        }
    }
}

/// Where the outline of `polygon` crosses itself or goes around more than once; `None` where it
/// does not.
pub(super) fn crossings(polygon: &[Point]) -> Option<Crossings> {
    let around = (0..polygon.len()).flat_map(|edge| windings(polygon, edge));
    let (min, max) =
        around.fold((0, 0), |(min, max): (i32, i32), winding| (min.min(winding), max.max(winding)));
    if matches!((min, max), (0, 0 | 1) | (-1, 0)) {
        return None;
    }
    let pairs = |meet: fn([Point; 2], [Point; 2]) -> bool| -> Vec<(usize, usize)> {
        let apart = |a: usize, b: usize| b - a > 1 && (a, b) != (0, polygon.len() - 1);
        let all = (0..polygon.len()).flat_map(|a| (a + 1..polygon.len()).map(move |b| (a, b)));
        all.filter(|&(a, b)| apart(a, b) && meet(edge(polygon, a), edge(polygon, b))).collect()
    };
    let crossing = pairs(cross);
    // Where edges meet in a corner, or lie on each other, none crosses the other in its middle.
    let edges = if crossing.is_empty() { pairs(touch) } else { crossing };
    Some(Crossings { edges, corners: polygon.len() })
}

/// The corners of the edge that begins at corner `index`.
fn edge(polygon: &[Point], index: usize) -> [Point; 2] {
    [polygon[index], polygon[(index + 1) % polygon.len()]]
}

/// Twice the area of the triangle, positive where `c` lies on one side of the line from `a` to `b`.
fn side([a, b]: [Point; 2], c: Point) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

/// Whether the edges cross, both in their middle.
fn cross(a: [Point; 2], b: [Point; 2]) -> bool {
    let apart = |line: [Point; 2], points: [Point; 2]| {
        let sides = points.map(|point| side(line, point));
        sides[0] * sides[1] < 0.0 && sides.iter().all(|side| side.abs() > TINY * TINY)
    };
    apart(a, b) && apart(b, a)
}

/// Whether an end of one edge lies on the other.
fn touch(a: [Point; 2], b: [Point; 2]) -> bool {
    let on = |line, points: [Point; 2]| points.iter().any(|&point| place_on(line, point).is_some());
    on(a, b) || on(b, a)
}

/// Where on the edge `point` lies, from 0 to 1; `None` where it lies beside it.
fn place_on(line @ [a, b]: [Point; 2], point: Point) -> Option<f64> {
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = along[0].hypot(along[1]);
    if length < TINY {
        return None;
    }
    let place = ((point[0] - a[0]) * along[0] + (point[1] - a[1]) * along[1]) / (length * length);
    ((0.0..=1.0).contains(&place) && side(line, point).abs() / length < TINY).then_some(place)
}

/// The winding numbers on both sides of an edge, between the places where others meet it.
fn windings(polygon: &[Point], index: usize) -> Vec<i32> {
    let line @ [a, b] = edge(polygon, index);
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = along[0].hypot(along[1]);
    if length < TINY {
        return Vec::new();
    }
    let mut places = vec![0.0, 1.0];
    for other in 0..polygon.len() {
        let other @ [c, d] = edge(polygon, other);
        places.extend(place_on(line, c));
        if cross(line, other) {
            let (from, to) = (side(line, c), side(line, d));
            let t = from / (from - to);
            let meeting = [c[0] + t * (d[0] - c[0]), c[1] + t * (d[1] - c[1])];
            places.push(
                ((meeting[0] - a[0]) * along[0] + (meeting[1] - a[1]) * along[1])
                    / (length * length),
            );
        }
    }
    places.sort_unstable_by(f64::total_cmp);
    let aside = [-along[1] / length * BESIDE, along[0] / length * BESIDE];
    let pieces = places.windows(2).filter(|piece| (piece[1] - piece[0]) * length > BESIDE);
    let middles = pieces.map(|piece| {
        let middle = piece[0].midpoint(piece[1]);
        [a[0] + middle * along[0], a[1] + middle * along[1]]
    });
    middles
        .flat_map(|[x, y]| [[x + aside[0], y + aside[1]], [x - aside[0], y - aside[1]]])
        .map(|point| winding(polygon, point))
        .collect()
}

/// How often the outline goes around `point` (Sunday 2001: crossings of a ray, signed).
fn winding(polygon: &[Point], point: Point) -> i32 {
    let edges = (0..polygon.len()).map(|index| edge(polygon, index));
    edges
        .map(|line @ [a, b]| match (a[1] <= point[1], b[1] <= point[1]) {
            (true, false) if side(line, point) > 0.0 => 1,
            (false, true) if side(line, point) < 0.0 => -1,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(polygon: &[Point]) -> Option<String> {
        crossings(polygon).map(|crossings| crossings.to_string())
    }

    /// In both directions, and from each corner on.
    fn turned(polygon: &[Point]) -> Vec<Vec<Point>> {
        let turns = (0..polygon.len()).map(|first| [&polygon[first..], &polygon[..first]].concat());
        turns.flat_map(|turn| [turn.iter().rev().copied().collect(), turn]).collect()
    }

    #[test]
    fn polygon_that_crosses_itself_is_named_by_the_corners_of_its_edges() {
        let rectangle = [[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]];
        let trapezium = [[0.4, 0.2], [0.6, 0.2], [0.1, 0.9], [0.9, 0.9]];
        for polygon in [rectangle, trapezium] {
            assert_eq!(said(&polygon).unwrap(), "its edges cross between corners 2-3 and 4-1");
            assert!(
                turned(&polygon)
                    .iter()
                    .all(|turn| crossings(turn).is_some_and(|found| found.edges.len() == 1))
            );
        }
        // One corner out of its place in a region of six.
        let lane = [[0.1, 0.9], [0.4, 0.3], [0.5, 0.3], [0.5, 0.6], [0.45, 0.2], [0.5, 0.9]];
        assert_eq!(
            said(&lane).unwrap(),
            "its edges cross between corners 2-3 and 4-5, 2-3 and 5-6"
        );
        let star: Vec<Point> =
            (0..5).map(|k| (f64::from(k) * 0.8 * std::f64::consts::PI).sin_cos().into()).collect();
        assert_eq!(crossings(&star).unwrap().edges.len(), 5);
        assert!(said(&star).unwrap().ends_with("and 2 more"));
    }

    #[test]
    fn outline_that_crosses_itself_in_a_corner_or_goes_around_twice_is_found() {
        // Two triangles that meet in a corner of both, one the other way around.
        let hourglass = [[0.2, 0.2], [0.5, 0.5], [0.8, 0.8], [0.8, 0.2], [0.5, 0.5], [0.2, 0.8]];
        // A corner on an edge, and from there to its other side.
        let through = [[0.1, 0.5], [0.9, 0.5], [0.7, 0.8], [0.5, 0.5], [0.3, 0.2]];
        let twice = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9], [0.1, 0.1], [0.9, 0.1], [0.5, 0.9]];
        for polygon in [&hourglass[..], &through, &twice] {
            for turn in turned(polygon) {
                let found = said(&turn).unwrap_or_else(|| panic!("{turn:?}"));
                assert!(found.starts_with("its edges cross between corners"), "{found}");
            }
        }
    }

    #[test]
    fn polygon_whose_edges_touch_is_taken() {
        let convex = vec![[0.1, 0.1], [0.9, 0.2], [0.8, 0.9]];
        let u = vec![
            [0.1, 0.1],
            [0.3, 0.1],
            [0.3, 0.7],
            [0.5, 0.7],
            [0.5, 0.1],
            [0.7, 0.1],
            [0.7, 0.9],
            [0.1, 0.9],
        ];
        // Two squares that meet in a corner, both the same way around.
        let touching = vec![
            [0.1, 0.1],
            [0.5, 0.1],
            [0.5, 0.5],
            [0.9, 0.5],
            [0.9, 0.9],
            [0.5, 0.9],
            [0.5, 0.5],
            [0.1, 0.5],
        ];
        // A hole, with the way there and back; the way leads over the hole's far side.
        let hole = vec![
            [0.0, 0.0],
            [1.0, 0.0],
            [1.0, 1.0],
            [0.0, 1.0],
            [0.0, 0.0],
            [0.6, 0.6],
            [0.6, 0.3],
            [0.3, 0.3],
            [0.3, 0.6],
            [0.6, 0.6],
        ];
        let spike = vec![[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.95, 0.95], [0.9, 0.9], [0.1, 0.9]];
        let closed = vec![[0.1, 0.1], [0.9, 0.1], [0.5, 0.9], [0.1, 0.1]];
        let doubled = vec![[0.1, 0.1], [0.1, 0.1], [0.9, 0.1], [0.5, 0.1], [0.9, 0.1], [0.5, 0.9]];
        for polygon in [convex, u, touching, hole, spike, closed, doubled] {
            for turn in turned(&polygon) {
                assert_eq!(said(&turn), None, "{turn:?}");
            }
        }
    }

    #[test]
    fn circle_of_many_corners_is_taken_and_a_pair_of_them_swapped_is_not() {
        let corner = |k: usize| {
            let (sin, cos) = (k as f64 / 500.0 * std::f64::consts::TAU).sin_cos();
            [0.5 + 0.4 * cos, 0.5 + 0.4 * sin]
        };
        let mut circle: Vec<_> = (0..500).map(corner).collect();
        assert_eq!(said(&circle), None);
        circle.swap(100, 101);
        assert_eq!(said(&circle).unwrap(), "its edges cross between corners 100-101 and 102-103");
    }
}
