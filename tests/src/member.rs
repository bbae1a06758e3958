//! A process of a cluster, which tests kill, hold up and start again.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::wait_until;

/// How long it may take to end when it must.
const END_MAX: Duration = Duration::from_secs(90);

/// Lines of its log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// What every life of a process is started with.
#[derive(Clone, Debug)]
pub(crate) struct MemberSpec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    /// Where its logs are.
    pub(crate) folder: PathBuf,
}

/// A process that may live several times, always with the same arguments; killed when dropped.
pub struct Member {
    spec: MemberSpec,
    process: Option<Child>,
    lives: u32,
    held: bool,
    leaving: bool,
}

/// How a process ends that was to leave, when nobody has let it go for too long.
const INTERRUPTED: i32 = 130;

impl Member {
    /// Starts its first life.
    pub(crate) fn start(spec: MemberSpec) -> Member {
        let mut member = Member {
            spec,
            process: None,
            lives: 0,
            held: false,
            leaving: false,
        };
        member.start_again();
        member
    }

    /// Its name in logs: `worker-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Starts it once more with the same arguments.
    ///
    /// # Panics
    /// When it still runs, or the program does not.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "{} still runs", self.spec.name);
        self.lives += 1;
        let log = File::create(self.log_path()).expect("a file");
        let spec = &self.spec;
        let process = Command::new(&spec.program)
            .args(&spec.arguments)
            .envs(spec.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("the program runs"));
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// When it has ended by itself before.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let ended = process.try_wait().expect("a process");
        let may_end = ended.is_none() || self.leaving;
        assert!(may_end, "{} ended: {}", self.name(), self.log());
        process.kill().expect("killed");
        process.wait().expect("ended");
        (self.held, self.leaving) = (false, false);
    }

    /// Whether it has ended by itself; it may be started again.
    ///
    /// # Panics
    /// When it did so for another reason than its output should name.
    pub fn has_ended_over(&mut self, reason: &str) -> bool {
        if self.process.is_none() || self.ended().is_none() {
            return false;
        }
        let log = self.log();
        assert!(log.contains(reason), "{} ended: {log}", self.name());
        self.process = None;
        self.held = false;
        true
    }

    /// Asks it to leave, and waits until it has.
    ///
    /// # Panics
    /// When it does not, or fails.
    pub fn leave(&mut self) {
        self.ask_to_leave();
        let status = self.wait_ended();
        assert!(status.success(), "{} failed: {}", self.name(), self.log());
    }

    /// Asks it to leave, as a service manager does; how that ends is to be seen.
    pub fn ask_to_leave(&mut self) {
        self.signal("-TERM");
        self.leaving = true;
    }

    /// Whether it was asked to leave and may not have done so yet.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether it has left as it was asked to; it may be started again.
    ///
    /// # Panics
    /// When it has failed over that.
    pub fn has_left(&mut self) -> bool {
        let Some(status) = self.ended().filter(|_| self.leaving) else {
            return false;
        };
        let orderly = status.success() || status.code() == Some(INTERRUPTED);
        assert!(orderly, "{} failed: {}", self.name(), self.log());
        (self.process, self.leaving) = (None, false);
        true
    }

    /// Waits until it has left as it was asked to.
    ///
    /// # Panics
    /// When it goes on, or has failed over that.
    pub fn wait_left(&mut self) {
        let left = wait_until(END_MAX, || self.has_left());
        assert!(left, "{} does not leave: {}", self.name(), self.log());
    }

    /// Stops it in the middle of what it does: it holds its connections and says nothing.
    pub fn hold(&mut self) {
        self.signal("-STOP");
        self.held = true;
    }

    /// Lets it go on as if nothing had happened.
    pub fn release(&mut self) {
        self.signal("-CONT");
        self.held = false;
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it goes on.
    pub fn wait_ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(END_MAX, || {
            status = self.ended();
            status.is_some()
        });
        (self.process, self.leaving) = (None, false);
        status.unwrap_or_else(|| panic!("{} goes on: {}", self.name(), self.log()))
    }

    /// What it has written in its present life, or the last one.
    ///
    /// # Panics
    /// When that cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).expect("its output")
    }

    /// Whether it runs, and is not held up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some() && !self.held
    }

    /// Whether it is held up.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().expect("a process")
    }

    /// The end of its log, for who looks for the cause of a failure.
    pub(crate) fn show(&self) {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
        let (name, life) = (&self.spec.name, self.lives);
        eprintln!("--- {name}, life {life}, from line {shown}");
        for line in &lines[shown..] {
            // Options of libraries make lines that hide the others.
            eprintln!("{}", line.chars().take(400).collect::<String>());
        }
    }

    fn log_path(&self) -> PathBuf {
        let MemberSpec { folder, name, .. } = &self.spec;
        folder.join(format!("{name}.{}.log", self.lives))
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let sent = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
