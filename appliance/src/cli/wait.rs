//! `sluice wait`: until the running appliance does its work, for scripts and for the image's health gate.

use super::request::Api;
use crate::config::written_duration;
use clap::Args;
use sluice_api::{Status, XdpMode};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How often it is asked; the appliance answers from memory.
const PACE: Duration = Duration::from_millis(200);

/// `sluice wait`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// How long to wait: a number with ms, s, m or h
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = written_duration)]
    timeout: Duration,
    /// Also wait for BGP: until at least one peer is established, as /readyz has it
    #[arg(long)]
    routed: bool,
    /// Where the appliance's API is
    #[arg(long, env = "SLUICE_API", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    api: Api,
}

/// It was not ready in time.
#[derive(Debug, thiserror::Error)]
#[error("not ready within {} s:\n- {}", timeout.as_secs_f64(), reasons.join("\n- "))]
pub(crate) struct NotReady {
    timeout: Duration,
    reasons: Vec<String>,
}

/// Waits.
///
/// # Errors
/// When the time is over: what was still missing, or why nobody answered.
pub(crate) async fn run(args: WaitArgs) -> Result<(), NotReady> {
    let deadline = Instant::now() + args.timeout;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reasons = vec!["it was not asked".to_owned()];
    let ready = async {
        loop {
            pace.tick().await;
            reasons = match args.api.read("/api/v1/status").await {
                Ok(status) => missing(&status, args.routed),
                // Not there yet, or on its way down: asked again.
                Err(error) => vec![error.to_string()],
            };
            if reasons.is_empty() {
                return;
            }
        }
    };
    match timeout_at(deadline, ready).await {
        Ok(()) => Ok(()),
        Err(_) => Err(NotReady { timeout: args.timeout, reasons }),
    }
}

/// What is still missing; nothing when it does its work. That routers talk to us is not in our hands, so it counts only
/// when it is asked for.
fn missing(status: &Status, routed: bool) -> Vec<String> {
    let attached = status.links.iter().any(|link| link.xdp != XdpMode::Detached);
    let programmed = status.generation == status.programmed_generation;
    if attached && programmed && (status.ready || !routed) {
        return Vec::new();
    }
    if !status.problems.is_empty() {
        return status.problems.clone();
    }
    let words = match (attached, programmed) {
        (false, _) => "the data plane is attached to no link",
        (true, false) => "the first state is not programmed yet",
        (true, true) => "no BGP peer is established",
    };
    vec![words.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use sluice_api::Link;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn status(xdp: XdpMode, programmed: u64, ready: bool, problems: &[&str]) -> Status {
        Status {
            generation: 7,
            programmed_generation: programmed,
            ready,
            problems: problems.iter().map(|&it| it.to_owned()).collect(),
            links: vec![Link { xdp, ..Link::default() }],
            ..Status::default()
        }
    }

    #[test]
    fn table() {
        use XdpMode::{Detached, Generic, Native};
        let down = "BGP peer 10.0.0.1 is not established";
        for (name, status, routed, expected) in [
            ("all is well", status(Native, 7, true, &[]), true, &[][..]),
            ("routers are down", status(Generic, 7, false, &[down]), false, &[]),
            ("routers are down and asked for", status(Native, 7, false, &[down]), true, &[down]),
            (
                "asked for, and nothing said",
                status(Native, 7, false, &[]),
                true,
                &["no BGP peer is established"],
            ),
            (
                "no link",
                status(Detached, 7, false, &[]),
                false,
                &["the data plane is attached to no link"],
            ),
            (
                "on its way",
                status(Native, 6, false, &[]),
                false,
                &["the first state is not programmed yet"],
            ),
        ] {
            assert_eq!(missing(&status, routed), expected, "{name}");
        }
    }

    fn args(api: &str, timeout: &str) -> WaitArgs {
        match Cli::try_parse_from(["sluice", "wait", "--api", api, "--timeout", timeout]) {
            Ok(Cli { command: Command::Wait(args) }) => args,
            other => panic!("{other:?}"),
        }
    }

    /// Answers one request for each of these.
    fn serve(answers: Vec<Status>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                let body = serde_json::to_string(&answer).unwrap();
                let head =
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n";
                write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        api
    }

    #[tokio::test]
    async fn it_asks_until_all_is_well() {
        let api = serve(vec![
            status(XdpMode::Detached, 0, false, &[]),
            status(XdpMode::Native, 7, false, &[]),
        ]);
        run(args(&api, "60s")).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_reason_is_told() {
        // A port that was just free: nobody listens.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = run(args(&format!("http://{free}"), "300ms")).await.unwrap_err().to_string();
        assert!(error.starts_with("not ready within 0.3 s:\n- no answer from"), "{error}");
    }

    #[test]
    fn times_have_units() {
        assert!(Cli::try_parse_from(["sluice", "wait", "--timeout", "5"]).is_err());
        assert_eq!(args("http://127.0.0.1:1", "2m").timeout, Duration::from_secs(120));
    }
}
