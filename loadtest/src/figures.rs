//! What the system tells of a process: processor time and memory, from `/proc`.

use std::fs;

/// Length of a tick of `/proc/…/stat` in seconds.
const TICK_SECONDS: f64 = 0.01;

/// User and system time of a process (`self` or a number) in seconds; 0 where the system does not
/// tell.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    cpu_seconds_of(&format!("/proc/{process}/stat"))
}

/// The same of the calling thread.
pub(crate) fn thread_cpu_seconds() -> f64 {
    cpu_seconds_of("/proc/thread-self/stat")
}

/// Largest resident set of a process in bytes; 0 where the system does not tell.
pub(crate) fn peak_rss_bytes(process: &str) -> u64 {
    let read = || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    read().unwrap_or_default()
}

/// The 14th and 15th field are user and system time, counted after the command's name in brackets.
fn cpu_seconds_of(stat: &str) -> f64 {
    let read = || {
        let stat = fs::read_to_string(stat).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11);
        let user: f64 = times.next()?.parse().ok()?;
        let system: f64 = times.next()?.parse().ok()?;
        Some((user + system) * TICK_SECONDS)
    };
    read().unwrap_or_default()
}
