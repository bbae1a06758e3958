//! The trace of a run: what happened when, line by line, and what the code says of itself.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::Writer, time::FormatTime},
};
use xxhash_rust::xxh3::Xxh3;

use crate::ambient;

/// Where lines go. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    file: BufWriter<File>,
    hash: Xxh3,
    lines: u64,
}

impl Trace {
    /// A trace into a new file.
    ///
    /// # Errors
    /// When there can be no such file.
    pub fn create(path: &Path) -> io::Result<Trace> {
        let inner = Inner {
            file: BufWriter::new(File::create(path)?),
            hash: Xxh3::new(),
            lines: 0,
        };
        Ok(Trace(Arc::new(Mutex::new(inner))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line.
    pub fn line(&self, what: fmt::Arguments<'_>) {
        let now = ambient::now();
        let mut line = String::new();
        // A string takes everything.
        let _ = writeln!(line, "{:>7.3} {what}", now.as_secs_f64());
        // A disk that is full shows as a trace that ends too early.
        let _ = self.clone().write(line.as_bytes());
    }

    /// How many lines there are, and a hash of all of them.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        let mut inner = self.lock();
        let _ = inner.file.flush();
        (inner.lines, inner.hash.digest())
    }

    /// From now on what the code says of itself goes into the trace, too; how much, `filter` says.
    pub fn listen(&self, filter: &str) {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(false)
            .with_timer(SimulatedTime)
            .with_writer(self.clone())
            .finish();
        let set = tracing::subscriber::set_global_default(subscriber);
        set.expect("a process runs one simulation");
    }
}

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.lock();
        inner.hash.update(bytes);
        inner.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        inner.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().file.flush()
    }
}

impl MakeWriter<'_> for Trace {
    type Writer = Trace;

    fn make_writer(&self) -> Trace {
        self.clone()
    }
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        write!(to, "{:>7.3}", ambient::now().as_secs_f64())
    }
}
