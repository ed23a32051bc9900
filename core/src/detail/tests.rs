use super::*;
use crate::density::{DensityMap, Grid, Rect};
use crate::preprocess::{InputSize, Placement, Resize};
use crate::region::{Coverage, Detail, Levels, Point, Polygon, Region};

const INPUT: InputSize = InputSize { width: 512, height: 288 };
const CELLS: (usize, usize) = (64, 36);
const HD: (usize, usize) = (1920, 1080);

fn region(polygon: &[Point], detail: Detail) -> Region {
    let mut region = Region::new(format!("{polygon:?}"), polygon.to_vec(), Levels::default());
    region.detail = detail;
    region
}

fn square(x: f64, y: f64, width: f64, height: f64) -> Polygon {
    vec![[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
}

fn plan(regions: &[Region], picture: (usize, usize)) -> Option<Plan> {
    Plan::new(regions, picture, Resize::Letterbox, INPUT)
}

/// Where the whole picture's density lies.
fn whole(plan: &Plan) -> Grid {
    let (width, height) = plan.picture;
    Placement::new(plan.resize, width, height, plan.input).grid(CELLS.0, CELLS.1)
}

fn blend(plan: &Plan) -> Blend {
    Blend::new(plan, whole(plan))
}

/// The map over `grid` of `density` vehicles in the area of a frame, where `at` says so of the
/// middle of a cell.
fn map(grid: &Grid, density: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    let cells = (0..grid.len()).map(|index| {
        let cell = grid.cell(index % grid.columns, index / grid.columns);
        let (x, y) = (cell.x + cell.width / 2.0, cell.y + cell.height / 2.0);
        (density(x, y) * cell.width * cell.height) as f32
    });
    cells.collect()
}

/// The blended map, where the whole picture has density `base` and the looks have `seen`.
fn blended(plan: &Plan, base: f64, seen: impl Fn(usize, f64, f64) -> f64) -> DensityMap {
    let blend = blend(plan);
    let mut maps = vec![map(&whole(plan), |_, _| base)];
    for look in &plan.looks {
        let grid = plan.grid(look, CELLS.0, CELLS.1);
        maps.push(map(&grid, |x, y| seen(look.region, x, y)));
    }
    let maps: Vec<&[f32]> = maps.iter().map(Vec::as_slice).collect();
    DensityMap { grid: blend.grid(), cells: blend.blend(&maps).into() }
}

fn inside(map: &DensityMap, polygon: &[Point]) -> f64 {
    Coverage::new(polygon, &map.grid).count(map)
}

#[track_caller]
fn near(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-3 * expected.abs().max(1.0), "{value}, not {expected}");
}

/// An area of the density of the whole frame, that of the letterbox border included.
fn border(plan: &Plan) -> f64 {
    let Rect { width, height, .. } = whole(plan).rect;
    width * height
}

#[test]
fn far_strip_is_covered_by_crops_side_by_side_at_the_enlargement_asked_for() {
    let strip = region(&square(0.0, 0.2, 1.0, 0.15), Detail::Times(2.0));
    let plan = plan(&[strip], HD).unwrap();
    // Three windows of half the width would show it twice as large; two show it 1.75 times.
    assert_eq!(plan.looks.len(), 2);
    assert!((1.73..=1.75).contains(&plan.factors[0]), "{:?}", plan.factors);
    let mut edge = 0.0;
    for Look { crop, own, .. } in &plan.looks {
        near(own.x, edge);
        edge = own.x + own.width;
        assert_eq!((own.y, own.height), (0.2, 0.35 - 0.2));
        assert!(crop.x + crop.width <= HD.0 && crop.y + crop.height <= HD.1);
        let (left, right) = (own.x * 1920.0, (own.x + own.width) * 1920.0);
        // Where the frame goes on there is context.
        assert!(crop.x == 0 || left - crop.x as f64 > 60.0, "{crop:?} {own:?}");
        let end = crop.x + crop.width;
        assert!(end == 1920 || end as f64 - right > 60.0, "{crop:?} {own:?}");
    }
    near(edge, 1.0);
}

#[test]
fn small_region_has_one_crop_around_it_at_native_scale() {
    let corner = region(&square(0.9, 0.0, 0.1, 0.1), Detail::On);
    let plan = plan(&[corner], HD).unwrap();
    assert_eq!(plan.looks.len(), 1);
    near(plan.factors[0], 1920.0 / 512.0);
    assert_eq!(plan.looks[0].crop, Crop { x: 1920 - 512, y: 0, width: 512, height: 288 });
}

#[test]
fn nothing_is_shown_larger_than_the_picture_has_it() {
    let half = |detail| [region(&square(0.25, 0.25, 0.3, 0.3), detail)];
    near(plan(&half(Detail::Times(8.0)), (1280, 720)).unwrap().factors[0], 2.5);
    near(plan(&half(Detail::Times(1.5)), (1280, 720)).unwrap().factors[0], 1.5);
    // A picture as small as the input, and one hardly larger, have nothing more to show.
    assert_eq!(plan(&half(Detail::On), (512, 288)), None);
    assert_eq!(plan(&half(Detail::On), (576, 324)), None);
    assert_eq!(plan(&half(Detail::Off), HD), None);
}

#[test]
fn crops_are_bounded_and_all_regions_pay_for_it() {
    let all = [region(&square(0.0, 0.0, 1.0, 1.0), Detail::Times(8.0))];
    let plan = plan(&all, (7680, 4320)).unwrap();
    assert!(plan.is_limited && plan.looks.len() <= MAX_LOOKS && plan.looks.len() >= 4);
    assert!(plan.factors[0] >= 1.7, "{:?}", plan.factors);
}

#[test]
fn of_too_many_regions_the_first_ones_have_looks() {
    let many: Vec<_> = (0..20)
        .map(|index| region(&square(f64::from(index) / 20.0, 0.4, 0.04, 0.04), Detail::On))
        .collect();
    let plan = plan(&many, HD).unwrap();
    assert!(plan.is_limited);
    assert_eq!((plan.looks.len(), plan.regions.len()), (MAX_LOOKS, MAX_LOOKS));
    assert_eq!(plan.regions[7], many[7].polygon);
    // Where nothing is gained, nothing is limited.
    assert_eq!(super::Plan::new(&many, (512, 288), Resize::Letterbox, INPUT), None);
}

#[test]
fn looks_that_see_the_same_density_change_nothing() {
    // A strip, a triangle over it, a concave region, off the grid's lines.
    let concave = [[0.1, 0.55], [0.45, 0.93], [0.71, 0.52], [0.44, 0.72]];
    let regions = [
        region(&square(0.013, 0.21, 0.97, 0.13), Detail::Times(2.0)),
        region(&[[0.4, 0.1], [0.7, 0.1], [0.55, 0.5]], Detail::On),
        region(&concave, Detail::Times(3.0)),
    ];
    for (picture, resize) in [
        (HD, Resize::Letterbox),
        ((1000, 999), Resize::Letterbox),
        ((3001, 777), Resize::Letterbox),
        ((997, 1733), Resize::Stretch),
    ] {
        let plan = Plan::new(&regions, picture, resize, INPUT).unwrap();
        let map = blended(&plan, 40.0, |_, _, _| 40.0);
        near(map.count(), 40.0 * border(&plan));
        let cell = 40.0 * border(&plan) / map.grid.len() as f64;
        for (index, &value) in map.cells.iter().enumerate() {
            let error = (f64::from(value) - cell).abs();
            assert!(error < 2e-4 * cell, "{picture:?}, cell {index}: {value}, not {cell}");
        }
    }
}

#[test]
fn density_of_a_look_takes_the_place_of_the_pictures_inside_its_region_alone() {
    let strip = square(0.0, 0.2, 1.0, 0.15);
    let plan = plan(&[region(&strip, Detail::Times(2.0))], HD).unwrap();
    let map = blended(&plan, 40.0, |_, _, _| 100.0);
    near(map.count(), 40.0 * 0.85 + 100.0 * 0.15);
    // By the cells, the region has what the look gave, but for the cells on its edge.
    near(inside(&map, &square(0.0, 0.225, 1.0, 0.1)), 100.0 * 0.1);
    near(inside(&map, &square(0.0, 0.0, 1.0, 0.175)), 40.0 * 0.175);
    near(inside(&map, &square(0.0, 0.375, 1.0, 0.5)), 40.0 * 0.5);
    let whole = inside(&map, &strip);
    assert!((14.0..15.01).contains(&whole), "{whole}");
}

#[test]
fn vehicle_on_the_regions_edge_is_shared_by_picture_and_look() {
    // One vehicle lies half on either side of the edge at x = 0.5; both see all of it.
    let vehicle = |x: f64, y: f64| {
        if (0.48..0.52).contains(&x) && (0.48..0.52).contains(&y) { 1.0 / 0.0016 } else { 0.0 }
    };
    let plan = plan(&[region(&square(0.5, 0.4, 0.2, 0.2), Detail::On)], HD).unwrap();
    let blend = blend(&plan);
    let seen = plan.grid(&plan.looks[0], CELLS.0, CELLS.1);
    let [base, look] = [whole(&plan), seen].map(|grid| map(&grid, vehicle));
    let [base_sum, look_sum] = [&base, &look].map(|map| map.iter().sum::<f32>());
    let sum: f32 = blend.blend(&[&base, &look]).iter().sum();
    // Each vehicle is 0.04 of the frame wide, of 1/64 a cell: the sums differ by the cells' size.
    let expected = (base_sum + look_sum) / 2.0;
    assert!((sum - expected).abs() < 0.2, "{sum}; the picture {base_sum}, the look {look_sum}");
}

#[test]
fn regions_that_overlap_count_each_place_once_and_the_first_one_decides() {
    let left = region(&square(0.2, 0.3, 0.3, 0.3), Detail::On);
    let right = region(&square(0.4, 0.3, 0.3, 0.3), Detail::On);
    let of = |regions: &[Region]| {
        let plan = plan(regions, HD).unwrap();
        blended(&plan, 0.0, |region, _, _| if region == 0 { 100.0 } else { 10.0 })
    };
    near(of(&[left.clone(), right.clone()]).count(), 100.0 * 0.09 + 10.0 * 0.06);
    near(of(&[right, left.clone()]).count(), 100.0 * 0.09 + 10.0 * 0.06);
    // The same region again has no more than what is left of the cells on its edge.
    let mut again = left.clone();
    again.name = "again".to_owned();
    let twice = of(&[left, again]).count();
    assert!((9.0..9.05).contains(&twice), "{twice}");
    // Slanted edges that cross inside cells.
    let slanted = [
        region(&[[0.2, 0.2], [0.8, 0.25], [0.3, 0.7]], Detail::Times(2.0)),
        region(&[[0.7, 0.2], [0.75, 0.7], [0.25, 0.3]], Detail::Times(2.0)),
    ];
    let plan = plan(&slanted, HD).unwrap();
    near(blended(&plan, 50.0, |_, _, _| 50.0).count(), 50.0);
    let most = blended(&plan, 0.0, |_, _, _| 50.0);
    assert!(most.cells.iter().all(|&cell| f64::from(cell) < 50.001 / most.grid.len() as f64));
}

#[test]
fn letterbox_border_keeps_what_the_picture_gave() {
    let all = region(&square(0.0, 0.0, 1.0, 1.0), Detail::Times(1.5));
    let plan = plan(&[all], (1080, 1080)).unwrap();
    assert!(border(&plan) > 1.7);
    let map = blended(&plan, 10.0, |_, _, _| 30.0);
    near(map.count(), 30.0 + 10.0 * (border(&plan) - 1.0));
}

#[test]
fn finer_cells_are_at_most_four_times_as_many_each_way() {
    for (factor, finer) in [(1.3, 1), (2.0, 2), (3.0, 3), (7.0, 4)] {
        let corner = region(&square(0.0, 0.0, 0.05, 0.05), Detail::Times(factor));
        let plan = plan(&[corner], (7680, 4320)).unwrap();
        let grid = blend(&plan).grid();
        assert_eq!((grid.columns, grid.rows), (CELLS.0 * finer, CELLS.1 * finer));
        assert_eq!(grid.rect, whole(&plan).rect);
    }
}
