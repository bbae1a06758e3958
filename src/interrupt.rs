//! Ctrl-C, or SIGTERM: the first asks for an orderly end, the second ends the process, and so does time.
//!
//! It waits on threads of its own: the runtime's may all be busy, or stuck in a write to a pipe that
//! nobody reads.

use std::{io, process, thread, time::Duration};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio::sync::watch;

/// What a shell expects of a program that Ctrl-C ended.
pub(crate) const EXIT_CODE: u8 = 130;

/// Whether the user pressed Ctrl-C.
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// From now on Ctrl-C no longer ends the process at once, but at the latest `grace` after the
    /// first one.
    // The runtime is what may be stuck; no simulation presses keys.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn listen(grace: Duration) -> io::Result<Interrupt> {
        // A service manager ends a process by the second one.
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (asked, receiver) = watch::channel(false);
        thread::spawn(move || {
            let mut presses = signals.forever();
            presses.next();
            asked.send_replace(true);
            thread::spawn(move || {
                thread::sleep(grace);
                process::exit(EXIT_CODE.into());
            });
            presses.next();
            process::exit(EXIT_CODE.into());
        });
        Ok(Interrupt(receiver))
    }

    /// Completes after the first Ctrl-C.
    pub(crate) async fn asked(&self) {
        let mut asked = self.0.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            // The thread that listens ends with the process.
            std::future::pending::<()>().await;
        }
    }
}
