//! Splits of the generated events.

use std::sync::Arc;

use engine::source::{Source, SourceError, Split, SplitReader};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{plan::NexmarkSpec, types::Field};

use super::{config::Config, reader::NexmarkReader, rows::BatchMaker, run::Walk};
use crate::{SourceContext, pace::Pace};

/// Splits of a source with many events. More than a machine has cores is of no use, and fewer
/// would not go round.
const SPLITS: u64 = 8;
/// A split has at least so many events.
const SPLIT_EVENTS_MIN: u64 = 5_000;
/// Below this real-time rate a second split would only make the first wait for its watermark.
const SHARED_RATE_MIN: f64 = 10_000.0;

/// Generates events.
#[derive(Debug)]
pub(crate) struct NexmarkSource {
    config: Arc<Config>,
    batches: Arc<BatchMaker>,
    context: SourceContext,
}

impl NexmarkSource {
    pub(crate) fn new(
        spec: &NexmarkSpec,
        produced: &[Field],
        context: &SourceContext,
    ) -> Result<NexmarkSource, SourceError> {
        let config = Config::new(spec, context.base_time_ms).map_err(SourceError::Unsupported)?;
        let batches = BatchMaker::new(&config, produced).map_err(SourceError::Unsupported)?;
        Ok(NexmarkSource {
            config: Arc::new(config),
            batches: Arc::new(batches),
            context: context.clone(),
        })
    }

    fn split_count(&self) -> u64 {
        let spec = &self.config.spec;
        if spec.keep_rate && spec.first_event_rate < SHARED_RATE_MIN {
            return 1;
        }
        (self.config.events / SPLIT_EVENTS_MIN).clamp(1, SPLITS)
    }
}

impl Source for NexmarkSource {
    fn splits(&self, _parallelism: usize) -> BoxFuture<'_, Result<Vec<Split>, SourceError>> {
        let split = |index: u64| Split {
            id: format!("nexmark-{index}"),
            descriptor: index.to_le_bytes().to_vec(),
        };
        async move { Ok((0..self.split_count()).map(split).collect()) }.boxed()
    }

    fn open(
        &self,
        split: &Split,
        offset: Option<&[u8]>,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let foreign = |what: &str| SourceError::Refused {
            what: format!("split `{}`", split.id),
            cause: format!("its {what} is not one of a nexmark table"),
        };
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let count = self.split_count();
        let walk = Walk {
            index: number(&split.descriptor)
                .filter(|index| *index < count)
                .ok_or_else(|| foreign("descriptor"))?,
            count,
            next: match offset {
                Some(bytes) => number(bytes).ok_or_else(|| foreign("offset"))?,
                None => 0,
            },
        };
        let pace = self
            .config
            .spec
            .keep_rate
            .then(|| Pace::new(self.config.time_in_order(walk.next), &self.context));
        Ok(Box::new(NexmarkReader::new(
            self.config.clone(),
            self.batches.clone(),
            walk,
            pace,
        )))
    }
}
