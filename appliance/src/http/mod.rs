//! REST API and status page; filled in beside the daemon.

use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    _listener: TcpListener,
    _snapshots: watch::Receiver<Arc<sluice_api::Snapshot>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
