//! Other programs: applications in C and Python, valgrind, and the doctor.

use super::*;

/// A folder with the plugin and the stand-in, and what a program needs to find both and nothing
/// else.
struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new(standin: Option<&StandIn>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugin = "libgstvehiclecount.so";
        let built = std::env::current_exe().unwrap().with_file_name(plugin);
        std::fs::copy(built, folder.path().join(plugin))
            .expect("cargo builds the plugin for its tests");
        if let Some(standin) = standin {
            for file in std::fs::read_dir(&standin.folder).unwrap().map(|file| file.unwrap().path())
            {
                std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
            }
        }
        Self(folder)
    }

    fn run(&self, command: &mut Command) -> (bool, String, String) {
        let folder = self.0.path();
        command.env("GST_PLUGIN_PATH", folder).env("GST_REGISTRY", folder.join("registry.bin"));
        command
            .env("VEHICLECOUNT_DEEPSTREAM", folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove(VARIABLE);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// The C example, compiled against the stand-in's headers.
    fn c_example(&self) -> std::path::PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = self.0.path().join("deepstream-print-counts");
        let flags = Command::new("pkg-config")
            .args(["--cflags", "--libs", "gstreamer-1.0"])
            .output()
            .unwrap()
            .stdout;
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-o"]).arg(&program);
        compile.arg(root.join("../gst-plugin/examples/deepstream-print-counts.c"));
        compile
            .arg("-I")
            .arg(root.join("../gst-plugin/include"))
            .arg("-I")
            .arg(root.join("deepstream/include"));
        compile.arg("-L").arg(self.0.path()).args([
            "-lnvdsgst_meta",
            "-lnvds_meta",
            "-Wl,-rpath,$ORIGIN",
        ]);
        let built =
            compile.args(String::from_utf8(flags).unwrap().split_whitespace()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        program
    }
}

fn batches(number: u32) -> String {
    format!(
        "standinsrc num-buffers={number} interval=1 ! vehiclecounternvmm source=tensor-meta message-blob=true osd-mode=counts \
         regions={} ! fakesink name=out",
        r#""{\"regions\": [{\"name\": \"left\", \"polygon\": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}]}""#
    )
}

const PRINTED: &str = "\
camera-0 frame 0: 1.50 vehicles (smoothed 1.50), free; left 1.00; density 4x2 sums to 1.50
camera-1 frame 0: 2.50 vehicles (smoothed 2.50), free; left 2.00; density 4x2 sums to 2.50
camera-0 frame 1: 1.50 vehicles (smoothed 1.50), free; left 1.00; density 4x2 sums to 1.50
camera-1 frame 1: 2.50 vehicles (smoothed 2.50), free; left 2.00; density 4x2 sums to 2.50
";

const PRINTED_WITH_PYDS: &str = "\
source 0, camera-0 frame 0: 1.50 vehicles, free; left 1.00
source 1, camera-1 frame 0: 2.50 vehicles, free; left 2.00
source 0, camera-0 frame 1: 1.50 vehicles, free; left 1.00
source 1, camera-1 frame 1: 2.50 vehicles, free; left 2.00
";

#[test]
fn applications_in_c_and_python_print_the_counts() {
    let standin = standin();
    let workplace = Workplace::new(Some(&standin));
    let (good, printed, said) = workplace.run(Command::new(workplace.c_example()).arg(batches(2)));
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED);
    const NEEDED: &str =
        "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst";
    let has_gobject = |python: &&str| {
        Command::new(python)
            .args(["-c", NEEDED])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_gobject);
    let python =
        python.expect("the packages python3-gi and python3-gst-1.0, which this test needs");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("../gst-plugin/examples/deepstream_print_counts.py");
    let (good, printed, said) = workplace.run(Command::new(python).arg(script).arg(batches(2)));
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED);
    // With pyds, or what stands in for it.
    let script = root.join("../gst-plugin/examples/deepstream_pyds_print_counts.py");
    let mut command = Command::new(python);
    command.arg(script).arg(batches(2)).env("PYTHONPATH", root.join("deepstream/python"));
    let (good, printed, said) = workplace.run(&mut command);
    assert!(good, "{said}");
    assert_eq!(printed, PRINTED_WITH_PYDS);
}

#[test]
fn header_is_c_plus_plus_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let flags =
        Command::new("pkg-config").args(["--cflags", "gstreamer-1.0"]).output().unwrap().stdout;
    let mut check = Command::new("c++");
    check.args(["-x", "c++", "-std=c++14", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
    check
        .arg("-I")
        .arg(root.join("../gst-plugin/include"))
        .arg("-I")
        .arg(root.join("deepstream/include"));
    check.args(String::from_utf8(flags).unwrap().split_whitespace());
    let checked =
        check.arg(root.join("../gst-plugin/examples/deepstream-print-counts.c")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn valgrind_finds_no_fault_in_a_hundred_batches() {
    let standin = standin();
    let workplace = Workplace::new(Some(&standin));
    let program = workplace.c_example();
    // Fills the registry, so that no scanner runs under valgrind.
    assert!(workplace.run(Command::new(&program).arg(batches(1))).0);
    let mut command = Command::new("valgrind");
    command.args(["--leak-check=full", "--show-leak-kinds=definite", "--num-callers=40"]);
    let (good, printed, said) = workplace.run(command.arg(program).arg(batches(100)));
    assert!(good, "{said}");
    assert!(said.contains("HEAP SUMMARY"), "{said}");
    // Records stand between lines that are empty but for the process's number. GLib's own
    // constructor leaks a block: what is lost counts where we had a hand in it.
    let records = said.split("== \n");
    // The loader compares strings by whole words, past their ends: `strncmp`, called by a function
    // of dl-load.c.
    let loader =
        |record: &str| record.lines().nth(2).is_some_and(|caller| caller.contains("(dl-load.c:"));
    let faulty = |record: &&str| {
        record.contains("Invalid ") && !loader(record)
            || record.contains("uninitialised")
            || record.contains("Mismatched ")
            || record.contains("definitely lost in loss record")
                && record.contains("vehiclecount::")
    };
    assert_eq!(records.filter(faulty).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(printed.lines().count(), 200);
}

#[test]
fn without_deepstream_the_element_is_there_and_says_what_it_lacks_when_it_starts() {
    let workplace = Workplace::new(None);
    let (good, text, said) =
        workplace.run(Command::new("gst-inspect-1.0").arg("vehiclecounternvmm"));
    assert!(good && text.contains("infer-on-gie-id"), "{said}");
    let pipeline = "fakesrc num-buffers=1 ! video/x-raw(memory:NVMM),format=RGBA,width=64,height=32,framerate=1/1 ! vehiclecounternvmm \
                    source=tensor-meta ! fakesink";
    let (good, _, said) =
        workplace.run(Command::new("gst-launch-1.0").args(pipeline.split_whitespace()));
    assert!(!good && said.contains("DeepStream's libnvdsgst_meta.so was not found"), "{said}");
    assert!(said.contains("install DeepStream 6.4 or later, or name the folder"), "{said}");
    // A library that is there and does not load is no missing one.
    std::fs::write(workplace.0.path().join("libnvdsgst_meta.so"), "no library").unwrap();
    let (good, _, said) =
        workplace.run(Command::new("gst-launch-1.0").args(pipeline.split_whitespace()));
    assert!(!good && said.contains("libnvdsgst_meta.so cannot be loaded: "), "{said}");
}

#[test]
fn doctor_finds_nothing_wrong_with_a_whole_deepstream() {
    let standin = standin();
    let findings = doctor::examine();
    let wrong: Vec<_> =
        findings.iter().filter(|finding| finding.state == doctor::State::Bad).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let said: String =
        findings.iter().map(|finding| format!("{}: {}\n", finding.what, finding.text)).collect();
    let (major, minor) = version();
    assert!(said.contains(&format!("version: {major}.{minor}")), "{said}");
    assert!(said.contains("counts survive the copy of a buffer"), "{said}");
    assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
}
