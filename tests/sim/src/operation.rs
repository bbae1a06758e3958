//! What users and the operator of a cluster ask of its control plane. Which job is meant is a number,
//! for which jobs there will be is not known when it is drawn.

/// One of those that there are when it is carried out.
pub type Pick = u64;

/// Something that is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// All jobs are to run with other numbers of tasks.
    Rescale(Scale),
    /// A state of a job is to be kept.
    Save {
        /// Job.
        job: Pick,
        /// Which state.
        at: StateAt,
    },
    /// A savepoint is not needed any more.
    DropSavepoint {
        /// Of all that there are.
        savepoint: Pick,
    },
    /// A copy of a job is to begin, which writes elsewhere.
    Fork {
        /// Job.
        job: Pick,
        /// With which state.
        at: StateAt,
    },
    /// A job is to end with a savepoint; another one is to go on with that, to the same tables.
    StopAndRestore {
        /// Job.
        job: Pick,
    },
    /// A copy is to end at once.
    CancelFork {
        /// Of all that run.
        fork: Pick,
    },
    /// A job that has ended is to be forgotten.
    Forget {
        /// Of all that can be.
        job: Pick,
    },
    /// A node is to be taken into the control plane.
    AddNode {
        /// Its number.
        id: u64,
    },
    /// A node of the control plane is to be let go.
    RemoveNode {
        /// Its number.
        id: u64,
    },
}

/// Numbers of tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// For every fragment.
    All(u32),
    /// For the fragment of one operator.
    Operator(Pick, u32),
}

/// A state of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateAt {
    /// That of the last committed epoch.
    Newest,
    /// One of those that can be restored.
    Checkpoint(Pick),
    /// One of its savepoints; the newest state if it has none.
    Savepoint(Pick),
}
