//! Times that matter to an operator, measured on the wire and at the client, several runs each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::stage::time;
use crate::lab::backend::OTHER_HTTP_PORT;
use crate::lab::leak;
use crate::lab::peers::Kind;
use crate::lab::sniff::{Heard, Sniffer};
use crate::lab::topology::{APPLIANCE, Topology, vip_routes};
use crate::lab::traffic::Traffic;

const DEADLINE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
const PACE: Duration = Duration::from_millis(2);

/// One figure over several runs.
struct Series {
    name: &'static str,
    took: Vec<Duration>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, took: Vec::new() }
    }

    fn print(mut self) {
        self.took.sort();
        let at = |index: usize| self.took.get(index).copied().map_or_else(String::new, time);
        println!(
            "{:<64}{:>12}{:>12}{:>12}",
            self.name,
            at(self.took.len() / 2),
            at(0),
            at(self.took.len().saturating_sub(1))
        );
    }
}

fn ours(message: &Heard) -> bool {
    (message.from == APPLIANCE.0 || message.from == APPLIANCE.1) && message.changes_routes()
}

/// Measures everything `runs` times against FRR and prints a table.
///
/// # Errors
/// When the lab or the appliance does not do what it should.
pub fn run(runs: u32) -> Result<()> {
    leak::clean_on_signals()?;
    let mut lab = Topology::build("measure", Kind::Frr, 3)?;
    let sniffer = Sniffer::start(&lab.router_ns)?;
    println!("{:<64}{:>12}{:>12}{:>12}", "", "median", "best", "worst");
    starts(&mut lab, &sniffer, runs)?;
    reloads(&lab, &sniffer, runs)?;
    deaths(&mut lab, &sniffer, runs)?;
    lab.appliance.stop().map(drop)
}

fn starts(lab: &mut Topology, sniffer: &Sniffer, runs: u32) -> Result<()> {
    let mut wire = Series::new("`sluice run` to first UPDATE on the wire");
    let mut learned = Series::new("`sluice run` to both VIPs in FRR");
    let mut gone = Series::new("SIGTERM to both VIPs gone from FRR");
    let config = lab.appliance.config(&lab.settings(), &lab.services());
    lab.appliance.write_config(&config)?;
    for run in 0..runs {
        let start = Instant::now();
        lab.appliance.start()?;
        lab.wait_routes(&vip_routes(), DEADLINE)?;
        learned.took.push(start.elapsed());
        wire.took.push(sniffer.wait("an UPDATE", start, DEADLINE, ours)?);
        lab.appliance.wait_ready(DEADLINE)?;
        if run + 1 < runs {
            let end = Instant::now();
            lab.appliance.stop()?;
            lab.router.wait_no_routes(&vip_routes(), DEADLINE)?;
            gone.took.push(end.elapsed());
        }
    }
    wire.print();
    learned.print();
    gone.print();
    Ok(())
}

fn reloads(lab: &Topology, sniffer: &Sniffer, runs: u32) -> Result<()> {
    let mut wire = Series::new("SIGHUP with one service more to UPDATE on the wire");
    let mut learned = Series::new("SIGHUP with one service more to route in FRR");
    let mut withdrawn = Series::new("SIGHUP without it to UPDATE on the wire");
    let few = lab.appliance.config(&lab.settings(), &lab.services());
    let mut services = lab.services();
    let mut more = lab.service("more", "tcp", 80, OTHER_HTTP_PORT);
    more.vips = vec!["203.0.113.11".parse()?];
    more.backends.retain(SocketAddr::is_ipv4);
    services.push(more);
    let many = lab.appliance.config(&lab.settings(), &services);
    let net = "203.0.113.11/32".parse()?;
    for _ in 0..runs {
        lab.appliance.write_config(&many)?;
        let start = Instant::now();
        lab.appliance.reload()?;
        wire.took.push(sniffer.wait("an UPDATE", start, DEADLINE, ours)?);
        lab.wait_routes(&[net], DEADLINE)?;
        learned.took.push(start.elapsed());
        lab.appliance.write_config(&few)?;
        let end = Instant::now();
        lab.appliance.reload()?;
        // A withdrawal of one /32 is as short as an UPDATE gets: 28 bytes.
        withdrawn.took.push(sniffer.wait("a withdrawal", end, DEADLINE, |message| {
            message.from == APPLIANCE.0 && message.kind == crate::lab::sniff::UPDATE
        })?);
        lab.router.wait_no_routes(&[net], DEADLINE)?;
    }
    wire.print();
    learned.print();
    withdrawn.print();
    Ok(())
}

fn deaths(lab: &mut Topology, sniffer: &Sniffer, runs: u32) -> Result<()> {
    let mut failing = Series::new("one backend's death to last failed request (2 checks, 200 ms)");
    let mut wire = Series::new("last backend's death to UPDATE on the wire (2 checks, 200 ms)");
    let mut back = Series::new("first backend's return to both VIPs in FRR (2 checks, 200 ms)");
    for _ in 0..runs {
        let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
        std::thread::sleep(Duration::from_millis(300));
        let died = Instant::now();
        lab.hosts.first_mut().context("no backends")?.stop()?;
        std::thread::sleep(Duration::from_millis(1500));
        failing.took.push(traffic.stop()?.last_failure_after(died).unwrap_or_default());
        let last = Instant::now();
        for host in lab.hosts.iter_mut().skip(1) {
            host.stop()?;
        }
        wire.took.push(sniffer.wait("a withdrawal", last, DEADLINE, |message| {
            message.from == APPLIANCE.0 && message.kind == crate::lab::sniff::UPDATE
        })?);
        lab.router.wait_no_routes(&vip_routes(), DEADLINE)?;
        lab.hosts.first_mut().context("no backends")?.start()?;
        let start = Instant::now();
        lab.wait_routes(&vip_routes(), DEADLINE)?;
        back.took.push(start.elapsed());
        for host in lab.hosts.iter_mut().skip(1) {
            host.start()?;
        }
        // Until every backend is back in service, for the next run.
        std::thread::sleep(Duration::from_secs(1));
    }
    failing.print();
    wire.print();
    back.print();
    Ok(())
}
