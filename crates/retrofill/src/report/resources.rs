//! What this process used, as the system counts it.

use std::fs;

use serde::Serialize;

/// What the process that made the report used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Resources {
    /// The most memory at once, bytes.
    pub peak_memory: u64,
    /// Seconds of all cores.
    pub cpu_seconds: f64,
    /// Bytes read from files and sockets, also from the system's cache.
    pub bytes_read: u64,
}

impl Resources {
    /// None where the system does not tell.
    pub fn now() -> Option<Self> {
        Some(Resources {
            peak_memory: field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")? << 10,
            cpu_seconds: cpu(&fs::read_to_string("/proc/self/stat").ok()?)?,
            bytes_read: field(&fs::read_to_string("/proc/self/io").ok()?, "rchar:")?,
        })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field are ticks in user and system mode; the second, the program's name in
/// parentheses, may hold anything.
fn cpu(stat: &str) -> Option<f64> {
    let after = stat.rsplit_once(')')?.1;
    let mut ticks = after.split_whitespace().skip(11).map(str::parse::<u64>);
    let sum = ticks.next()?.ok()? + ticks.next()?.ok()?;
    let seconds = sum as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some((seconds * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 10 0 0 0 250 50 0 0 20 0 1 0 5";
        let hertz = rustix::param::clock_ticks_per_second() as f64;
        assert!((cpu(stat).unwrap() - 300.0 / hertz).abs() < 0.01);
        assert_eq!(field("VmPeak:\t 9 kB\nVmHWM:\t  12 kB\n", "VmHWM:"), Some(12));
        assert_eq!(field("", "VmHWM:"), None);
        #[cfg(target_os = "linux")]
        assert!(Resources::now().unwrap().peak_memory > 1 << 20);
    }
}
