//! Limits of the control plane: constants, not options.

use std::time::Duration;

use proto::types::KeyGroupCount;

/// Tasks per part of a plan that runs in parallel: no more than there are key groups.
pub const PARALLELISM_MAX: u32 = KeyGroupCount::DEFAULT.count();

/// Jobs that have not ended.
pub use coordinator::caps::JOBS_ACTIVE_MAX;

/// Ended jobs that can still be looked at; the oldest go first.
pub use coordinator::caps::JOBS_ENDED_MAX;

/// Failures of a job that are remembered.
pub const EXCEPTIONS_MAX: usize = 32;

/// Rows of an operator's state in one answer where nobody says how many.
pub const STATE_ROWS_LISTED: usize = 100;

/// Rows of an operator's state in one answer.
pub const STATE_ROWS_MAX: usize = 1_000;

/// How long an answer about the state of an operator may take.
pub const STATE_QUERY_PATIENCE: Duration = Duration::from_secs(15);

/// How long what is stored of jobs is counted at once, a piece that takes longer aside.
pub const CENSUS_BUSY: Duration = Duration::from_millis(100);

/// Least pause before it is counted on.
pub const CENSUS_PAUSE: Duration = Duration::from_secs(5);

/// How much longer than it was counted it is not: a 50th of the time goes into counting, at most.
pub const CENSUS_REST: u32 = 49;

/// Characters of a job's name that is made from its statement.
pub const JOB_NAME_CHARS: usize = 80;

/// Characters of the name of a savepoint.
pub const SAVEPOINT_NAME_CHARS: usize = 128;

/// Jobs that are listed where nobody says how many.
pub const JOBS_LISTED: usize = 100;

/// Characters of a job's statement in a list of jobs.
pub const JOB_LIST_SQL_CHARS: usize = 200;

/// Records of a job that could not be read and are kept; all are counted.
pub const DEAD_LETTERS_MAX: usize = 1000;

/// Bytes of the body of a request.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Bytes of the text of statements.
pub const SQL_BYTES_MAX: usize = 512 << 10;

/// Rows of a result that wait for its reader before its publisher does, and that a reader who
/// comes late can still see.
pub const RESULT_ROWS_MAX: usize = 100_000;

/// Bytes of rows that are kept of all SELECTs that have ended; the newest one's stay in any case.
pub const RESULT_BYTES_ENDED_MAX: usize = 256 << 20;

/// Rows that a reader takes at once.
pub const RESULT_CHUNK_ROWS: usize = 4096;

/// Requests that wait for the driver.
pub const REQUEST_QUEUE: usize = 256;

/// Time without rows after which a live result says that it is still there.
pub const RESULT_KEEP_ALIVE_MS: u64 = 15_000;

/// Checkpoints that are listed.
pub const CHECKPOINTS_LISTED: usize = 100;

/// How long a change that a user waits for is tried.
pub const PROPOSAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the leader may take to answer a request that another node hands on. Longer than all
/// that it waits for by itself, so that what it has to say about it arrives.
pub const FORWARD_PATIENCE: Duration = Duration::from_secs(15);

const _: () = assert!(
    FORWARD_PATIENCE.as_millis() > PROPOSAL_PATIENCE.as_millis()
        && FORWARD_PATIENCE.as_millis() > MEMBERSHIP_PATIENCE.as_millis()
        && FORWARD_PATIENCE.as_millis() > STATE_STATUS_PATIENCE.as_millis(),
    "a request that is handed on must not be given up before the leader gives up",
);

/// How long a change of the control plane's members may take before its user is told how far it
/// came. Less than a request to the leader may take.
pub const MEMBERSHIP_PATIENCE: Duration = Duration::from_secs(8);

/// How long the state tier may take to say how it is.
pub const STATE_STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// How long the end of a job is tried to be written down.
pub const END_PATIENCE: Duration = Duration::from_secs(600);

/// Requests, reports and news of nodes that wait for the state tier's loop.
pub const STATE_TIER_QUEUE: usize = 256;

/// Requests of one job that wait for the metadata.
pub const STATE_REQUESTS_PER_JOB: usize = 16;

/// How long a generation waits for state nodes that can serve its shards.
pub const STATE_NODE_WAIT: Duration = Duration::from_secs(30);

/// How long a request to the state tier may take. Longer than [`STATE_NODE_WAIT`], and than an
/// election: a request that is given up costs the job a new generation.
pub const STATE_REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// How long one attempt to reach the metadata may take.
pub const METADATA_ATTEMPT: Duration = Duration::from_secs(10);

/// Exports and imports of which is known how far they are.
pub const TRANSFER_STATUSES_MAX: usize =
    coordinator::caps::TRANSFERS_MAX + coordinator::caps::TRANSFERS_ENDED_MAX;

/// How long whoever asks for an export or an import waits to hear that something stands in its way.
pub const TRANSFER_CHECK_PATIENCE: Duration = Duration::from_secs(8);

/// Bytes of the URL of a place to export to or to import from.
pub const TRANSFER_URL_BYTES: usize = 2048;

/// Pause after a failed attempt to reach the metadata, doubled up to a limit.
pub const METADATA_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between attempts to reach the metadata.
pub const METADATA_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long shards wait for their node when its stream has broken. A stream can break though the
/// process lives, and opening shards elsewhere costs more than waiting this long.
pub const STATE_NODE_RETURN: Duration = Duration::from_millis(500);

/// How long a new leader waits for nodes that own shards to connect to it.
/// Longer than they may take to notice that the old one is silent, and to find the new one.
pub const STATE_NODE_CONNECT: Duration = Duration::from_secs(6);

/// How long a new leader waits for workers to connect to it, and after the first one for others, before
/// it gives them work: else the first one would get all of it.
pub const WORKERS_CONNECT: Duration = Duration::from_secs(1);

/// How long a worker may take to tell what it runs.
pub(crate) const WORKER_TELLS: Duration = Duration::from_secs(3);

/// Jobs of which a worker may run tasks.
pub(crate) const WORKER_PARTS_MAX: usize = 4096;

/// How long it is tried to bind a cluster to its store. Less than a state node waits to be greeted.
pub const BIND_PATIENCE: Duration = Duration::from_secs(1);

/// How long a node that is gone is remembered.
pub const STATE_NODE_REMEMBERED: Duration = Duration::from_secs(600);

/// How long reports of durable epochs of a job are gathered before they are written down.
pub const DURABLE_GATHERED: Duration = Duration::from_millis(100);

/// How long news of published output waits for a commit that carries it.
pub const PUBLISHED_GATHERED: Duration = Duration::from_secs(3);

/// Wait before a shard that its node gave up is opened again; doubled up to a limit.
pub const SHARD_RETRY: Duration = Duration::from_millis(200);

/// Longest wait before a shard is opened again.
pub const SHARD_RETRY_MAX: Duration = Duration::from_secs(30);

/// Failures of a shard in a row after which it is tried on another node, if there is one.
pub const SHARD_FAILURES_PER_NODE: u32 = 3;

/// Former owners of a job's shards that are remembered, so that they can be told.
pub const FORMER_OWNERS_MAX: usize = 1024;

/// News of workers on their way to the driver.
pub const NEWS_QUEUE: usize = 4096;

/// How long whoever wants a state of a job waits for a checkpoint whose barrier overtakes nothing.
pub const ALIGNED_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two looks whether there is one.
pub const ALIGNED_PAUSE: Duration = Duration::from_millis(100);

/// Questions of one state node that are being answered.
pub const STATE_QUESTIONS_MAX: usize = 64;

/// Epochs of SELECTs that are being taken in. Each is as large as a worker lets its output grow.
pub const DELIVERIES_MAX: usize = 8;

/// How long a delivery of rows waits for room at their reader.
pub const DELIVERY_ROOM: Duration = Duration::from_secs(4);

/// How long a delivery waits for its next rows.
pub const DELIVERY_READ: Duration = Duration::from_secs(5);

/// How long a provider of workers may take to do what it is asked.
pub const CAPACITY_DEADLINE: Duration = Duration::from_secs(30);

/// Pause before a provider of workers is asked again that could not do it.
pub const CAPACITY_RETRY: Duration = Duration::from_secs(30);

/// Sources, fragments and changes of a decision about a job's parallelism that its span tells.
pub const DECISION_PARTS_TOLD: usize = 16;

/// Decisions about a job's parallelism that are listed.
pub const DECISIONS_LISTED: usize = coordinator::caps::AUTOSCALE_DECISIONS_MAX;
