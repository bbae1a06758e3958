//! Bugs that simulation plants, to see whether it catches them. Where one would be, the code asks
//! [`is`]; without the feature `on` the answer is a constant no.

use std::sync::atomic::{AtomicU8, Ordering};

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// A rule that is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bug {
    /// A shard answers reads though it has not taken in all that they must see.
    ReadBehind = 1,
    /// Objects of the log go when the first of their shards needs them no more.
    TrimEarly,
    /// A section is acknowledged while its object is on its way.
    AckBeforeDurable,
    /// What is staged shows in reads before it is committed.
    ApplyBeforeCommit,
    /// Files are deleted by what was referred to before they were listed.
    CollectUnasked,
    /// A generation's epochs begin right after the last committed one.
    ReuseEpochs,
    /// Output is published without a look at what is there.
    PublishUnmarked,
    /// One section of what a shard reads again from the log is left out.
    ReplaySkipsSection,
    /// What only a savepoint holds counts as held by nobody.
    CollectSaved,
    /// Files of another job that a job began with count as held by nobody.
    CollectInherited,
    /// Where an exchange gets more receivers, its senders go on by the routing before.
    RouteStale,
    /// A state node serves every generation.
    ServeFenced,
    /// A task that goes back keeps the rows that it had changed since.
    KeepUncommitted,
    /// A task reads on behind a barrier that has come through some of its inputs only.
    ReadMisaligned,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 14] = [
        Bug::ReadBehind,
        Bug::TrimEarly,
        Bug::AckBeforeDurable,
        Bug::ApplyBeforeCommit,
        Bug::CollectUnasked,
        Bug::ReuseEpochs,
        Bug::PublishUnmarked,
        Bug::ReplaySkipsSection,
        Bug::CollectSaved,
        Bug::CollectInherited,
        Bug::RouteStale,
        Bug::ServeFenced,
        Bug::KeepUncommitted,
        Bug::ReadMisaligned,
    ];

    /// Its name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Bug::ReadBehind => "read-behind",
            Bug::TrimEarly => "trim-early",
            Bug::AckBeforeDurable => "ack-before-durable",
            Bug::ApplyBeforeCommit => "apply-before-commit",
            Bug::CollectUnasked => "collect-unasked",
            Bug::ReuseEpochs => "reuse-epochs",
            Bug::PublishUnmarked => "publish-unmarked",
            Bug::ReplaySkipsSection => "replay-skips-section",
            Bug::CollectSaved => "collect-saved",
            Bug::CollectInherited => "collect-inherited",
            Bug::RouteStale => "route-stale",
            Bug::ServeFenced => "serve-fenced",
            Bug::KeepUncommitted => "keep-uncommitted",
            Bug::ReadMisaligned => "read-misaligned",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Whether this build can have bugs planted.
pub const POSSIBLE: bool = cfg!(feature = "on");

/// Whether this rule is taken out.
#[inline]
#[must_use]
pub fn is(bug: Bug) -> bool {
    POSSIBLE && PLANTED.load(Ordering::Relaxed) == bug as u8
}

/// Plants a bug in this process, in place of any before; `None`: none. Does nothing without the
/// feature `on`.
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
}
