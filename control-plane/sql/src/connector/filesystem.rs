//! `filesystem`: a file or a directory of files.

use proto::plan::FilesystemSpec;

use super::options::Options;
use super::{Shape, format};

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
    }
}
