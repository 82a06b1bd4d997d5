//! Which addresses a Service has.

use super::annotations::Asks;
use super::leases::{Holder, Ports};
use super::pools::{Asker, Pools};
use super::status::{Had, port_keys, status_addresses};
use super::{ObjectName, Trouble, secondary, trouble};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::net::IpAddr;

/// Addresses of a Service that is served.
#[derive(Default)]
pub(super) struct Chosen {
    /// In the order of `ipFamilies`.
    pub(super) addresses: Vec<IpAddr>,
    /// Further ones for SCTP, in the order in which they are asked for.
    pub(super) secondary: Vec<IpAddr>,
    pub(super) troubles: Vec<Trouble>,
    /// Ports of the Service that it does without, as another Service has them at its address.
    pub(super) without: Ports,
    /// True when a family has none yet that may have one later.
    pub(super) waits: bool,
}

/// Gives the Service its addresses: those it asks for, else those it has, else free ones. `had` are those it was
/// served with last.
///
/// An address that it no longer uses stays with it until its status does not list it any more: else another Service
/// could have it in its status at the same time, and after a restart nobody knew whose it is.
///
/// # Errors
/// When it cannot be served; what it has it keeps.
pub(super) fn choose(
    pools: &mut Pools,
    who: Asker<'_>,
    service: &Service,
    asks: &Asks,
    had: &Had,
) -> Result<Chosen, Trouble> {
    give_up_contested(pools, who.name, service);
    let before = pools.before(who.name);
    match take(pools, who, service, asks, had, &before.addresses()) {
        Ok(chosen) => {
            let listed = status_addresses(service);
            let is_used = |a: &IpAddr| {
                chosen.addresses.contains(a)
                    || chosen.secondary.contains(a)
                    || listed.iter().any(|(one, _)| one == a)
            };
            for address in pools.held_by(who.name).into_iter().filter(|a| !is_used(a)) {
                pools.release_one(who.name, address);
            }
            Ok(chosen)
        }
        Err(why) => {
            // Half of what is asked for is of no use to the Service, but may be to another one.
            pools.restore(who.name, before);
            Err(why)
        }
    }
}

/// An address that another controller has given as well, before ours is in a status: nobody knows it yet, so another one
/// is as good.
fn give_up_contested(pools: &mut Pools, who: &ObjectName, service: &Service) {
    let listed = status_addresses(service);
    for address in pools.held_by(who) {
        if pools.other(address).is_some_and(|other| !other.is_machine())
            && !listed.iter().any(|(one, _)| *one == address)
        {
            pools.release_one(who, address);
        }
    }
}

fn take(
    pools: &mut Pools,
    who: Asker<'_>,
    service: &Service,
    asks: &Asks,
    had: &Had,
    before: &[IpAddr],
) -> Result<Chosen, Trouble> {
    let spec = service.spec.as_ref();
    let families = families(spec, asks)?;
    let prefers_both = spec.and_then(|s| s.ip_family_policy.as_deref()) == Some("PreferDualStack");
    if let Some(stranger) = asks.addresses.iter().find(|a| !families.contains(&a.is_ipv6())) {
        let has: Vec<&str> = families.iter().map(|v6| family(*v6)).collect();
        let what = format!("{stranger} is asked for, but the Service gets {} only", has.join(", "));
        return Err(trouble("AddressFamilyMismatch", what));
    }
    let ports = port_keys(service);
    let mut chosen = Chosen::default();
    secondary::take_named(pools, who, asks, &families, (before, &ports), &mut chosen)?;
    let mut missing = None;
    for v6 in families.iter().copied() {
        let mut has = had.addresses.iter().filter(|a| before.contains(a)).chain(before).copied();
        let held = has.find(|a| a.is_ipv6() == v6);
        let asked = asks.addresses.iter().copied().find(|a| a.is_ipv6() == v6);
        let Some(address) = asked.or(held) else {
            match pools.claim_any(who, v6, &ports, asks.pool.as_deref()) {
                Ok(address) => chosen.addresses.push(address),
                Err(why) => missing = Some(why),
            }
            continue;
        };
        let pool = asks.pool.as_deref();
        keep(pools, who, pool, address, (before, &ports), &mut chosen.troubles)?;
        chosen.addresses.push(address);
    }
    match missing {
        Some(why) if !prefers_both || chosen.addresses.is_empty() => return Err(why),
        missing => {
            chosen.waits = missing.is_some();
            chosen.troubles.extend(missing);
        }
    }
    secondary::take(pools, who, asks, &families, (&had.secondary, before), &ports, &mut chosen)?;
    Ok(chosen)
}

/// Gives the Service this address, which it asks for or is among those it had `before`.
///
/// # Errors
/// When a pool would not give it and it is not the Service's already, or another one has it.
pub(super) fn keep(
    pools: &mut Pools,
    who: Asker<'_>,
    asked_pool: Option<&str>,
    address: IpAddr,
    (before, ports): (&[IpAddr], &Ports),
    troubles: &mut Vec<Trouble>,
) -> Result<(), Trouble> {
    if let Some(why) = pools.unfit(address) {
        let what = format!("{address} {why} and can be no VIP; ask for another address");
        return Err(trouble("AddressReserved", what));
    }
    if let Some(why) = out_of_place(pools, who, asked_pool, address) {
        if !before.contains(&address) {
            let what = format!("{why}; ask for another address");
            return Err(trouble("AddressNotInPool", what));
        }
        let what = format!("{address} stays with the Service, though {why}");
        troubles.push(trouble("AddressNotInPool", what));
    }
    pools.claim(address, who.name, ports).map_err(|taken| {
        let what = match taken.by {
            Holder::Service(ObjectName { namespace, name }) => {
                format!("Service {name} of namespace {namespace} has {address}, or a port of it")
            }
            Holder::Other(other) => format!("{other} has {address}"),
        };
        trouble("AddressInUse", what)
    })?;
    if let Some(other) = pools.other(address) {
        let what = format!("{other} has {address} too; ask for another address for one of them");
        troubles.push(trouble("AddressContested", what));
    }
    Ok(())
}

/// Why the pools would not give this address to the Service now.
fn out_of_place(
    pools: &Pools,
    who: Asker<'_>,
    asked: Option<&str>,
    address: IpAddr,
) -> Option<String> {
    let Some(pool) = pools.of(address).filter(|pool| pool.permits(who)) else {
        return Some(format!("no pool gives {address} to it"));
    };
    let asked = asked.filter(|asked| *asked != pool.name())?;
    Some(format!("{address} is of pool {}, and pool {asked} is asked for", pool.name()))
}

/// True for IPv6, in the order of `ipFamilies`. An annotation may leave one of two. NAT64 makes an IPv6 address possible
/// where `ipFamilies`, which is about the endpoints, has none.
fn families(spec: Option<&ServiceSpec>, asks: &Asks) -> Result<Vec<bool>, Trouble> {
    let is_nat64 = asks.nat64 == Some(true);
    let written = spec.and_then(|s| s.ip_families.as_ref()).filter(|f| !f.is_empty());
    let Some(written) = written else { return Ok(vec![asks.v6.unwrap_or(is_nat64)]) };
    let mut families: Vec<bool> = written.iter().map(|family| family == "IPv6").collect();
    if is_nat64 && !families.contains(&true) {
        return Ok(vec![true]);
    }
    if let Some(v6) = asks.v6 {
        let needs_both =
            spec.and_then(|s| s.ip_family_policy.as_deref()) == Some("RequireDualStack");
        if needs_both || !families.contains(&v6) {
            let what = format!(
                "loxilb.io/ipam asks for {} alone, but ipFamilies is {}",
                family(v6),
                written.join(", ")
            );
            return Err(trouble("AddressFamilyMismatch", what));
        }
        families.retain(|one| *one == v6);
    }
    Ok(families)
}

/// As `ipFamilies` spells it.
fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}
