//! Whom the speaker talks to: the configuration file's peers, and those that sources want.

use super::appliance::Appliance;
use crate::config::{Config, DEFAULT_CONNECT_RETRY, DEFAULT_HOLD_TIME};
use crate::sources::{Bridges, unicast};
use crate::status::PeerProblems;
use sluice_api::WantedPeer;
use sluice_bgp::{PeerConfig, SpeakerConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Registered port of BGP.
const PORT: u16 = 179;

// === impl Appliance ===

impl Appliance {
    /// The speaker as it should be under this configuration; `None` without `[bgp]`. Second, why wanted peers are left out.
    pub(super) fn wanted_speaker(
        &self,
        config: &Config,
        bridges: &Bridges,
    ) -> (Option<SpeakerConfig>, PeerProblems) {
        let known = self.speaker.iter().flat_map(|speaker| &speaker.peers);
        let known: BTreeSet<IpAddr> = known.map(|peer| peer.address).collect();
        // The VIP that was there first stays: else a source takes another's off the air by naming it as its peer.
        let vips = &self.reconciler.observed().addresses;
        speaker(config, bridges, &vips.difference(&known).copied().collect())
    }
}

fn speaker(
    config: &Config,
    bridges: &Bridges,
    vips: &BTreeSet<IpAddr>,
) -> (Option<SpeakerConfig>, PeerProblems) {
    let mut problems = PeerProblems::new();
    let Some(bgp) = &config.bgp else { return (None, problems) };
    let mut speaker = bgp.speaker.clone();
    let wanted = bridges
        .iter()
        .flat_map(|(source, bridge)| bridge.peers.iter().map(move |peer| (source, peer)));
    for (source, peer) in wanted {
        if !peer.appliances.is_empty() && !peer.appliances.contains(&config.name) {
            continue;
        }
        match peer_config(peer, &speaker, vips) {
            Ok(peer) => speaker.peers.push(peer),
            Err(why) => {
                problems.entry(source.clone()).or_default().insert(peer.name.clone(), why);
            }
        }
    }
    (Some(speaker), problems)
}

fn peer_config(
    peer: &WantedPeer,
    speaker: &SpeakerConfig,
    vips: &BTreeSet<IpAddr>,
) -> Result<PeerConfig, String> {
    let address = unicast(&peer.address)?;
    if speaker.peers.iter().any(|known| known.address == address) {
        return Err(format!("{address} is a peer of the configuration file or of another source"));
    }
    if vips.contains(&address) {
        return Err(format!("{address} is a VIP of this appliance"));
    }
    if peer.asn == 0 {
        return Err("the AS number is 0 (RFC 7607)".to_owned());
    }
    if peer.port == Some(0) {
        return Err("the port is 0".to_owned());
    }
    if matches!(peer.hold_time_seconds, Some(1 | 2)) {
        return Err("the hold time is 0 or at least 3 seconds (RFC 4271)".to_owned());
    }
    Ok(PeerConfig {
        address,
        port: peer.port.unwrap_or(PORT),
        asn: peer.asn,
        local_address: None,
        passive: peer.passive,
        // As for peers of the file.
        hold_time: peer
            .hold_time_seconds
            .map_or(DEFAULT_HOLD_TIME, |s| Duration::from_secs(s.into())),
        connect_retry: DEFAULT_CONNECT_RETRY,
        next_hop_v4: None,
        next_hop_v6: None,
        multihop: None,
        ttl_security: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Bridge;
    use std::sync::Arc;

    #[test]
    fn of_two_sources_with_a_peer_of_one_name_the_right_one_is_told() {
        let text = "data-plane = { interfaces = [\"eth0\"] }\nbgp = { asn = 64512, router-id = \"10.0.0.2\" }";
        let config = crate::config::parse(text).unwrap();
        let bridge = |address: &str| {
            let peer = WantedPeer {
                name: "tor".into(),
                address: address.into(),
                asn: 64513,
                ..WantedPeer::default()
            };
            Arc::new(Bridge { peers: vec![peer], ..Bridge::default() })
        };
        let bridges = Bridges::from([
            ("east".to_owned(), bridge("10.0.0.1")),
            ("north".to_owned(), bridge("10.0.0.300")),
            ("south".to_owned(), bridge("10.0.0.3")),
            ("west".to_owned(), bridge("10.0.0.1")),
            ("zenith".to_owned(), bridge("203.0.113.1")),
        ]);
        let vips = BTreeSet::from([IpAddr::from([203, 0, 113, 1])]);
        let (speaker, problems) = speaker(&config, &bridges, &vips);
        let peers = speaker.unwrap().peers;
        let addresses: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.3"]);
        let told: Vec<_> = problems.iter().map(|(source, by_name)| (&**source, by_name)).collect();
        let [("north", north), ("west", west), ("zenith", zenith)] = told[..] else {
            panic!("{told:?}")
        };
        assert!(zenith["tor"].contains("is a VIP"), "{zenith:?}");
        assert!(north["tor"].contains("10.0.0.300"), "{north:?}");
        assert!(west["tor"].contains("another source"), "{west:?}");
    }
}
