//! The thread that sessions run on.
//!
//! It is their own, so that a peer's bytes are never ahead of what the caller's runtime has to do: probes, the kernel's
//! messages, the watchdog. Among themselves sessions take turns ([`crate::peer`]).

use std::future::Future;
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Dropped without waiting for anything: its tasks end and their sockets are closed.
pub(crate) struct Sessions(Option<Runtime>, Handle);

/// A task that does not outlive its handle.
pub(crate) struct AbortOnDrop(JoinHandle<()>);

// === impl Sessions ===

impl Sessions {
    pub(crate) fn start() -> io::Result<Self> {
        // One thread: peers are few, and what they may take of the machine is one core.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sluice-bgp")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDrop {
        AbortOnDrop(self.1.spawn(task))
    }

    /// For what has to know its runtime when it is made, such as sockets.
    pub(crate) fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.1.enter();
        make()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Waiting would block the caller's runtime, which tokio forbids.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

// === impl AbortOnDrop ===

impl AbortOnDrop {
    /// Ends the task; its sockets are closed afterwards.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        // The error says that it was aborted.
        drop((&mut self.0).await);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
