//! Real time for generators that keep a rate: their time scale, laid beside the clock.

use std::task::{Context, Poll, ready};

use futures::{FutureExt as _, future::BoxFuture};

use crate::SourceContext;

/// Rows are handed out together when they fall into the same so many milliseconds.
const TICK_MS: u64 = 20;

/// Says when a generated time has come.
pub(crate) struct Pace {
    context: SourceContext,
    /// Real time minus generated time.
    ahead_ms: i64,
    sleep: Option<BoxFuture<'static, ()>>,
}

impl Pace {
    /// `start_ms` of the generator's time is now.
    pub(crate) fn new(start_ms: i64, context: &SourceContext) -> Pace {
        Pace {
            ahead_ms: context.clock.wall_ms() - start_ms,
            context: context.clone(),
            sleep: None,
        }
    }

    /// 0 of the generator's time was, or will be, at `wall_ms` of the clock.
    pub(crate) fn since(wall_ms: i64, context: &SourceContext) -> Pace {
        Pace {
            ahead_ms: wall_ms,
            context: context.clone(),
            sleep: None,
        }
    }

    /// The generator's time.
    pub(crate) fn now_ms(&self) -> i64 {
        self.context.clock.wall_ms() - self.ahead_ms
    }

    /// Waits for about the generator's time `until_ms`: look at [`Pace::now_ms`] again then.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, until_ms: i64) -> Poll<()> {
        if self.sleep.is_none() {
            let wait = u64::try_from(until_ms - self.now_ms()).unwrap_or(0);
            self.sleep = Some(self.context.timer.sleep(wait.max(TICK_MS)));
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.poll_unpin(cx));
        }
        self.sleep = None;
        Poll::Ready(())
    }
}
