//! Debezium's change events as changelog rows: `before` and `after` images, and `op` c(reate),
//! r(ead), u(pdate), d(elete).

mod decode;
mod encode;

pub(crate) use decode::DebeziumDecoder;
pub(crate) use encode::DebeziumEncoder;
