//! Secondary addresses: further ones, at which clients of SCTP reach the same backend (RFC 9260 section 6.4).
//!
//! They are recorded where the others are, in the Service's status: behind those, each with the ports of SCTP alone. So
//! they are taken in and kept like those, and nobody can claim one who may not write statuses.

use super::addresses::{Chosen, keep};
use super::annotations::{Asks, Probing};
use super::leases::{Ports, ProtocolKey};
use super::pools::{Asker, Pools};
use super::ports::has_sctp;
use super::{Trouble, trouble};
use k8s_openapi::api::core::v1::ServiceSpec;
use std::net::IpAddr;

/// What a Service asks for that does not go together with SCTP, or with several addresses.
pub(super) fn check(asks: &Asks, spec: &ServiceSpec) -> Result<(), Trouble> {
    let has_sctp = has_sctp(spec);
    if let (true, Probing::By(health)) = (has_sctp, &asks.health)
        && health.port.is_none()
    {
        let what = "no server answers TCP at a port of SCTP; name another one with loxilb.io/probeport, or take the health \
                    check off";
        return Err(trouble("UnsupportedAnnotation", what));
    }
    if !asks.has_secondary() {
        return Ok(());
    }
    if !has_sctp {
        let what =
            "secondary addresses are for ports of SCTP, and the Service has none; take them off";
        return Err(trouble("UnsupportedAnnotation", what));
    }
    for (is_asked, what) in [
        (asks.full_nat == Some(true), "full NAT"),
        (asks.nat64 == Some(true), "NAT64"),
        (asks.affinity || spec.session_affinity.as_deref() == Some("ClientIP"), "session affinity"),
    ] {
        if is_asked {
            let what = format!(
                "{what} knows a client by one address, and secondary addresses are for clients of several; take one of \
                 them off"
            );
            return Err(trouble("AnnotationContradiction", what));
        }
    }
    Ok(())
}

/// Gives the Service the secondary addresses it names, before any other is searched for, which must not be one of these.
pub(super) fn take_named(
    pools: &mut Pools,
    who: Asker<'_>,
    asks: &Asks,
    families: &[bool],
    (before, ports): (&[IpAddr], &Ports),
    chosen: &mut Chosen,
) -> Result<(), Trouble> {
    let ports = of_sctp(ports);
    for address in asks.secondary.iter().flatten() {
        if !families.contains(&address.is_ipv6()) {
            return Err(no_family(*address));
        }
        keep(pools, who, None, *address, (before, &ports), &mut chosen.troubles)?;
        chosen.secondary.push(*address);
    }
    Ok(())
}

/// Once the Service has its first addresses: gives it the others it asks for. Of those from pools it keeps what it `had`;
/// `before` is all it holds.
pub(super) fn take(
    pools: &mut Pools,
    who: Asker<'_>,
    asks: &Asks,
    families: &[bool],
    (had, before): (&[IpAddr], &[IpAddr]),
    ports: &Ports,
    chosen: &mut Chosen,
) -> Result<(), Trouble> {
    let ports = of_sctp(ports);
    for address in &chosen.secondary {
        if chosen.addresses.contains(address) {
            let what =
                format!("{address} is the Service's first address already; ask for another one");
            return Err(trouble("AddressContradiction", what));
        }
        if !chosen.addresses.iter().any(|first| first.is_ipv6() == address.is_ipv6()) {
            return Err(no_family(*address));
        }
    }
    let Some(wanted) = asks.secondary_pools.as_deref() else { return Ok(()) };
    // Of the first family that is wanted and not of the first there is: else a Service that is refused now could be
    // served because somebody else takes an address.
    let v6 = families.first().copied().unwrap_or_default();
    if !chosen.addresses.iter().any(|first| first.is_ipv6() == v6) {
        let what = "secondary addresses are of the first family, and no address of it is free for the Service";
        return Err(trouble("PoolExhausted", what));
    }
    let is_kept =
        |a: &&IpAddr| before.contains(a) && a.is_ipv6() == v6 && !chosen.addresses.contains(a);
    let had: Vec<IpAddr> = had.iter().filter(is_kept).copied().collect();
    let slots = assign(pools, wanted, had.clone());
    // First those it has, so that the search for others sees them with the ports they have now.
    for (pool, address) in wanted.iter().zip(&slots) {
        if let Some(address) = address {
            keep(pools, who, Some(pool), *address, (before, &ports), &mut chosen.troubles)?;
        }
    }
    // In the order they had, whichever pools they stand for by now.
    chosen.secondary = had.into_iter().filter(|address| slots.contains(&Some(*address))).collect();
    for (pool, _) in wanted.iter().zip(&slots).filter(|(_, slot)| slot.is_none()) {
        chosen.secondary.push(pools.claim_any(who, v6, &ports, Some(pool))?);
    }
    Ok(())
}

fn of_sctp(ports: &Ports) -> Ports {
    ports.iter().copied().filter(|(_, protocol)| *protocol == ProtocolKey::Sctp).collect()
}

fn no_family(address: IpAddr) -> Trouble {
    let what =
        format!("{address} is asked for, and the Service has no other address of its family");
    trouble("AddressFamilyMismatch", what)
}

/// Which of the addresses there are stands for which pool: those of a pool first, then the others, which stay though
/// their pool is another one by now.
fn assign(pools: &Pools, wanted: &[String], mut had: Vec<IpAddr>) -> Vec<Option<IpAddr>> {
    let mut slots: Vec<Option<IpAddr>> = Vec::new();
    for name in wanted {
        let is_its = |a: &IpAddr| pools.of(*a).is_some_and(|pool| pool.name() == name);
        let place = had.iter().position(is_its);
        slots.push(place.map(|place| had.remove(place)));
    }
    let mut others = had.into_iter();
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = others.next();
    }
    slots
}
