//! `sluice-lab source-measure`: what changes of thousands of services cost an appliance, over its plain HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::stage::time;
use crate::lab::appliance::API;
use crate::lab::leak;
use crate::lab::peers::Kind;
use crate::lab::topology::Topology;
use crate::lab::until;

/// No answer takes this long unless the appliance hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Endpoints of each service.
const BACKENDS: u32 = 10;

/// What came of many changes.
#[derive(Debug)]
pub struct Many {
    /// From the first request to the last answer.
    pub took: Duration,
    /// How long each change waited for its answer, ascending.
    pub answers: Vec<Duration>,
    /// How often the appliance wrote its ledger meanwhile: each write is one revision of the merged state.
    pub writes: u64,
}

/// Measures and prints.
///
/// # Errors
/// When the lab or the appliance does not do what it should.
pub fn run(services: u32, sources: u32) -> Result<()> {
    leak::clean_on_signals()?;
    let mut lab = Topology::build("sources", Kind::Frr, 1)?;
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &[]))?;
    lab.appliance.start_ready()?;
    let many = patches(&lab, services, sources)?;
    let at = |index: usize| many.answers.get(index).copied().map_or_else(String::new, time);
    let count = many.answers.len();
    println!("{count} changes of one service each, from {sources} sources at once:");
    println!("    all answered after {}", time(many.took));
    println!("    answer: median {}, worst {}", at(count / 2), at(count.saturating_sub(1)));
    println!("    the ledger was written {} times", many.writes);
    println!("    processor time of the appliance: {}", time(processor_time(&lab)?));
    lab.appliance.stop().map(drop)
}

/// So many services, each wished by a change of its own, by so many sources side by side.
///
/// # Errors
/// When a change is refused.
pub fn patches(lab: &Topology, services: u32, sources: u32) -> Result<Many> {
    // Backends must have a way, though nobody is there.
    let host = lab.hosts.first().context("no host")?.addresses.0.to_string();
    lab.appliance.namespace().ip(&["route", "add", "10.128.0.0/9", "via", &host])?;
    let ns = lab.appliance.namespace();
    ns.run(|| (0..sources).try_for_each(begin))??;
    let before = revision(lab)?;
    let start = Instant::now();
    let source = |source| {
        let all: Vec<u32> = (source..services).step_by(sources as usize).collect();
        ns.thread(move || change(source, &all))
    };
    let threads: Vec<_> = (0..sources).map(source).collect();
    let mut answers = Vec::new();
    for thread in threads {
        answers.extend(thread.join().map_err(|_| anyhow::anyhow!("a source panicked"))???);
    }
    let took = start.elapsed();
    answers.sort();
    // Snapshots come at their own pace; the last one shows the last write.
    let (after, _) = until("every service to be shown", PATIENCE, || {
        let shown: Vec<Value> = lab.appliance.api("services")?;
        ensure!(shown.len() == services as usize, "{} are", shown.len());
        revision(lab)
    })?;
    Ok(Many { took, answers, writes: after.saturating_sub(before) })
}

fn revision(lab: &Topology) -> Result<u64> {
    let status: Value = lab.appliance.api("status")?;
    status.get("generation").and_then(Value::as_u64).context("no generation")
}

/// What a source wishes first: nothing.
fn begin(source: u32) -> Result<()> {
    let empty = json!({ "owner": "measure", "generation": 1, "services": [] });
    Connection::open()?.send("PUT", &path(source), &empty)
}

/// One source: a service with each change.
fn change(source: u32, services: &[u32]) -> Result<Vec<Duration>> {
    let mut connection = Connection::open()?;
    let mut answers = Vec::new();
    for (base, service) in (1_u64..).zip(services) {
        let upsert = [wanted(source, *service)];
        let change = json!({
            "owner": "measure", "base": base, "generation": base + 1, "upsert": upsert, "remove": [],
        });
        let start = Instant::now();
        connection.send("PATCH", &path(source), &change)?;
        answers.push(start.elapsed());
    }
    Ok(answers)
}

fn path(source: u32) -> String {
    format!("/api/v1/sources/s{source}")
}

/// A service with a VIP and backends that no other has.
fn wanted(source: u32, number: u32) -> Value {
    let address = |base: [u8; 4], offset: u32| {
        Ipv4Addr::from(u32::from(Ipv4Addr::from(base)) + offset).to_string()
    };
    let backends: Vec<Value> = (0..BACKENDS)
        .map(|offset| address([10, 128, 0, 0], number * BACKENDS + offset))
        .map(|address| json!({ "address": address, "port": 8080, "weight": 1 }))
        .collect();
    json!({
        "name": format!("s{source}/default/many-{number}/80-tcp"),
        "vips": [address([100, 64, 0, 0], number)], "port": 80, "protocol": "tcp",
        "backends": backends,
    })
}

/// One connection that is kept, as a bridge keeps it.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open() -> Result<Self> {
        let stream = TcpStream::connect_timeout(&API, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a wish and reads the whole answer, which must be good.
    fn send(&mut self, method: &str, path: &str, body: &Value) -> Result<()> {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {API}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let text = String::from_utf8_lossy(&body);
        ensure!(status.contains(" 200 "), "{method} answered {status}: {text}");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

/// User and system time of the appliance so far.
fn processor_time(lab: &Topology) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", lab.appliance.process()?.pid()))?;
    // Fields 14 and 15; the second, in brackets, may contain spaces (proc_pid_stat(5)).
    let (_, rest) = text.rsplit_once(')').context("no process status")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    // A tick is a hundredth of a second for programs, whatever the kernel's own clock (time(7)).
    Ok(Duration::from_millis(ticks * 10))
}
