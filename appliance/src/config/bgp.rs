//! `[bgp]` and `[[bgp.peer]]`.

use super::report::Report;
use super::section::Section;
use super::values;
use serde_spanned::Spanned;
use sluice_bgp::{PeerConfig, SpeakerConfig};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Registered port of BGP.
const BGP_PORT: u16 = 179;

/// RFC 4724 §3: the restart time is a field of 12 bits.
const GRACEFUL_RESTART: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(4095);

/// RFC 4271 §4.2: the hold time is a field of 16 bits, and either 0 or at least 3 seconds.
const HOLD_TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(65535);

/// Shorter only floods a peer that is not there.
const CONNECT_RETRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// A box that dies without a word takes traffic along until its routers have missed it for this long, and there is no BFD to
/// be faster. What data centres use, and what the keepalives of 3 s that follow from it cost nobody. RFC 4271 §10 suggests
/// 90 s, from a time of slower routers. The smaller of both sides' counts.
pub(crate) const DEFAULT_HOLD_TIME: Duration = Duration::from_secs(9);

/// How long routers keep routes whose speaker has crashed, while nobody follows the health of what is behind them: as long
/// as the service manager takes to start it again (half a second), programs to be verified (some seconds on a small
/// machine), and a router to take the new session (5 s and more).
const DEFAULT_GRACEFUL_RESTART: Duration = Duration::from_secs(30);

/// A SYN every two seconds is no burden for a router that is away, and it is found soon after it is back.
pub(crate) const DEFAULT_CONNECT_RETRY: Duration = Duration::from_secs(2);

/// A router takes some ten to hundred milliseconds to move its traffic once a route is withdrawn.
const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// `[bgp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bgp {
    /// For the speaker as it is.
    pub(crate) speaker: SpeakerConfig,
    /// After the withdrawal the data plane goes on for this long before it is taken down.
    pub(crate) shutdown_grace: Duration,
}

/// The section; `None` when it is absent or something necessary is missing or wrong.
pub(super) fn read(top: &mut Section<'_, '_>, report: &mut Report) -> Option<Bgp> {
    let mut section = top.table(report, "bgp")?;
    let asn = section.required(report, "asn", "asn = 64512", asn);
    let router_id = section.required(report, "router-id", "router-id = \"10.0.0.2\"", router_id);
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let listen = section.list(report, "listen", values::socket(BGP_PORT)).map_or_else(
        || any.map(|address| SocketAddr::new(address, BGP_PORT)).to_vec(),
        |listen| listen.into_iter().map(Spanned::into_inner).collect(),
    );
    let restart = values::whole_seconds(GRACEFUL_RESTART);
    let restart = section.or(report, "graceful-restart", DEFAULT_GRACEFUL_RESTART, restart);
    let grace = Duration::ZERO..=Duration::from_secs(60);
    let shutdown_grace =
        section.or(report, "shutdown-grace", DEFAULT_SHUTDOWN_GRACE, values::duration(grace));
    let peers = read_peers(&mut section, report, listen.is_empty());
    section.finish(report);
    let speaker = SpeakerConfig {
        asn: asn?.into_inner(),
        router_id: router_id?.into_inner(),
        listen,
        peers,
        graceful_restart: restart,
    };
    Some(Bgp { speaker, shutdown_grace })
}

fn read_peers(
    section: &mut Section<'_, '_>,
    report: &mut Report,
    active_only: bool,
) -> Vec<PeerConfig> {
    let mut lines: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let mut peers = Vec::new();
    for mut table in section.tables(report, "peer") {
        let address = table.required(report, "address", "address = \"10.0.0.1\"", peer_address);
        if let Some(address) = &address {
            let (offset, address) = (address.span().start, *address.get_ref());
            table.rename(format!("bgp.peer[{address}]"));
            let line = report.line(offset);
            if let Some(first) = lines.insert(address, line) {
                let message =
                    format!("the peer on line {first} has this address; keep one of them");
                report.push(offset, table.at("address"), message);
            }
        }
        peers.extend(read_peer(table, report, address.map(Spanned::into_inner), active_only));
    }
    peers
}

fn read_peer(
    mut table: Section<'_, '_>,
    report: &mut Report,
    address: Option<IpAddr>,
    active_only: bool,
) -> Option<PeerConfig> {
    let asn = table.required(report, "asn", "asn = 64513", asn);
    let port = table.or(report, "port", BGP_PORT, values::port);
    let passive = table.optional(report, "passive", values::boolean);
    if let Some(passive) = passive.as_ref().filter(|passive| *passive.get_ref() && active_only) {
        let message =
            "a passive peer needs somebody who listens; give [bgp] a listen address or write false";
        report.push(passive.span().start, table.at("passive"), message);
    }
    let hold_time = table.or(report, "hold-time", DEFAULT_HOLD_TIME, hold_time);
    let retry = values::duration(CONNECT_RETRY);
    let connect_retry = table.or(report, "connect-retry", DEFAULT_CONNECT_RETRY, retry);
    let local_address = table.optional(report, "local-address", values::address);
    if let (Some(local), Some(peer)) = (&local_address, address)
        && local.get_ref().is_ipv4() != peer.is_ipv4()
    {
        let family = if peer.is_ipv4() { "IPv4" } else { "IPv6" };
        let message =
            format!("the peer's address is of the other family; write an {family} address");
        report.push(local.span().start, table.at("local-address"), message);
    }
    let next_hop_v4 = table.optional(report, "next-hop-ipv4", values::ipv4);
    let next_hop_v6 = table.optional(report, "next-hop-ipv6", values::ipv6);
    let multihop = table.optional(report, "multihop", values::integer(1u8..=u8::MAX));
    let ttl_security = table.or(report, "ttl-security", false, values::boolean);
    table.finish(report);
    Some(PeerConfig {
        address: address?,
        port,
        asn: asn?.into_inner(),
        local_address: local_address.map(Spanned::into_inner),
        passive: passive.is_some_and(Spanned::into_inner),
        hold_time,
        connect_retry,
        next_hop_v4: next_hop_v4.map(Spanned::into_inner),
        next_hop_v6: next_hop_v6.map(Spanned::into_inner),
        multihop: multihop.map(Spanned::into_inner),
        ttl_security,
    })
}

type Value<'a> = toml::de::DeValue<'a>;

/// An AS number somebody may have: not 0 (RFC 7607), AS_TRANS (RFC 6793) or the last ones (RFC 7300).
fn asn(value: &Value<'_>) -> Result<u32, String> {
    let asn = values::integer(1u32..=u32::MAX)(value)?;
    match asn {
        23456 | 65535 | u32::MAX => Err(format!(
            "{asn} is reserved; write your own AS number, or a private one from 64512 to 65534"
        )),
        _ => Ok(asn),
    }
}

/// RFC 6286 §2.1: four octets, not zero. Multicast and loopback only work until a peer checks.
fn router_id(value: &Value<'_>) -> Result<Ipv4Addr, String> {
    let id = values::ipv4(value)?;
    if id.is_unspecified() || id.is_multicast() || id.is_broadcast() {
        return Err(format!("{id} is no router id; write an IPv4 address of this box"));
    }
    Ok(id)
}

/// Peers may be on loopback, for tests and for a BGP daemon on the same host.
fn peer_address(value: &Value<'_>) -> Result<IpAddr, String> {
    let address = values::address(value)?;
    if address.is_loopback() { Ok(address) } else { values::unicast(value) }
}

fn hold_time(value: &Value<'_>) -> Result<Duration, String> {
    let time = values::whole_seconds(HOLD_TIME)(value)?;
    if !time.is_zero() && time < Duration::from_secs(3) {
        let time = values::spelled(time);
        return Err(format!("\"{time}\" is too short; write \"0s\" for none, or at least \"3s\""));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn of_peer(more: &str) -> String {
        format!(
            "data-plane = {{ interfaces = [\"eth0\"] }}\n[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\n[[bgp.peer]]\n\
             address = \"169.254.7.1\"\nasn = 2\n{more}"
        )
    }

    /// A box that dies is missed within ten seconds, and a crash outlives no longer than a start takes.
    #[test]
    fn times_are_those_of_a_failover() {
        let speaker = parse(&of_peer("")).unwrap().bgp.unwrap().speaker;
        assert_eq!(speaker.graceful_restart, Duration::from_secs(30));
        let peer = &speaker.peers[0];
        let times = (peer.hold_time, peer.connect_retry);
        assert_eq!(times, (Duration::from_secs(9), Duration::from_secs(2)));
        assert_eq!((peer.multihop, peer.ttl_security), (None, false));
    }

    #[test]
    fn hops_are_counted_from_one() {
        let mistakes = parse(&of_peer("multihop = 0\nttl-security = true")).unwrap_err();
        let words = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = "line 8: bgp.peer[169.254.7.1].multihop: 0 is out of range; ";
        assert!(words.len() == 1 && words[0].starts_with(expected), "{words:?}");
    }
}
