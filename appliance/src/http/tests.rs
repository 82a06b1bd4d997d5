//! Every endpoint.

use super::demo_snapshot::demo_snapshot;
use super::*;

/// Not a test of anything: serves the made-up appliance so that a person can look at the page.
#[tokio::test]
#[ignore = "serves http://127.0.0.1:8099 until interrupted, for looking at the page"]
async fn look_at_the_demo_page() {
    let (sender, receiver) = watch::channel(Arc::new(demo_snapshot(0)));
    let listener = TcpListener::bind("127.0.0.1:8099").await.unwrap();
    let server = tokio::spawn(serve(listener, receiver, CancellationToken::new()));
    for second in 0.. {
        sender.send_replace(Arc::new(demo_snapshot(second)));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.await.unwrap().unwrap();
}
