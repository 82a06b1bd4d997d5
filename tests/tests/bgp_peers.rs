//! Our speaker alone against real routers: what they learn, lose and keep, whichever side goes away.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is the report")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use sluice_bgp::{
    Announced, PeerConfig, PeerState, PeerStatus, RouteAttributes, Speaker, SpeakerConfig,
};
use sluice_tests::lab::peers::{Config, Kind, Neighbor, Router};
use sluice_tests::lab::sniff::{Heard, NOTIFICATION, OPEN, Sniffer};
use sluice_tests::lab::{Lab, Link, Netns, until};

const SOON: Duration = Duration::from_secs(20);
const OUR_AS: u32 = 64512;
const OURS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 9, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1));
const THEIRS: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 9, 0, 2), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 2));

/// Our speaker on a thread of its own in a namespace.
struct Ours {
    speaker: Option<Speaker>,
    runtime: tokio::runtime::Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Ours {
    fn start(
        ns: &Netns,
        config: SpeakerConfig,
        routes: Announced,
        restarted: bool,
    ) -> Result<Self> {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = ns.thread(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let handle = tokio::runtime::Handle::current();
                drop(ready.send((Speaker::start(config, routes, restarted).await, handle)));
                drop(stopped.await);
            });
        });
        let (speaker, runtime) = started.recv().context("the speaker's thread ended")?;
        Ok(Self { speaker: Some(speaker?), runtime, stop: Some(stop), thread: Some(thread) })
    }

    fn speaker(&self) -> &Speaker {
        self.speaker.as_ref().unwrap()
    }

    fn status(&self) -> PeerStatus {
        self.speaker().peers().borrow().first().unwrap().clone()
    }

    fn wait(&self, what: &str, wanted: impl Fn(&PeerStatus) -> bool) -> Result<Duration> {
        self.wait_within(what, SOON, wanted)
    }

    fn wait_within(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&PeerStatus) -> bool,
    ) -> Result<Duration> {
        let look = || {
            let status = self.status();
            ensure!(wanted(&status), "{status:?}");
            Ok(())
        };
        until(what, deadline, look).map(|((), took)| took)
    }

    fn wait_established(&self) -> Result<Duration> {
        self.wait("our session", |status| status.state == PeerState::Established)
    }

    /// As an operator would.
    fn shut_down(mut self, reason: &str) -> Result<()> {
        let speaker = self.speaker.take().context("no speaker")?;
        self.runtime.block_on(speaker.shutdown(reason));
        Ok(())
    }
}

/// As a crash would.
impl Drop for Ours {
    fn drop(&mut self) {
        drop(self.speaker.take());
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Scene {
    router: Box<dyn Router>,
    ours: Netns,
    /// Last, so that the others are gone when it cleans up.
    _lab: Lab,
}

impl Scene {
    /// The router and our empty namespace beside it; a session over IPv4 for both families.
    fn new(name: &str, kind: Kind) -> Result<Self> {
        Self::with(name, kind, IpAddr::V4(OURS.0), 64513)
    }

    fn with(name: &str, kind: Kind, our_address: IpAddr, their_as: u32) -> Result<Self> {
        Self::of(name, kind, our_address, their_as, |neighbor| neighbor)
    }

    fn of(
        name: &str,
        kind: Kind,
        our_address: IpAddr,
        their_as: u32,
        refine: impl FnOnce(Neighbor) -> Neighbor,
    ) -> Result<Self> {
        let lab = Lab::new(&format!("bgp_{name}_{kind}").to_lowercase())?;
        let (ours, theirs) = (lab.namespace("ours")?, lab.namespace("router")?);
        lab.link(
            &Link::new(&ours, "eth0", &["10.9.0.1/24", "169.254.9.1/30", "2001:db8:9::1/64"]),
            &Link::new(&theirs, "eth0", &["10.9.0.2/24", "169.254.9.2/30", "2001:db8:9::2/64"]),
        )?;
        let neighbor = Neighbor {
            both_families: true,
            hold_time: Duration::from_secs(3),
            ..Neighbor::new(our_address, OUR_AS)
        };
        let config = Config {
            asn: their_as,
            router_id: THEIRS.0,
            neighbors: vec![refine(neighbor)],
            announce: vec!["198.51.100.0/24".parse()?],
        };
        let router = kind.start(&theirs, lab.dir(), &config)?;
        Ok(Self { router, ours, _lab: lab })
    }

    fn start(&self, routes: Announced) -> Result<Ours> {
        Ours::start(&self.ours, speaker(peer(IpAddr::V4(THEIRS.0), 64513)), routes, false)
    }
}

fn peer(address: IpAddr, asn: u32) -> PeerConfig {
    PeerConfig {
        address,
        port: 179,
        asn,
        local_address: None,
        passive: false,
        hold_time: Duration::from_secs(3),
        connect_retry: Duration::from_secs(1),
        next_hop_v4: None,
        next_hop_v6: None,
        multihop: None,
        ttl_security: false,
    }
}

fn speaker(peer: PeerConfig) -> SpeakerConfig {
    SpeakerConfig {
        asn: OUR_AS,
        router_id: OURS.0,
        listen: vec!["0.0.0.0:179".parse().unwrap(), "[::]:179".parse().unwrap()],
        peers: vec![peer],
        graceful_restart: Duration::from_secs(60),
    }
}

fn vips() -> [IpNet; 2] {
    ["203.0.113.10/32".parse().unwrap(), "2001:db8:113::10/128".parse().unwrap()]
}

fn plain(nets: &[IpNet]) -> Announced {
    nets.iter().map(|net| (*net, RouteAttributes::default())).collect()
}

/// Announce with attributes, change them, withdraw one, then all.
fn announce_and_withdraw(kind: Kind) -> Result<()> {
    let scene = Scene::new("announce", kind)?;
    let ours = scene.start(Announced::new())?;
    ours.wait_established()?;
    ours.wait("the router's own route", |status| status.received == 1)?;
    let attributes = RouteAttributes {
        med: Some(50),
        communities: vec![(OUR_AS << 16) | 7, (OUR_AS << 16) | 8],
        large_communities: vec![[OUR_AS, 1, 2]],
        prepend: 2,
        ..RouteAttributes::default()
    };
    ours.speaker().announce(vips().map(|net| (net, attributes.clone())).into());
    scene.router.wait_routes(&vips(), SOON)?;
    let routes = scene.router.routes()?;
    for (net, hop) in vips().into_iter().zip([IpAddr::V4(OURS.0), IpAddr::V6(OURS.1)]) {
        let route = routes.get(&net).with_context(|| format!("no {net}"))?;
        assert_eq!(route.next_hop, Some(hop), "{kind}: {route:?}");
        assert_eq!(route.as_path, "64512 64512 64512", "{kind}: {route:?}");
        assert_eq!(route.med, Some(50), "{kind}: {route:?}");
        assert_eq!(route.communities, ["64512:7", "64512:8"], "{kind}: {route:?}");
    }
    // An implicit replacement, then a withdraw, of one family each.
    let [v4, v6] = vips();
    ours.speaker().announce(plain(&vips()));
    until("the plain attributes", SOON, || {
        let routes = scene.router.routes()?;
        let plain = routes.values().all(|route| route.med.unwrap_or(0) == 0);
        ensure!(plain && routes.len() == 2, "{routes:?}");
        Ok(())
    })?;
    ours.speaker().announce(plain(&[v6]));
    scene.router.wait_no_routes(&[v4], SOON)?;
    scene.router.wait_routes(&[v6], SOON)?;
    ours.speaker().announce(Announced::new());
    scene.router.wait_no_routes(&[v6], SOON)?;
    let status = ours.status();
    assert_eq!((status.flaps, status.problems), (0, vec![]));
    Ok(())
}

/// Both families over an IPv6 session, within one AS.
fn internal_over_ipv6(kind: Kind) -> Result<()> {
    let scene = Scene::with("ibgp", kind, IpAddr::V6(OURS.1), OUR_AS)?;
    let config = speaker(peer(IpAddr::V6(THEIRS.1), OUR_AS));
    let ours = Ours::start(&scene.ours, config, plain(&vips()), false)?;
    ours.wait_established()?;
    scene.router.wait_routes(&vips(), SOON)?;
    let routes = scene.router.routes()?;
    for (net, hop) in vips().into_iter().zip([IpAddr::V4(OURS.0), IpAddr::V6(OURS.1)]) {
        let route = routes.get(&net).with_context(|| format!("no {net}"))?;
        assert_eq!(route.next_hop, Some(hop), "{kind}: {route:?}");
        // FRR's word for no path at all.
        assert!(["", "Local"].contains(&route.as_path.as_str()), "{kind}: {route:?}");
    }
    Ok(())
}

/// The router goes away in its own ways and comes back.
fn restart_of_the_router(kind: Kind) -> Result<()> {
    let mut scene = Scene::new("restart", kind)?;
    let ours = scene.start(plain(&vips()))?;
    scene.router.wait_routes(&vips(), SOON)?;
    scene.router.clear(IpAddr::V4(OURS.0))?;
    ours.wait("the loss after a clear", |status| status.flaps == 1)?;
    // GoBGP holds itself idle for half a minute after a reset.
    let patience = if kind == Kind::GoBgp { 2 * SOON } else { SOON };
    ours.wait_within("the session after a clear", patience, |status| {
        status.flaps == 1 && status.state == PeerState::Established
    })?;
    scene.router.wait_routes(&vips(), SOON)?;
    scene.router.kill()?;
    ours.wait("the loss after a crash", |status| status.flaps == 2)?;
    scene.router.start_again()?;
    scene.router.wait_routes(&vips(), SOON)?;
    scene.router.stop()?;
    ours.wait("the loss after a stop", |status| status.flaps == 3)?;
    assert!(ours.status().last_error.is_some(), "{:?}", ours.status());
    scene.router.start_again()?;
    scene.router.wait_routes(&vips(), SOON)?;
    ours.wait_established()?;
    Ok(())
}

/// We shut down: routes are gone at once, with a word; and we come back.
fn restart_of_ours(kind: Kind) -> Result<()> {
    let scene = Scene::new("shutdown", kind)?;
    let sniffer = Sniffer::start(&scene.ours)?;
    for round in 0..2 {
        let ours = scene.start(plain(&vips()))?;
        scene.router.wait_routes(&vips(), SOON)?;
        let moment = Instant::now();
        ours.shut_down("maintenance")?;
        assert!(moment.elapsed() < Duration::from_secs(3), "{kind}: round {round}");
        scene.router.wait_no_routes(&vips(), Duration::from_secs(2))?;
        let is_ours = |m: &Heard| m.from == IpAddr::V4(OURS.0);
        sniffer.wait("our NOTIFICATION", moment, SOON, |m| is_ours(m) && m.kind == NOTIFICATION)?;
        let heard = sniffer.since(moment);
        let ours: Vec<_> = heard.iter().filter(|m| is_ours(m)).collect();
        let withdrawn = ours.iter().position(|m| m.changes_routes());
        let ceased = ours.iter().position(|m| m.kind == NOTIFICATION);
        assert!(withdrawn.is_some() && withdrawn < ceased, "{kind}: {ours:?}");
        let words = ours.last().unwrap().bytes.clone();
        assert_eq!(words.get(19..21), Some([6, 2].as_slice()), "{kind}: {words:?}");
        assert!(words.ends_with(b"maintenance"), "{kind}: {words:?}");
    }
    Ok(())
}

/// The router freezes: we notice by the hold timer, and it recovers.
fn hold_timer(kind: Kind) -> Result<()> {
    let mut scene = Scene::new("hold", kind)?;
    let ours = scene.start(plain(&vips()))?;
    scene.router.wait_routes(&vips(), SOON)?;
    let frozen = Instant::now();
    scene.router.pause()?;
    ours.wait("the hold timer", |status| status.flaps == 1)?;
    let took = frozen.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(5), "{took:?}");
    let error = ours.status().last_error.unwrap_or_default();
    assert!(error.contains("Hold Timer Expired (4/0)"), "{kind}: {error}");
    scene.router.resume()?;
    let took = ours.wait_established()?;
    println!("{kind}: Established {took:?} after it resumed: {:?}", ours.status().errors);
    scene.router.wait_routes(&vips(), SOON)?;
    Ok(())
}

/// RFC 5082 on both sides; a peer of another AS next door is otherwise sent with a TTL of 1, which such a router never hears.
fn time_to_live(kind: Kind) -> Result<()> {
    let guarded = |neighbor: Neighbor| Neighbor { ttl_security: true, ..neighbor };
    let scene = Scene::of("ttl", kind, IpAddr::V4(OURS.0), 64513, guarded)?;
    let sniffer = Sniffer::start(&scene.ours)?;
    let moment = Instant::now();
    let plain_peer = peer(IpAddr::V4(THEIRS.0), 64513);
    let ours_guarded = PeerConfig { ttl_security: true, ..plain_peer.clone() };
    let ours = Ours::start(&scene.ours, speaker(ours_guarded), plain(&vips()), false)?;
    ours.wait_established()?;
    scene.router.wait_routes(&vips(), SOON)?;
    let is_ours = |message: &Heard| message.from == IpAddr::V4(OURS.0);
    let heard = sniffer.since(moment);
    assert!(heard.iter().filter(|m| is_ours(m)).all(|m| m.ttl == 255), "{kind}: {heard:?}");
    let moment = Instant::now();
    ours.runtime.block_on(ours.speaker().configure(speaker(plain_peer)))?;
    let open_with_1 = |m: &Heard| is_ours(m) && m.kind == OPEN && m.ttl == 1;
    sniffer.wait("an OPEN with TTL 1", moment, SOON, open_with_1)?;
    assert_ne!(ours.status().state, PeerState::Established, "{kind}");
    Ok(())
}

/// As many routes as a large installation has services; all come, all change, all go.
fn five_hundred(kind: Kind) -> Result<()> {
    let scene = Scene::new("many", kind)?;
    let nets: Vec<IpNet> = (0..500_u32)
        .map(|i| match i % 2 {
            0 => IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0xcb00_7100 + i))),
            _ => IpNet::from(IpAddr::from(Ipv6Addr::from_bits(
                0x2001_0db8_0113_u128 << 80 | u128::from(i),
            ))),
        })
        .collect();
    let ours = scene.start(plain(&nets))?;
    scene.router.wait_routes(&nets, SOON)?;
    ours.wait("all announced", |status| status.announced == 500)?;
    let before = ours.status().messages_out;
    let med = RouteAttributes { med: Some(9), ..RouteAttributes::default() };
    ours.speaker().announce(nets.iter().map(|net| (*net, med.clone())).collect());
    until("the new MED everywhere", SOON, || {
        let routes = scene.router.routes()?;
        let other = routes.iter().filter(|(_, route)| route.med != Some(9)).count();
        ensure!(other == 0 && routes.len() == 500, "{other} of {} differ", routes.len());
        Ok(())
    })?;
    // 250 of each family: a message of each, and keepalives.
    assert!(ours.status().messages_out - before < 12, "{kind}: {:?}", ours.status());
    ours.speaker().announce(plain(&nets[..1]));
    scene.router.wait_no_routes(&nets[1..], SOON)?;
    scene.router.wait_routes(&nets[..1], SOON)?;
    Ok(())
}

/// We crash and come back: routes stay all the time, and can be withdrawn afterwards.
fn graceful_restart(kind: Kind) -> Result<()> {
    let scene = Scene::new("graceful", kind)?;
    let ours = scene.start(plain(&vips()))?;
    scene.router.wait_routes(&vips(), SOON)?;
    drop(ours);
    let lost = || {
        let state = scene.router.session(IpAddr::V4(OURS.0))?;
        ensure!(state != "Established", "the session is {state}");
        Ok(())
    };
    until("the router to notice", SOON, lost)?;
    let routes = scene.router.routes()?;
    assert_eq!(routes.len(), 2, "{kind} keeps them: {routes:?}");
    // BIRD marks routes as stale only for long-lived graceful restart.
    assert!(kind == Kind::Bird || routes.values().all(|route| route.stale), "{kind}: {routes:?}");
    // Back with one route less: it goes with End-of-RIB, the other stays throughout.
    let [v4, v6] = vips();
    let config = speaker(peer(IpAddr::V4(THEIRS.0), 64513));
    let mut kept = true;
    let ours = Ours::start(&scene.ours, config, plain(&[v4]), true)?;
    until("fresh routes", SOON, || {
        let routes = scene.router.routes()?;
        kept &= routes.contains_key(&v4);
        ensure!(routes.values().all(|route| !route.stale) && routes.len() == 1, "{routes:?}");
        Ok(())
    })?;
    assert!(kept, "{kind} lost {v4} meanwhile");
    ours.wait_established()?;
    ours.speaker().announce(plain(&[v6]));
    scene.router.wait_no_routes(&[v4], SOON)?;
    scene.router.wait_routes(&[v6], SOON)?;
    Ok(())
}

/// A link with no other addresses than those: ours is the next hop.
#[test]
fn a_session_in_the_link_local_range() -> Result<()> {
    let (ours, theirs) = (Ipv4Addr::new(169, 254, 9, 1), Ipv4Addr::new(169, 254, 9, 2));
    let scene = Scene::with("local", Kind::Bird, IpAddr::V4(ours), 64513)?;
    let [v4, _] = vips();
    let config = speaker(peer(IpAddr::V4(theirs), 64513));
    let _ours = Ours::start(&scene.ours, config, plain(&[v4]), false)?;
    scene.router.wait_routes(&[v4], SOON)?;
    assert_eq!(scene.router.routes()?[&v4].next_hop, Some(IpAddr::V4(ours)));
    Ok(())
}

/// Each of these with each router.
macro_rules! with_each_router {
    ($($test:ident),+ $(,)?) => {
        with_each_router! { @router frr, Kind::Frr, $($test),+ }
        with_each_router! { @router bird, Kind::Bird, $($test),+ }
        with_each_router! { @router gobgp, Kind::GoBgp, $($test),+ }
    };
    (@router $module:ident, $kind:expr, $($test:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $test() -> Result<()> {
                    super::$test($kind)
                }
            )+
        }
    };
}

with_each_router!(
    announce_and_withdraw,
    internal_over_ipv6,
    restart_of_the_router,
    restart_of_ours,
    hold_timer,
    time_to_live,
    five_hundred,
    graceful_restart,
);
