//! SIGHUP: services come and go, a bad file changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::sniff::Sniffer;
use sluice_tests::lab::topology::{Topology, vip_routes};
use sluice_tests::lab::traffic::{Traffic, burst};
use sluice_tests::lab::{backend, until};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);

fn with_one_more(lab: &Topology) -> Result<String> {
    let mut services = lab.services();
    let mut more = lab.service("more", "tcp", 80, backend::OTHER_HTTP_PORT);
    more.vips = vec!["203.0.113.11".parse()?];
    more.backends.retain(SocketAddr::is_ipv4);
    services.push(more);
    Ok(lab.appliance.config(&lab.settings(), &services))
}

fn generation(lab: &Topology) -> Result<u64> {
    let status: sluice_api::Status = lab.appliance.api("status")?;
    Ok(status.generation)
}

#[test]
fn services_come_and_go_without_a_failed_request() -> Result<()> {
    let mut lab = Topology::build("e2e_reload", Kind::Frr, 2)?;
    lab.start_standard()?;
    let traffic = Traffic::start(&lab.client, &lab.targets(), Duration::from_millis(5), PATIENCE);
    let few = lab.appliance.config(&lab.settings(), &lab.services());
    let many = with_one_more(&lab)?;
    let net: IpNet = "203.0.113.11/32".parse()?;
    let more = (Transport::Http, SocketAddr::from(([203, 0, 113, 11], 80)));
    let first = generation(&lab)?;
    for _ in 0..3 {
        lab.appliance.write_config(&many)?;
        lab.appliance.reload()?;
        lab.wait_routes(&[net], SOON)?;
        let report = burst(&lab.client, &[more], 20, PATIENCE)?;
        assert_eq!((report.failures.len(), report.answers.len()), (0, 2), "{report:?}");
        lab.appliance.write_config(&few)?;
        lab.appliance.reload()?;
        lab.router.wait_no_routes(&[net], SOON)?;
        until("the VIP to leave lo", SOON, || {
            let lo = lab.appliance.namespace().ip(&["addr", "show", "dev", "lo"])?;
            ensure!(!lo.contains("203.0.113.11/"), "{lo}");
            Ok(())
        })?;
    }
    assert!(generation(&lab)? >= first + 6, "every accepted reload is a generation");
    traffic.stop_unharmed()?;
    Ok(())
}

#[test]
fn a_bad_file_changes_nothing() -> Result<()> {
    let mut lab = Topology::build("e2e_bad_reload", Kind::Frr, 2)?;
    lab.start_standard()?;
    let before = generation(&lab)?;
    let sniffer = Sniffer::start(&lab.router_ns)?;
    let moment = std::time::Instant::now();
    let good = lab.appliance.config(&lab.settings(), &lab.services());
    let bad = [
        good.replace("asn = 64512", "asn = 64512\nsurprise = 1"),
        good.replace("port = 80\n", "port = 80000\n"),
        good.get(..good.len() / 2).unwrap_or_default().to_owned() + "[[[",
        String::new(),
    ];
    for (index, text) in bad.iter().enumerate() {
        assert_ne!(*text, good);
        lab.appliance.write_config(text)?;
        let said = lab.appliance.log().len();
        lab.appliance.reload()?;
        until(&format!("a refusal of bad file {index}"), SOON, || {
            let log = lab.appliance.log();
            let new = log.get(said..).unwrap_or_default();
            ensure!(new.contains("ERROR") || new.contains("WARN"), "log: {new:?}");
            Ok(())
        })?;
    }
    assert_eq!(generation(&lab)?, before);
    assert_eq!(lab.router.routes()?.len(), 2);
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let updates: Vec<_> =
        sniffer.since(moment).into_iter().filter(|heard| heard.changes_routes()).collect();
    assert!(updates.is_empty(), "the router heard of it: {updates:?}");
    // And the right file is taken again afterwards.
    lab.appliance.write_config(&with_one_more(&lab)?)?;
    lab.appliance.reload()?;
    lab.wait_routes(&["203.0.113.11/32".parse()?], SOON)?;
    Ok(())
}

#[test]
fn the_same_file_again_is_no_news() -> Result<()> {
    let mut lab = Topology::build("e2e_same", Kind::Frr, 1)?;
    lab.start_standard()?;
    let before = generation(&lab)?;
    let sniffer = Sniffer::start(&lab.router_ns)?;
    let moment = std::time::Instant::now();
    let said = lab.appliance.log().len();
    lab.appliance.reload()?;
    until("a word about the reload", SOON, || {
        ensure!(lab.appliance.log().len() > said, "nothing");
        Ok(())
    })?;
    lab.wait_routes(&vip_routes(), SOON)?;
    assert_eq!(generation(&lab)?, before, "the same content is the same generation");
    let updates: Vec<_> =
        sniffer.since(moment).into_iter().filter(|heard| heard.changes_routes()).collect();
    assert!(updates.is_empty(), "{updates:?}");
    Ok(())
}

#[test]
fn weight_zero_drains_and_an_absent_backend_is_left_at_once() -> Result<()> {
    let mut lab = Topology::build("e2e_drain", Kind::Frr, 2)?;
    lab.start_standard()?;
    let good = lab.appliance.config(&lab.settings(), &lab.services());
    // b1 is 10.1.0.11 and 2001:db8:1::11.
    let drained = good
        .replace("address = \"10.1.0.11\"\n", "address = \"10.1.0.11\"\nweight = 0\n")
        .replace("address = \"2001:db8:1::11\"\n", "address = \"2001:db8:1::11\"\nweight = 0\n");
    lab.appliance.write_config(&drained)?;
    lab.appliance.reload()?;
    until("new flows to go to b2 only", SOON, || {
        let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
        assert!(report.failures.is_empty(), "draining fails no request: {:?}", report.failures);
        ensure!(!report.answers.contains_key("b1"), "{:?}", report.answers);
        Ok(())
    })?;
    assert_eq!(lab.router.routes()?.len(), 2);
    lab.appliance.write_config(&good)?;
    lab.appliance.reload()?;
    until("b1 to take part again", SOON, || {
        let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        ensure!(report.answers.contains_key("b1"), "{:?}", report.answers);
        Ok(())
    })?;
    Ok(())
}

#[test]
fn an_unknown_port_of_a_vip_is_refused_and_no_backend_drop_is_silent() -> Result<()> {
    let mut lab = Topology::build("e2e_policy", Kind::Frr, 1)?;
    let mut services = lab.services();
    let mut silent = lab.service("silent", "tcp", 81, 8080);
    silent.more = "no-backend = \"drop\"\n".into();
    services.push(silent);
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &services))?;
    lab.appliance.start_ready()?;
    lab.wait_routes(&vip_routes(), SOON)?;
    let ask = |transport, port, patience| -> Result<Vec<Outcome>> {
        vip_routes()
            .iter()
            .map(|net| {
                let to = SocketAddr::new(net.addr(), port);
                Ok(lab.client.run(|| request(transport, to, patience))?.outcome)
            })
            .collect()
    };
    // The API's own port is open on the appliance, and still not behind a VIP.
    for port in [9, 8080, 179] {
        for transport in [Transport::Http, Transport::Udp] {
            let outcomes = ask(transport, port, PATIENCE)?;
            assert_eq!(outcomes, [Outcome::Refused, Outcome::Refused], "{transport:?} {port}");
        }
    }
    for host in &mut lab.hosts {
        host.stop()?;
    }
    lab.router.wait_no_routes(&vip_routes(), SOON)?;
    let outcomes = ask(Transport::Http, 81, Duration::from_millis(500))?;
    assert_eq!(outcomes, [Outcome::TimedOut, Outcome::TimedOut]);
    let outcomes = ask(Transport::Http, 80, PATIENCE)?;
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Refused]);
    Ok(())
}
