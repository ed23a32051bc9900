//! The kernels through NVIDIA's own compiler, which needs no GPU: the PTX that ships is what their
//! sources become, and every kind of GPU that is promised can be compiled for.
//!
//! `tools/nvrtc.sh` fetches the compiler; where it is not there the tests are skipped, unless
//! `VEHICLECOUNT_REQUIRE_NVRTC` is set. `VEHICLECOUNT_BLESS=1` writes the PTX anew.

#![allow(clippy::unwrap_used)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

/// The sources; the PTX lies beside them.
const SOURCES: [&str; 2] = ["src/preprocess/kernel.cu", "src/density.cu"];

/// Turing, the two kinds of Ampere, Orin, Ada, Hopper, Blackwell.
const GPUS: [u32; 7] = [75, 80, 86, 87, 89, 90, 120];

struct Compiler {
    library: Library,
    _builtins: Library,
}

type Program = *mut c_void;

impl Compiler {
    /// The compiler of that version.
    fn open(version: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folders = [
            std::env::var_os("VEHICLECOUNT_RUNTIME").map(PathBuf::from),
            Some(root.join(".runtime")),
        ];
        let folders =
            folders.into_iter().flatten().map(|folder| folder.join(format!("nvrtc-{version}")));
        let Some(folder) =
            folders.into_iter().find(|folder| folder.join("libnvrtc.so.12").is_file())
        else {
            assert!(
                std::env::var_os("VEHICLECOUNT_REQUIRE_NVRTC").is_none(),
                "no NVRTC {version}: run tools/nvrtc.sh"
            );
            eprintln!("skipped: no NVRTC {version}; tools/nvrtc.sh fetches it");
            return None;
        };
        let open = |name: String, scope| {
            // SAFETY: NVIDIA's compiler, made to be opened so. It finds its second library by name,
            // as it is open already.
            unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | scope) }.unwrap()
        };
        let builtins = open(format!("libnvrtc-builtins.so.{version}"), RTLD_GLOBAL);
        Some(Self { library: open("libnvrtc.so.12".to_owned(), RTLD_LOCAL), _builtins: builtins })
    }

    /// `source` compiled for `architecture`: PTX for a virtual one, a cubin for a real one.
    fn compile(&self, source: &str, architecture: &str) -> Vec<u8> {
        let text =
            CString::new(fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap())
                .unwrap();
        let name = CString::new(Path::new(source).file_name().unwrap().to_str().unwrap()).unwrap();
        let options = [format!("--gpu-architecture={architecture}"), "--std=c++14".to_owned()];
        let options = options.map(|option| CString::new(option).unwrap());
        let pointers = options.each_ref().map(|option| option.as_ptr());
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        let mut program = ptr::null_mut();
        // SAFETY: the functions have these types (nvrtc.h), and every string lives through its
        // call.
        unsafe {
            let create = self.library.get::<Create>(b"nvrtcCreateProgram").unwrap();
            assert_eq!(
                create(&mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null()),
                0
            );
            let compile = self.library.get::<Compile>(b"nvrtcCompileProgram").unwrap();
            let result = compile(program, 2, pointers.as_ptr());
            let log = String::from_utf8_lossy(&self.get(program, "ProgramLog")).into_owned();
            let log = log.trim_end_matches('\0').trim();
            assert!(result == 0 && log.is_empty(), "{source} for {architecture}: {log}");
            let made = self
                .get(program, if architecture.starts_with("compute") { "PTX" } else { "CUBIN" });
            self.library.get::<Destroy>(b"nvrtcDestroyProgram").unwrap()(&mut program);
            made
        }
    }

    /// # Safety
    /// `program` is one, and has `what`.
    unsafe fn get(&self, program: Program, what: &str) -> Vec<u8> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut size = 0;
        // SAFETY: the functions have these types, and the buffer is as long as was said.
        unsafe {
            let (ask, get) = (format!("nvrtcGet{what}Size"), format!("nvrtcGet{what}"));
            assert_eq!(self.library.get::<Size>(ask.as_bytes()).unwrap()(program, &mut size), 0);
            let mut bytes = vec![0u8; size];
            assert_eq!(
                self.library.get::<Get>(get.as_bytes()).unwrap()(
                    program,
                    bytes.as_mut_ptr().cast()
                ),
                0
            );
            bytes
        }
    }
}

#[test]
fn ptx_that_ships_is_what_the_sources_become() {
    let Some(compiler) = Compiler::open("12.0") else { return };
    for source in SOURCES {
        let mut made = compiler.compile(source, "compute_75");
        while made.last() == Some(&0) {
            made.pop();
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source).with_extension("ptx");
        if std::env::var_os("VEHICLECOUNT_BLESS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let same = fs::read(&path).unwrap() == made;
        assert!(
            same,
            "{} is out of date: VEHICLECOUNT_BLESS=1 cargo test --test nvrtc",
            path.display()
        );
    }
}

#[test]
fn every_kind_of_gpu_can_be_compiled_for() {
    let Some(compiler) = Compiler::open("12.9") else { return };
    for source in SOURCES {
        for gpu in GPUS {
            let made = compiler.compile(source, &format!("sm_{gpu}"));
            assert!(made.starts_with(b"\x7fELF") && made.len() > 1000, "{source} for {gpu}");
        }
    }
}
