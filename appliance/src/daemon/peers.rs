//! Whom the speaker talks to: the configuration file's peers, and those that sources want.

use crate::config::Config;
use crate::sources::{Bridges, unicast};
use sluice_api::WantedPeer;
use sluice_bgp::{PeerConfig, SpeakerConfig};
use std::collections::BTreeMap;
use std::time::Duration;

/// Registered port of BGP.
const PORT: u16 = 179;
/// RFC 4271 §10 suggests 90 seconds.
const HOLD_TIME_S: u16 = 90;
/// As for peers of the file.
const CONNECT_RETRY: Duration = Duration::from_secs(5);

/// The speaker as it should be; `None` without `[bgp]`. Second, why a wanted peer is left out, by its name.
pub(super) fn speaker(
    config: &Config,
    bridges: &Bridges,
) -> (Option<SpeakerConfig>, BTreeMap<String, String>) {
    let mut problems = BTreeMap::new();
    let Some(bgp) = &config.bgp else { return (None, problems) };
    let mut speaker = bgp.speaker.clone();
    for peer in bridges.values().flat_map(|bridge| &bridge.peers) {
        if !peer.appliances.is_empty() && !peer.appliances.contains(&config.name) {
            continue;
        }
        match peer_config(peer, &speaker) {
            Ok(peer) => speaker.peers.push(peer),
            Err(why) => {
                problems.insert(peer.name.clone(), why);
            }
        }
    }
    (Some(speaker), problems)
}

fn peer_config(peer: &WantedPeer, speaker: &SpeakerConfig) -> Result<PeerConfig, String> {
    let address = unicast(&peer.address)?;
    if speaker.peers.iter().any(|known| known.address == address) {
        return Err(format!("{address} is a peer of the configuration file or of another source"));
    }
    if peer.asn == 0 {
        return Err("the AS number is 0 (RFC 7607)".to_owned());
    }
    if peer.port == Some(0) {
        return Err("the port is 0".to_owned());
    }
    let hold_time_s = peer.hold_time_seconds.unwrap_or(HOLD_TIME_S);
    if matches!(hold_time_s, 1 | 2) {
        return Err("the hold time is 0 or at least 3 seconds (RFC 4271)".to_owned());
    }
    Ok(PeerConfig {
        address,
        port: peer.port.unwrap_or(PORT),
        asn: peer.asn,
        local_address: None,
        passive: peer.passive,
        hold_time: Duration::from_secs(hold_time_s.into()),
        connect_retry: CONNECT_RETRY,
        next_hop_v4: None,
        next_hop_v6: None,
    })
}
