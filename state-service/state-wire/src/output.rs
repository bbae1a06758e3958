//! Committed output: the request, and the answer in parts.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use proto::types::{Epoch, Generation, JobId, SinkId};
use rpc::state;
use state_client::{CommittedOutput, Incarnation, OutputRequest};

use crate::{
    Malformed,
    caps::{OUTPUT_BYTES_MAX, PART_BYTES},
};

/// A request for committed output. Asks for no more than is answered at once.
#[must_use]
pub fn encode_output_request(
    who: Incarnation,
    request: &OutputRequest,
) -> state::CommittedOutputRequest {
    state::CommittedOutputRequest {
        job: who.job.0,
        generation: who.generation.0,
        sink: request.sink.0,
        after: request.after.0,
        up_to: request.up_to.0,
        bytes_max: request.bytes_max.min(OUTPUT_BYTES_MAX) as u64,
    }
}

/// What [`encode_output_request`] made.
#[must_use]
pub fn decode_output_request(
    request: &state::CommittedOutputRequest,
) -> (Incarnation, OutputRequest) {
    let who = Incarnation {
        job: JobId(request.job),
        generation: Generation(request.generation),
    };
    let request = OutputRequest {
        sink: SinkId(request.sink),
        after: Epoch(request.after),
        up_to: Epoch(request.up_to),
        bytes_max: request.bytes_max.min(OUTPUT_BYTES_MAX as u64) as usize,
    };
    (who, request)
}

/// What output takes up on its way.
#[must_use]
pub fn output_bytes(outputs: &[CommittedOutput]) -> usize {
    let bytes = |output: &CommittedOutput| size_of::<CommittedOutput>() + output.bytes.len();
    outputs.iter().map(bytes).sum()
}

/// Output, part by part.
#[derive(Debug)]
pub struct OutputParts {
    outputs: VecDeque<CommittedOutput>,
}

impl OutputParts {
    /// The parts of output.
    #[must_use]
    pub fn new(outputs: Vec<CommittedOutput>) -> Self {
        OutputParts {
            outputs: outputs.into(),
        }
    }
}

impl Iterator for OutputParts {
    type Item = state::CommittedOutputPart;

    fn next(&mut self) -> Option<state::CommittedOutputPart> {
        let output = self.outputs.front_mut()?;
        let chunk = output.bytes.split_to(output.bytes.len().min(PART_BYTES));
        let part = state::CommittedOutputPart {
            generation: output.generation.0,
            epoch: output.epoch.0,
            slot: output.slot,
            task: output.task,
            chunk,
            more: !output.bytes.is_empty(),
        };
        if !part.more {
            self.outputs.pop_front();
        }
        Some(part)
    }
}

/// Puts output together.
#[derive(Debug, Default)]
pub struct OutputCollector {
    outputs: Vec<CommittedOutput>,
    /// The beginning of the entry that is coming.
    begun: Option<BytesMut>,
}

impl OutputCollector {
    /// Takes the next part.
    pub fn push(&mut self, part: state::CommittedOutputPart) {
        let bytes = match self.begun.take() {
            None if !part.more => part.chunk,
            begun => {
                let mut bytes = begun.unwrap_or_default();
                bytes.extend_from_slice(&part.chunk);
                if part.more {
                    self.begun = Some(bytes);
                    return;
                }
                bytes.freeze()
            }
        };
        self.outputs.push(CommittedOutput {
            generation: Generation(part.generation),
            epoch: Epoch(part.epoch),
            slot: part.slot,
            task: part.task,
            bytes: Bytes::clone(&bytes),
        });
    }

    /// The output.
    ///
    /// # Errors
    /// When its end is missing.
    pub fn finish(self) -> Result<Vec<CommittedOutput>, Malformed> {
        match self.begun {
            None => Ok(self.outputs),
            Some(_) => Err(Malformed::new("output that is cut short")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(epoch: u64, bytes: usize) -> CommittedOutput {
        CommittedOutput {
            generation: Generation(epoch + 1),
            epoch: Epoch(epoch),
            slot: 2,
            task: 3,
            bytes: (0..bytes).map(|i| i as u8).collect(),
        }
    }

    #[test]
    fn output_of_any_size_comes_back_and_a_cut_is_noticed() {
        let outputs = vec![
            output(1, 0),
            output(2, 3 * PART_BYTES + 5),
            output(3, PART_BYTES),
            output(4, 1),
        ];
        let parts: Vec<_> = OutputParts::new(outputs.clone()).collect();
        assert_eq!(parts.len(), 1 + 4 + 1 + 1);
        let collect = |parts: &[state::CommittedOutputPart]| {
            let mut collector = OutputCollector::default();
            parts.iter().for_each(|part| collector.push(part.clone()));
            collector.finish()
        };
        assert_eq!(collect(&parts), Ok(outputs));
        assert!(collect(&parts[..3]).is_err());
    }

    #[test]
    fn requests_come_back_bounded() {
        let who = Incarnation {
            job: JobId(1),
            generation: Generation(2),
        };
        let request = OutputRequest {
            sink: SinkId(3),
            after: Epoch(4),
            up_to: Epoch(5),
            bytes_max: usize::MAX,
        };
        let came = decode_output_request(&encode_output_request(who, &request));
        let bytes_max = OUTPUT_BYTES_MAX;
        assert_eq!(
            came,
            (
                who,
                OutputRequest {
                    bytes_max,
                    ..request
                }
            )
        );
    }
}
