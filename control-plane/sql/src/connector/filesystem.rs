//! `filesystem`: a file or a directory of files.

use proto::plan::FilesystemSpec;

use super::options::Options;
use super::{Shape, format, units};

/// Flink rolls to a new part file at this size.
const ROLLING_BYTES: u64 = 128 << 20;

/// Options of Flink's connector that would do nothing here.
const UNSUPPORTED: &[&str] = &[
    "auto-compaction",
    "compaction.file-size",
    "compaction.parallelism",
    "partition.default-name",
    "partition.time-extractor.class",
    "partition.time-extractor.kind",
    "partition.time-extractor.timestamp-formatter",
    "partition.time-extractor.timestamp-pattern",
    "sink.parallelism",
    "sink.partition-commit.delay",
    "sink.partition-commit.policy.class",
    "sink.partition-commit.policy.kind",
    "sink.partition-commit.success-file.name",
    "sink.partition-commit.trigger",
    "sink.partition-commit.watermark-time-zone",
    "sink.rolling-policy.check-interval",
    "sink.rolling-policy.inactivity-interval",
    "sink.rolling-policy.rollover-interval",
    "sink.shuffle-by-partition.enable",
    "source.monitor-interval",
    "source.path.regex-pattern",
    "source.report-statistics",
];

pub(super) fn read(options: &mut Options, shape: &Shape) -> FilesystemSpec {
    options.unsupported(UNSUPPORTED);
    FilesystemSpec {
        path: options.required("path", "a file or directory"),
        format: format::read(options, shape),
        rolling_bytes: options.memory_bytes("sink.rolling-policy.file-size", ROLLING_BYTES),
        partition_by: shape.partition_by.to_vec(),
        lookup_reload_ms: lookup(options),
    }
}

/// How a table of files is looked up: all of it is kept, as Flink's FULL cache does, for nothing finds
/// one row in a file. So what is about single rows has no meaning. Milliseconds between readings; 0:
/// it is read when the job starts.
fn lookup(options: &mut Options) -> u64 {
    options.unsupported(LOOKUP_UNSUPPORTED);
    let cache = options.choice("lookup.cache", CACHES, Cache::Full);
    if cache != Cache::Full {
        options.fail(
            "lookup.cache",
            "files cannot be looked up row by row",
            "leave it out, or write 'FULL': all rows are kept in memory",
        );
    }
    let strategy = "lookup.full-cache.reload-strategy";
    let periodic = options.choice(strategy, &[("PERIODIC", true), ("TIMED", false)], true);
    if !periodic {
        options.fail(
            strategy,
            "reloading at a time of day is not supported",
            "write 'PERIODIC', with 'lookup.full-cache.periodic-reload.interval' = '1 d'",
        );
    }
    let interval = "lookup.full-cache.periodic-reload.interval";
    if options.has(strategy) && periodic && !options.has(interval) {
        options.fail(
            strategy,
            "nothing says how often to reload",
            "add 'lookup.full-cache.periodic-reload.interval' = '10 min'",
        );
    }
    options.parsed(
        interval,
        "a duration such as '10 min', above 0",
        0,
        |text| units::duration_ms(text).filter(|ms| *ms > 0),
    )
}

/// Flink's kinds of caches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    None,
    Partial,
    Full,
}

const CACHES: &[(&str, Cache)] = &[
    ("NONE", Cache::None),
    ("PARTIAL", Cache::Partial),
    ("FULL", Cache::Full),
];

/// Options of Flink's lookups that would do nothing here: they are about rows that are asked for one by
/// one, or about when exactly all are read.
const LOOKUP_UNSUPPORTED: &[&str] = &[
    "lookup.async",
    "lookup.cache.caching-missing-key",
    "lookup.cache.max-rows",
    "lookup.cache.ttl",
    "lookup.full-cache.periodic-reload.schedule-mode",
    "lookup.full-cache.timed-reload.interval-in-days",
    "lookup.full-cache.timed-reload.iso-time",
    "lookup.max-retries",
    "lookup.partial-cache.cache-missing-key",
    "lookup.partial-cache.caching-missing-key",
    "lookup.partial-cache.expire-after-access",
    "lookup.partial-cache.expire-after-write",
    "lookup.partial-cache.max-rows",
];
