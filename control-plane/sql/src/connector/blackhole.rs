//! `blackhole`: takes everything, keeps nothing. It has no options.

use proto::plan::BlackholeSpec;

pub(super) fn read() -> BlackholeSpec {
    BlackholeSpec {}
}
