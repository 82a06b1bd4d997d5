//! BGP peers: from what was written to what can be used.

use super::{Trouble, trouble};
use crate::crd::{Peer, PeerSpec};
use sluice_api::WantedPeer;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All peers by name.
#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<String, Result<WantedPeer, Trouble>>,
}

// === impl Peers ===

impl Peers {
    pub(super) fn apply(&mut self, object: &Peer) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let read = read(&name, &object.spec);
        self.peers.insert(name, read);
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.peers.remove(name);
    }

    /// Those that can be used, and why not each of the others. Of two for one address the first by name is used.
    pub(super) fn judge(&self) -> (Vec<WantedPeer>, BTreeMap<String, Trouble>) {
        let (mut good, mut bad) = (Vec::<WantedPeer>::new(), BTreeMap::new());
        for (name, peer) in &self.peers {
            let judged = peer.clone().and_then(|peer| {
                match good.iter().find(|other| is_same_session(other, &peer)) {
                    Some(other) => {
                        let what = format!("Peer {} has {} too", other.name, peer.address);
                        Err(trouble("DuplicatePeer", what))
                    }
                    None => Ok(peer),
                }
            });
            match judged {
                Ok(peer) => good.push(peer),
                Err(why) => drop(bad.insert(name.clone(), why)),
            }
        }
        (good, bad)
    }
}

/// An appliance holds one session with an address.
fn is_same_session(one: &WantedPeer, other: &WantedPeer) -> bool {
    let everywhere = one.appliances.is_empty() || other.appliances.is_empty();
    one.address == other.address
        && (everywhere || one.appliances.iter().any(|a| other.appliances.contains(a)))
}

fn read(name: &str, spec: &PeerSpec) -> Result<WantedPeer, Trouble> {
    let wrong = |what: String| trouble("InvalidPeer", what);
    let address: IpAddr = spec
        .address
        .trim()
        .parse()
        .map_err(|_| wrong(format!("address {:?} is no IP address", spec.address)))?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(wrong(format!("address {address} belongs to no router")));
    }
    // 0 and the last one are reserved (RFC 7607, RFC 7300).
    let asn = u32::try_from(spec.asn).ok().filter(|asn| (1..u32::MAX).contains(asn));
    let asn = asn.ok_or_else(|| wrong(format!("asn {} is not 1 to 4294967294", spec.asn)))?;
    let port = spec.port.map(|port| {
        let read = u16::try_from(port).ok().filter(|port| *port > 0);
        read.ok_or_else(|| wrong(format!("port {port} is not 1 to 65535")))
    });
    // RFC 4271 §4.2: zero or at least three.
    let hold = spec.hold_time_seconds.map(|hold| {
        let read = u16::try_from(hold).ok().filter(|hold| *hold == 0 || *hold >= 3);
        read.ok_or_else(|| wrong(format!("holdTimeSeconds {hold} is neither 0 nor 3 to 65535")))
    });
    Ok(WantedPeer {
        name: name.to_owned(),
        address: address.to_string(),
        asn,
        port: port.transpose()?,
        hold_time_seconds: hold.transpose()?,
        passive: spec.passive,
        appliances: spec.appliances.clone(),
    })
}
