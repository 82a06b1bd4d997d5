//! Our OPEN, and whether the peer's is acceptable (RFC 4271 §6.2).
//!
//! The decoder has already refused wrong versions, hold times of 1 and 2, AS 0 and identifier 0.0.0.0.

use super::config::{Config, RESTART_TIME_MAX_S};
use super::state::offered;
use crate::wire::notification::{Notification, code, open};
use crate::wire::{Asn, Capability, Family, GracefulFamily, GracefulRestart, Negotiated, Open};

/// The peer's OPEN is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What to answer.
    pub(super) notification: Notification,
    /// What is wrong and what would be right, for our operator.
    pub(super) detail: String,
}

/// What the restart flags of our OPEN say (RFC 4724 §3); changes after the first session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartFlags {
    /// R: this process has just started and the peer may have kept our routes.
    pub restarting: bool,
    /// F: packets for the routes announced before still find their way.
    pub forwarding: bool,
}

// === impl RestartFlags ===

impl RestartFlags {
    /// Of the first session: only a start that adopted forwarding state claims anything.
    pub fn first(restarted: bool) -> Self {
        Self { restarting: restarted, forwarding: restarted }
    }

    /// Of all later sessions: a lost connection does not disturb the data plane.
    pub fn later() -> Self {
        Self { restarting: false, forwarding: true }
    }
}

/// Our OPEN. `families` are those that we can give a next hop for on this connection.
pub(super) fn ours(config: &Config, families: &[Family], flags: RestartFlags) -> Open {
    let mut capabilities: Vec<_> =
        families.iter().map(|family| Capability::Multiprotocol(*family)).collect();
    capabilities.push(Capability::RouteRefresh);
    capabilities.push(Capability::EnhancedRouteRefresh);
    capabilities.push(Capability::FourOctetAs(config.local_asn));
    if let Some(time_s) = config.restart_time_s {
        let families = families
            .iter()
            .map(|family| GracefulFamily { family: *family, forwarding: flags.forwarding })
            .collect();
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarting: flags.restarting,
            // Without RFC 8538 a NOTIFICATION takes our routes back at once, as a shutdown has to.
            notification: false,
            time_s: time_s.min(RESTART_TIME_MAX_S),
            families,
        }));
    }
    Open::new(config.local_asn, config.hold_time, config.router_id, capabilities)
}

/// Accepts the peer's OPEN, or says what to answer.
pub(super) fn negotiate(config: &Config, ours: &Open, peer: &Open) -> Result<Negotiated, Refusal> {
    check_asn(config, peer)?;
    // RFC 6286 §2.2: within one AS the identifier must differ from ours; across ASes equal ones are allowed.
    if config.internal() && peer.router_id == config.router_id {
        let detail = format!("the peer has our own router id {}", config.router_id);
        return Err(refuse(open::BAD_IDENTIFIER, &[], detail));
    }
    let negotiated = Negotiated::new(ours, peer);
    if negotiated.families.is_empty() {
        return Err(refuse(
            open::UNSUPPORTED_CAPABILITY,
            &wanted(ours),
            format!("no address family in common: we offer {}", names(offered(ours))),
        ));
    }
    Ok(negotiated)
}

fn check_asn(config: &Config, peer: &Open) -> Result<(), Refusal> {
    if peer.asn() != config.peer_asn {
        let detail =
            format!("the peer is in AS {}, configured is AS {}", peer.asn(), config.peer_asn);
        return Err(refuse(open::BAD_PEER_AS, &[], detail));
    }
    // RFC 6793 §4.2.2: the two-octet field repeats the AS or, where it does not fit, says AS_TRANS.
    let field = u32::from(peer.my_as);
    if field != peer.asn().get() && field != Asn::TRANS.get() {
        let detail = format!(
            "the peer's OPEN has AS {field} in its header, AS {} in its capability",
            peer.asn()
        );
        return Err(refuse(open::BAD_PEER_AS, &[], detail));
    }
    Ok(())
}

/// RFC 5492 §5: the data are the capabilities we miss, encoded as in an OPEN (code, length, value).
fn wanted(ours: &Open) -> Vec<u8> {
    offered(ours)
        .flat_map(|family| {
            let [high, low] = family.afi.to_be_bytes();
            [1, 4, high, low, 0, family.safi]
        })
        .collect()
}

fn names(families: impl Iterator<Item = Family>) -> String {
    families.map(|f| f.to_string()).collect::<Vec<_>>().join(", ")
}

fn refuse(subcode: u8, data: &[u8], detail: String) -> Refusal {
    Refusal { notification: Notification::with_data(code::OPEN, subcode, data), detail }
}
