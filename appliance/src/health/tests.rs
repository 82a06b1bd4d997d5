//! Real sockets on loopback: servers that answer, refuse, hang and talk nonsense.

use super::*;
use sluice_model::{HealthCheck, Probe, StatusRange};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

fn target(address: SocketAddr, probe: Probe) -> Target {
    let check = HealthCheck {
        probe,
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(200),
        rise: 2,
        fall: 2,
        port: None,
    };
    Target { address, check }
}

fn http(path: &str) -> Probe {
    let status = StatusRange { first: 200, last: 299 };
    Probe::HttpGet { path: path.to_owned(), host: None, status }
}

/// A server that answers every connection with these bytes; `None` never answers.
async fn server(answer: Option<&'static str>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            match answer {
                Some(answer) => {
                    let _read = stream.read(&mut request).await;
                    let _written = stream.write_all(answer.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    (address, task)
}

/// Waits until the report of the only target is as wanted.
async fn wait(checks: &Checks, wanted: impl Fn(&Report) -> bool) -> Report {
    let mut reports = checks.subscribe();
    let found = reports.wait_for(|reports| reports.values().any(&wanted));
    let found = timeout(Duration::from_secs(10), found).await.expect("the report never came");
    found.unwrap().values().next().unwrap().clone()
}

#[tokio::test]
async fn reasons_are_words() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = closed.local_addr().unwrap();
    drop(closed);
    let (ok, _ok) = server(Some("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let (busy, _busy) = server(Some("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")).await;
    let (garbage, _garbage) = server(Some("SSH-2.0-OpenSSH\r\n")).await;
    let (empty, _empty) = server(Some("")).await;
    let (hangs, _hangs) = server(None).await;
    let cases = [
        (ok, Probe::TcpConnect, None),
        (ok, http("/"), None),
        (refused, Probe::TcpConnect, Some("connection refused")),
        (refused, http("/"), Some("connection refused")),
        (busy, http("/"), Some("HTTP 503, wanted 200-299")),
        (garbage, http("/"), Some("closed the connection without an HTTP answer")),
        (empty, http("/"), Some("closed the connection without an HTTP answer")),
        (hangs, http("/"), Some("no answer within 200ms")),
        (hangs, Probe::TcpConnect, None),
    ];
    for (address, probe, reason) in cases {
        let outcome = probe::ask(&target(address, probe.clone())).await;
        let expected = match reason {
            None => Outcome::Passed,
            Some(reason) => Outcome::Failed(reason.to_owned()),
        };
        assert_eq!(outcome, expected, "{probe:?}");
    }
}

#[tokio::test]
async fn a_server_that_stops_and_starts() {
    let (address, task) = server(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
    let mut checks = Checks::new();
    let target = target(address, http("/healthz"));
    checks.set_targets(&BTreeSet::from([target.clone()]));
    let up = wait(&checks, |report| report.verdict == Verdict::Up).await;
    assert_eq!(up.reason, None);
    task.abort();
    let down = wait(&checks, |report| report.verdict == Verdict::Down).await;
    assert_eq!(down.reason.as_deref(), Some("connection refused"));
    assert!(down.since >= up.since);
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    wait(&checks, |report| report.verdict == Verdict::Up && report.reason.is_none()).await;
}

#[tokio::test]
async fn targets_that_go_are_forgotten_and_those_that_stay_are_not() {
    let (one, _one) = server(None).await;
    let (other, _other) = server(None).await;
    let mut checks = Checks::new();
    let targets = [one, other].map(|address| target(address, Probe::TcpConnect));
    checks.set_targets(&BTreeSet::from(targets.clone()));
    let mut reports = checks.subscribe();
    let both = reports.wait_for(|r| r.values().filter(|r| r.verdict == Verdict::Up).count() == 2);
    let since = timeout(Duration::from_secs(10), both).await.unwrap().unwrap()[&targets[0]].since;
    let [kept, _gone] = targets;
    checks.set_targets(&BTreeSet::from([kept.clone()]));
    let left = checks.subscribe().borrow().clone();
    assert_eq!(left.keys().collect::<Vec<_>>(), [&kept]);
    assert_eq!(left[&kept].since, since);
}

/// A server that sends this for ever.
async fn endless(part: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _start = stream.write_all(b"HTTP/1.1 ").await;
            while stream.write_all(part.as_bytes()).await.is_ok() {}
        }
    });
    address
}

#[tokio::test]
async fn an_answer_without_end_is_none() {
    for part in ["100 Continue\r\n\r\nHTTP/1.1 ", "x", "200 OK\r\nA: b\r\nC: 200 OK\r\n"] {
        let outcome = probe::ask(&target(endless(part).await, http("/"))).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{part:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn what_this_machine_cannot_ask_keeps_the_verdict() {
    // Connecting to a broadcast address is refused by this machine's own kernel.
    let nobody: SocketAddr = "255.255.255.255:80".parse().unwrap();
    let mut checks = Checks::new();
    checks.set_targets(&BTreeSet::from([target(nobody, Probe::TcpConnect)]));
    let report = wait(&checks, |report| report.not_made.is_some()).await;
    assert_eq!((report.verdict, report.reason), (Verdict::Unknown, None));
    let reports = checks.subscribe().borrow().clone();
    let problems = problems(&reports);
    assert!(
        problems[0].starts_with("the probe of 255.255.255.255:80 could not be made"),
        "{problems:?}"
    );
}

#[test]
fn a_probe_that_was_not_made_keeps_verdict_time_and_reason() {
    let mut report = Report::unknown();
    assert!(report.take(Verdict::Down, Outcome::Failed("refused".to_owned())));
    let before = report.clone();
    assert!(report.take(Verdict::Down, Outcome::NotMade("no descriptor".to_owned())));
    assert!(!report.take(Verdict::Down, Outcome::NotMade("no descriptor".to_owned())));
    assert_eq!(report, Report { not_made: Some("no descriptor".to_owned()), ..before });
    assert!(report.take(Verdict::Up, Outcome::Passed));
    assert_eq!((report.reason, report.not_made), (None, None));
}
