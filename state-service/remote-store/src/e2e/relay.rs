//! A TCP relay in front of a node, which loses, holds back and cuts as it is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the relay does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// All passes.
    Pass,
    /// Connections are accepted, nothing passes.
    Mute,
    /// What the node says is lost.
    LoseReplies,
    /// Connections end, new ones at once.
    Cut,
}

/// A relay. Ends when it is dropped.
pub(super) struct Relay {
    pub(super) address: String,
    mode: watch::Sender<Mode>,
    open: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.mode.send_replace(Mode::Cut);
    }
}

impl Relay {
    /// A relay to `target`.
    pub(super) fn new(target: String) -> Relay {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mode = watch::channel(Mode::Pass).0;
        let open = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn({
            let (mode, open) = (mode.clone(), open.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (target, mode, open) = (target.clone(), mode.clone(), open.clone());
                    open.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(async move {
                        relay(stream, &target, &mode).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        Relay {
            address,
            mode,
            open,
            accepting,
        }
    }

    /// From now on the relay does so, to open connections, too.
    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn relay(client: TcpStream, target: &str, mode: &watch::Sender<Mode>) {
    let mut cut = mode.subscribe();
    let relayed = async {
        let Ok(node) = TcpStream::connect(target).await else {
            return;
        };
        client.set_nodelay(true).unwrap();
        node.set_nodelay(true).unwrap();
        let (client_read, client_write) = client.into_split();
        let (node_read, node_write) = node.into_split();
        tokio::select! {
            () = copy(client_read, node_write, mode.subscribe(), |_| false) => {}
            () = copy(node_read, client_write, mode.subscribe(), |mode| mode == Mode::LoseReplies) => {}
        }
    };
    tokio::select! {
        () = relayed => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    loses: fn(Mode) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = mode
            .wait_for(|mode| *mode != Mode::Mute)
            .await
            .map(|now| *now)
        else {
            return;
        };
        if !loses(now) && to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
