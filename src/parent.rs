//! Whoever started this process, as far as it holds the other end of its standard input.

use std::{
    io::{self, Read as _},
    thread,
};

use tokio::sync::watch;

/// The other end of standard input.
pub(crate) struct Parent(watch::Receiver<bool>);

impl Parent {
    /// Listens from now on. Whatever comes is thrown away.
    // A read of standard input cannot be cancelled: the runtime must not wait for it.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn listen() -> Parent {
        let (gone, receiver) = watch::channel(false);
        thread::spawn(move || {
            let mut bytes = [0; 256];
            let mut input = io::stdin().lock();
            loop {
                match input.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // It can tell us nothing any more.
                    Err(_) => break,
                }
            }
            gone.send_replace(true);
        });
        Parent(receiver)
    }

    /// Completes when it is closed.
    pub(crate) async fn gone(&self) {
        let mut gone = self.0.clone();
        // The sender lives as long as standard input may.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}
