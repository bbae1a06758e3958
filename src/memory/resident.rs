//! How much memory the system counts against this process.

use std::fs;

/// Bytes that are in memory now, of code and files too; `None` where the system does not say.
#[must_use]
pub(crate) fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The line `VmRSS` of `/proc/self/status`.
fn resident(status: &str) -> Option<u64> {
    let rest = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_what_the_kernel_says() {
        let status = "Name:\tmillstream\nVmPeak:\t  900 kB\nVmRSS:\t  1024 kB\nThreads:\t3\n";
        assert_eq!(resident(status), Some(1 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
        assert!(resident_bytes().is_none_or(|bytes| bytes > 1 << 20));
    }
}
