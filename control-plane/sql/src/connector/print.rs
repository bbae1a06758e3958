//! `print`: rows to standard output.

use proto::plan::PrintSpec;

use super::options::Options;

pub(super) fn read(options: &mut Options) -> PrintSpec {
    options.unsupported(&["sink.parallelism"]);
    PrintSpec {
        identifier: options.text("print-identifier").unwrap_or_default(),
        standard_error: options.boolean("standard-error", false),
    }
}
