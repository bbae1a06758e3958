//! Ctrl-C while statements run on the server: the jobs whose rows are being read are cancelled there
//! first. Waits on a thread of its own, because the others wait for the server or for the terminal.

use std::{
    io::{self, Write as _},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::Context as _;
use serde_json::json;
use signal_hook::{consts::SIGINT, iterator::Signals};

use crate::client::Client;

/// What a shell expects of a program that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

/// Text before what is typed.
pub(crate) const PROMPT: &str = "sql> ";

/// What Ctrl-C would break off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    /// Something that ends with the process.
    Work,
    /// A person types.
    Prompt,
    /// Rows of jobs are read.
    Rows,
    /// The jobs are being cancelled.
    Cancelling,
}

#[derive(Debug)]
struct State {
    doing: Doing,
    /// Paths of the jobs whose rows are read, and of those that come next.
    jobs: Vec<String>,
    /// What was typed so far is not wanted.
    discard: bool,
}

/// What this process is doing.
#[derive(Clone)]
pub(crate) struct Interrupts(Arc<Mutex<State>>);

impl Interrupts {
    /// From now on Ctrl-C no longer ends the process in every case.
    // A client simulates nothing, and has no runtime.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn listen(client: Client) -> anyhow::Result<Interrupts> {
        let mut signals = Signals::new([SIGINT]).context("failed to wait for Ctrl-C")?;
        let interrupts = Interrupts(Arc::new(Mutex::new(State {
            doing: Doing::Work,
            jobs: Vec::new(),
            discard: false,
        })));
        let listener = interrupts.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                listener.pressed(&client);
            }
        });
        Ok(interrupts)
    }

    /// Says what is being done, and gives what was before.
    pub(crate) fn set(&self, doing: Doing) -> Doing {
        std::mem::replace(&mut self.lock().doing, doing)
    }

    /// Says that the rows of these jobs are read.
    pub(crate) fn set_rows(&self, jobs: Vec<String>) {
        let mut state = self.lock();
        state.doing = Doing::Rows;
        state.jobs = jobs;
    }

    /// Whether what was typed so far is not wanted; asked once.
    pub(crate) fn take_discard(&self) -> bool {
        std::mem::take(&mut self.lock().discard)
    }

    // A client simulates nothing, and has no runtime.
    #[allow(clippy::disallowed_methods)]
    fn pressed(&self, client: &Client) {
        let jobs = {
            let mut state = self.lock();
            match state.doing {
                Doing::Work | Doing::Cancelling => process::exit(EXIT_CODE.into()),
                Doing::Prompt => {
                    state.discard = true;
                    Vec::new()
                }
                Doing::Rows => {
                    state.doing = Doing::Cancelling;
                    std::mem::take(&mut state.jobs)
                }
            }
        };
        if jobs.is_empty() {
            // The terminal has dropped the line itself.
            let _ = write!(io::stdout(), "\n{PROMPT}").and_then(|()| io::stdout().flush());
            return;
        }
        let client = client.clone();
        // Beside the wait for the next Ctrl-C, which does not wait for the server.
        thread::spawn(move || {
            for job in jobs {
                if let Err(error) = client.post(&format!("{job}/cancel"), &json!({})) {
                    let _ = writeln!(io::stderr(), "error: {error:#}");
                    process::exit(EXIT_CODE.into());
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
