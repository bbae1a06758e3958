//! What tasks tell, as the control plane hears it, and what is said of what fails.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use engine::task::TaskEvent;
use proto::{control::WorkerEventKind, types::TaskId};

use crate::report::Reporter;

/// Tasks that are being restored at the start of a generation; the last one says that all run.
pub(super) type Restoring = Arc<AtomicUsize>;

/// Reports a task's events. A task that joins a generation that runs is not waited for.
pub(super) fn task_events(
    task: TaskId,
    reporter: Reporter,
    restoring: Option<Restoring>,
) -> Box<dyn FnMut(TaskEvent) + Send> {
    Box::new(move |event| match event {
        TaskEvent::Running => match &restoring {
            Some(restoring) if restoring.fetch_sub(1, Ordering::AcqRel) == 1 => {
                reporter.send(WorkerEventKind::Running);
            }
            Some(_) => {}
            None => reporter.send(WorkerEventKind::Settled { task }),
        },
        TaskEvent::Settled => reporter.send(WorkerEventKind::Settled { task }),
        TaskEvent::Staged {
            epoch,
            objects,
            overtaken_bytes,
        } => reporter.send(WorkerEventKind::Staged {
            task,
            epoch,
            objects,
            overtaken_bytes,
        }),
        TaskEvent::Finished { routing } => {
            reporter.send(WorkerEventKind::Finished { task, routing });
        }
        TaskEvent::DeadLetters(letters) => reporter.send(WorkerEventKind::DeadLetters(letters)),
        TaskEvent::SourcesWait => reporter.send(WorkerEventKind::OutputFull),
        TaskEvent::Frozen(_) => {}
    })
}

/// An error and what caused it.
pub(super) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
