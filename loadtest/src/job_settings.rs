//! How the jobs of a load test run, as arguments and as statements.

use clap::Args;

/// What a job is set to.
#[derive(Args, Clone, Debug)]
pub(crate) struct JobSettings {
    /// Tasks per operator, at first.
    #[arg(long, default_value_t = 2)]
    pub(crate) parallelism: u32,
    /// Time between checkpoints.
    #[arg(long, default_value = "1s")]
    pub(crate) checkpoint_interval: String,
}

impl JobSettings {
    /// The statements that set it.
    pub(crate) fn statements(&self) -> String {
        let JobSettings {
            parallelism,
            checkpoint_interval,
        } = self;
        format!(
            "SET 'parallelism.default' = '{parallelism}';
             SET 'execution.checkpointing.interval' = '{checkpoint_interval}';"
        )
    }
}
