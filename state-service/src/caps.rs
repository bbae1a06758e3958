//! Limits of a state node that nobody needs to choose.

use std::time::Duration;

use rpc::RetryPolicy;

/// How long the deltas of an epoch wait for those of other tasks, to share an object with them.
pub(crate) const LINGER: Duration = Duration::from_millis(20);
/// How long they wait where they are not much together: the epoch has to wait for the others anyway, and
/// an object of its own would keep them waiting.
pub(crate) const LINGER_LITTLE: Duration = Duration::from_millis(100);
/// Fewer bytes than this are not much.
pub(crate) const LITTLE_BYTES: usize = 256 << 10;
/// Objects of one epoch that are written at once: what comes while much is being written does not wait for
/// the end of that.
pub(crate) const EPOCH_WRITERS_MAX: u32 = 2;
/// First pause before a failed request to the object store is repeated; it doubles each time.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Longest of these pauses.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A request to the object store that takes longer than this is a sign of trouble.
pub(crate) const SLOW_ANSWER: Duration = Duration::from_secs(2);
/// So long after its last sign trouble is over, if the store has answered since. Longer than it
/// takes to notice that the next request is slow.
pub(crate) const TROUBLE_QUIET: Duration = Duration::from_secs(3);
/// So long after its last sign it is over though nobody has asked since. Longer than all pauses
/// between attempts.
pub(crate) const TROUBLE_FORGOTTEN: Duration = Duration::from_secs(30);
/// Attempts of a request that somebody waits for.
pub(crate) const ATTEMPTS_MAX: u32 = 6;
/// Pause before a shard that failed is opened again; it doubles each time.
pub(crate) const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// Longest of these pauses.
pub(crate) const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Objects up to this size are read whole, footer and all, in one request.
pub(crate) const WHOLE_READ_BYTES: u64 = 256 << 10;
/// What is read of the end of a larger object in the hope that it holds the footer.
pub(crate) const FOOTER_READ_BYTES: u64 = 16 << 10;
/// Epochs whose log is read at the same time when a shard is opened, or output is read.
pub(crate) const EPOCHS_READ_AT_ONCE: usize = 4;
/// Runs of one (table, key group, namespace) that point reads look through one by one; more are
/// merged first.
pub(crate) const RUNS_READ_MAX: usize = 8;
/// How often a read starts again because a flush began meanwhile.
pub(crate) const READ_RESTARTS_MAX: usize = 4;
/// Shards of states that are kept that stay open for who looks at them.
pub(crate) const KEPT_SHARDS_OPEN_MAX: usize = 32;
/// Bytes of log objects that are read into the tails of these; more than that only alone.
pub(crate) const KEPT_TAIL_BYTES_MAX: usize = 128 << 20;
/// Deletions under way at the same time.
pub(crate) const DELETIONS_AT_ONCE: usize = 16;

/// Questions to the control plane that wait for a stream.
pub(crate) const QUESTIONS_MAX: usize = 64;
/// How long an answer of the control plane is waited for, with an election in between.
pub(crate) const QUESTION_WAIT: Duration = Duration::from_secs(15);

/// How long tasks of the same process try to read before they are told that their state is out of
/// reach.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Pauses before a failed request of tasks of the same process is repeated. How often is for time to
/// say, not for a count.
pub(crate) const PATIENT_PAUSES: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    pause_min: Duration::from_millis(20),
    pause_max: Duration::from_secs(2),
};
