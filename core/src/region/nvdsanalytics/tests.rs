//! Tests of files of nvdsanalytics.

use super::*;
use crate::density::{DensityMap, Grid, Rect};
use crate::region::Coverage;

const SAMPLE: &str = "
[property]
enable=1
# Positions are pixels of this frame.
config-width=1920
config-height=1080
osd-mode=2

[roi-filtering-stream-0]
enable=1
roi-RF=0;0;960;0;960;1080;0;1080;
inverse-roi=0
class-id=-1

[overcrowding-stream-0]
enable=1
roi-OC=960;540;1920;540;1920;1080;960;1080
object-threshold=12
time-threshold=2000
class-id=0;2

[overcrowding-stream-2]
enable=0
roi-OC=1;1;1;1

[line-crossing-stream-0]
enable=1
line-crossing-Exit=789;672;1084;900;851;773;1203;732

[vehiclecount-stream-0]
camera-id=north gate
scale-factor=1.25
interval=4
moderate=3
dense=6
jammed=9
";

#[test]
fn file_of_nvdsanalytics_serves_as_it_is() {
    let file = SourcesFile::parse(SAMPLE, "sample").unwrap();
    assert_eq!(file.sources.keys().copied().collect::<Vec<_>>(), [0]);
    let source = &file.sources[&0];
    let [rf, oc] = &source.regions[..] else { panic!("{:?}", source.regions) };
    assert_eq!(
        (rf.name.as_str(), &rf.polygon),
        ("RF", &vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]])
    );
    assert_eq!((oc.name.as_str(), oc.levels.jammed, oc.levels.moderate), ("OC", 12.0, 4.0));
    assert_eq!(source.camera.as_deref(), Some("north gate"));
    assert_eq!((source.scale, source.interval), (Some(1.25), Some(4)));
    assert_eq!(source.levels, Some(Levels { moderate: 3.0, dense: 6.0, jammed: 9.0 }));
    let left_out = file.left_out.join("\n");
    assert!(left_out.contains("[line-crossing-stream-0]: it needs tracks"), "{left_out}");
    assert!(left_out.contains("time-threshold") && left_out.contains("class-id"), "{left_out}");
    assert_eq!(file.left_out.len(), 3);
}

#[test]
fn inverse_region_is_all_but_the_polygon_whichever_way_it_goes_around() {
    let map = DensityMap {
        grid: Grid { columns: 4, rows: 4, rect: Rect::FRAME },
        cells: [1.0; 16].into(),
    };
    let base = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n[roi-filtering-stream-7]\nenable=1\ninverse-roi=1\n";
    for corners in ["10;10;60;10;60;40;10;40", "10;40;60;40;60;10;10;10"] {
        let file = SourcesFile::parse(&format!("{base}roi-out={corners}\n"), "inline").unwrap();
        let covered = Coverage::new(&file.sources[&7].regions[0].polygon, &map.grid).count(&map);
        assert!((covered - 16.0 * (1.0 - 0.5 * 0.3)).abs() < 1e-5, "{covered}");
    }
}

#[test]
fn region_that_crosses_itself_is_named_with_its_group_inverse_or_not() {
    let base = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n";
    let corners = "10;10;60;10;10;40;60;40";
    for group in [
        "roi-filtering-stream-7]\ninverse-roi=1",
        "roi-filtering-stream-7]",
        "overcrowding-stream-7]",
    ] {
        let text = format!("{base}[{group}\nenable=1\nroi-out={corners}\n");
        let error = SourcesFile::parse(&text, "inline").unwrap_err().to_string();
        assert!(error.contains("roi-out") && error.contains("corners 2-3 and 4-1"), "{error}");
    }
}

#[test]
fn label_used_by_two_groups_of_a_source_stays_two_regions() {
    let text = "[property]\nenable=1\nconfig-width=10\nconfig-height=10\n[roi-filtering-stream-0]\nenable=1\nroi-A=0;0;9;0;9;9\n\
                    [overcrowding-stream-0]\nenable=1\nroi-A=0;0;9;0;9;9\n";
    let file = SourcesFile::parse(text, "inline").unwrap();
    let names: Vec<_> =
        file.sources[&0].regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["A", "A (overcrowding)"]);
}

#[test]
fn whole_file_that_is_off_has_no_regions_but_keeps_the_sources_names() {
    let off = SAMPLE.replacen("enable=1", "enable=0", 1);
    let file = SourcesFile::parse(&off, "inline").unwrap();
    assert!(file.sources[&0].regions.is_empty());
    assert_eq!(file.sources[&0].camera.as_deref(), Some("north gate"));
}

#[test]
fn wrong_files_are_named_with_group_and_key() {
    let error = |text: &str| SourcesFile::parse(text, "f.txt").unwrap_err().to_string();
    let head = "[property]\nenable=1\nconfig-width=100\nconfig-height=100\n[roi-filtering-stream-0]\nenable=1\n";
    assert!(error("nonsense").contains("f.txt, line 1: \"nonsense\""));
    assert!(error("[roi-filtering-stream-x]\nenable=1\n").contains("source's number"));
    assert!(
        error("[roi-filtering-stream-0]\nenable=1\nroi-A=0;0;1;0;1;1\n").contains("config-width")
    );
    assert!(
        error(&format!("{head}roi-A=0;0;1;0;1\n"))
            .contains("[roi-filtering-stream-0] roi-A=0;0;1;0;1: write x;y")
    );
    assert!(
        error(&format!("{head}roi-A=0;0;101;0;1;1\n"))
            .contains("outside the configured frame of 100x100")
    );
    assert!(error(&format!("{head}roi-A=0;0;50;50;100;100\n")).contains("no area"));
    assert!(error("[vehiclecount-stream-0]\ncamera=x\n").contains("the keys are camera-id"));
    assert!(error("[vehiclecount-stream-0]\ndense=4\n").contains("all three levels"));
    assert!(
        SourcesFile::read(Path::new("/nowhere.txt"))
            .unwrap_err()
            .to_string()
            .contains("/nowhere.txt")
    );
}
