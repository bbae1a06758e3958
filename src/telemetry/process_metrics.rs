//! What the process itself uses: processor time, memory, and how busy a runtime's threads are.

use std::fs;

use opentelemetry::{KeyValue, global};
use tokio::runtime::Handle;

use super::start::SCOPE;
use crate::memory::resident_bytes;

/// Ticks of the kernel's clock in a second: what Linux shows to programs, whatever its own are.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures the process from now on.
pub(super) fn observe() {
    let meter = global::meter(SCOPE);
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("Processor time that the process has used.")
        .with_callback(|observer| {
            let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
            if let Some((user, system)) = cpu_seconds(&stat) {
                observer.observe(user, &[KeyValue::new("cpu.mode", "user")]);
                observer.observe(system, &[KeyValue::new("cpu.mode", "system")]);
            }
        })
        .build();
    meter
        .u64_observable_gauge("process.memory.usage")
        .with_unit("By")
        .with_description("Memory of the process that is in use.")
        .with_callback(|observer| {
            if let Some(bytes) = resident_bytes() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

/// Measures a runtime from now on.
pub fn observe_runtime(runtime: &Handle) {
    let meter = global::meter(SCOPE);
    let metrics = runtime.metrics();
    meter
        .f64_observable_counter("millstream.runtime.busy")
        .with_unit("s")
        .with_description("Time that the runtime's threads were at work, all together.")
        .with_callback(move |observer| {
            let threads = 0..metrics.num_workers();
            let busy = threads.map(|thread| metrics.worker_total_busy_duration(thread));
            observer.observe(busy.map(|busy| busy.as_secs_f64()).sum(), &[]);
        })
        .build();
    let metrics = runtime.metrics();
    meter
        .u64_observable_gauge("millstream.runtime.threads")
        .with_unit("{thread}")
        .with_description("Threads that the runtime has for work.")
        .with_callback(move |observer| observer.observe(metrics.num_workers() as u64, &[]))
        .build();
}

/// Time in the program and in the kernel on its behalf, from `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<(f64, f64)> {
    // The name of the program, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_kernel_are_read() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 1234 56 0 0 20 0 4 0 100 0 0";
        assert_eq!(cpu_seconds(stat), Some((12.34, 0.56)));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
        assert!(cpu_seconds(&stat).is_some());
    }
}
