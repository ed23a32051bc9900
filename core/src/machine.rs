//! The machine that this process runs on, as far as counting asks about it.

use std::fs;
use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Kind of processor, such as "x86_64" or "aarch64".
    pub arch: String,
    /// Processors that this process may use: its affinity and its container's share.
    pub processors: usize,
    /// What the processors can do beside plain arithmetic.
    pub abilities: Abilities,
    /// Bytes that this process may use, its container's limit counted; `None` where the system does
    /// not tell.
    pub memory: Option<u64>,
}

/// Instructions that make networks faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Products of INT8, summed in one instruction: VNNI or AMX on x86-64, DotProd or I8MM on ARM.
    pub int8: bool,
    /// The same of bfloat16.
    pub bf16: bool,
    /// Matrices in one instruction: AMX on x86-64, I8MM on ARM.
    pub matrices: bool,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            processors: processors(),
            abilities: Abilities::of_cpuinfo(cpuinfo()),
            memory: memory(),
        }
    }
}

impl Abilities {
    /// What the text of `/proc/cpuinfo` tells: `flags` of x86-64 or `Features` of ARM, of the first
    /// processor.
    pub fn of_cpuinfo(text: &str) -> Self {
        let words = text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            matches!(key.trim(), "flags" | "Features").then_some(value)
        });
        let has = |all: &[&str]| {
            words.unwrap_or_default().split_whitespace().any(|word| all.contains(&word))
        };
        Self {
            int8: has(&["avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"]),
            bf16: has(&["avx512_bf16", "amx_bf16", "bf16"]),
            matrices: has(&["amx_int8", "i8mm"]),
        }
    }
}

/// Processors that this process may use: its affinity and its container's share.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The file is long where there are many cores: it is read once.
fn cpuinfo() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    &TEXT
}

/// The processor's name, where the system tells, else its kind.
pub fn processor() -> &'static str {
    let name = cpuinfo()
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim())
}

/// Bytes of memory: the system's, or the limit of the control group where that is lower.
fn memory() -> Option<u64> {
    let system = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    system.into_iter().chain(limits).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_tell_their_abilities_in_their_own_words() {
        let of = |words: &str| {
            let Abilities { int8, bf16, matrices } = Abilities::of_cpuinfo(words);
            (int8, bf16, matrices)
        };
        let x86 = |flags: &str| format!("processor\t: 0\nmodel name\t: A\nflags\t\t: {flags}\n\n");
        assert_eq!(of(&x86("fpu avx2 fma")), (false, false, false));
        assert_eq!(of(&x86("avx2 avx_vnni")), (true, false, false));
        assert_eq!(of(&x86("avx512f avx512_vnni avx512_bf16")), (true, true, false));
        assert_eq!(of(&x86("avx512_vnni amx_tile amx_int8 amx_bf16")), (true, true, true));
        // A Raspberry Pi 4, a Jetson Orin, a Graviton 3.
        assert_eq!(of("processor : 0\nFeatures : fp asimd crc32\n"), (false, false, false));
        assert_eq!(of("Features\t: fp asimd asimddp\n"), (true, false, false));
        assert_eq!(of("Features\t: fp asimddp i8mm bf16\n"), (true, true, true));
        assert_eq!(of(""), (false, false, false));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total("MemTotal: many\n"), None);
        let here = Machine::here();
        assert!(here.processors > 0 && here.memory.is_none_or(|bytes| bytes > 1 << 20), "{here:?}");
    }
}
