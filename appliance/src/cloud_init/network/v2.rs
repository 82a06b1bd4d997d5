//! Version 2 of the format: netplan's, of which only cards are understood.

use super::values::{Words, address, card, driver, flag, mac, with_prefix};
use super::{Link, Route};
use crate::cloud_init::{Mistake, read};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Keys that are no kind of a link.
const OTHERS: [&str; 3] = ["version", "renderer", "ethernets"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ethernet {
    #[serde(rename = "match")]
    which: Option<Which>,
    mtu: Option<u32>,
    #[serde(default, deserialize_with = "flag")]
    dhcp4: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    dhcp6: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    accept_ra: Option<bool>,
    #[serde(default)]
    addresses: Words,
    gateway4: Option<String>,
    gateway6: Option<String>,
    routes: Option<Vec<Hop>>,
    nameservers: Option<Nameservers>,
}

/// What else somebody may match by is refused: left out, it would match more cards than are meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    macaddress: Option<String>,
    name: Option<String>,
    #[serde(default)]
    driver: Words,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Hop {
    to: String,
    via: Option<String>,
    metric: Option<u32>,
    #[serde(default, deserialize_with = "flag")]
    on_link: Option<bool>,
    scope: Option<String>,
    /// These say that it is another kind of route.
    table: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<Value>,
}

#[derive(Deserialize)]
struct Nameservers {
    #[serde(default)]
    addresses: Words,
    #[serde(default)]
    search: Words,
}

pub(super) fn links(mut body: Value) -> Result<Vec<Link>, Mistake> {
    let keys = body.as_object().into_iter().flat_map(|object| object.keys());
    if let Some(other) = keys.map(String::as_str).find(|key| !OTHERS.contains(key)) {
        return Err(Mistake::Kind(other.to_owned()));
    }
    let ethernets = body.get_mut("ethernets").map(Value::take).unwrap_or_default();
    let ethernets: Option<BTreeMap<String, Ethernet>> = read(ethernets)?;
    ethernets.into_iter().flatten().map(|(name, ethernet)| link(&name, &ethernet)).collect()
}

fn link(name: &str, ethernet: &Ethernet) -> Result<Link, Mistake> {
    let mut link = Link {
        mtu: ethernet.mtu,
        dhcp4: ethernet.dhcp4.unwrap_or(false),
        dhcp6: ethernet.dhcp6.unwrap_or(false),
        accept_ra: ethernet.accept_ra,
        ..Link::default()
    };
    // Without anything to match, the key is the card's name.
    match &ethernet.which {
        None => link.name = Some(card(name)?),
        Some(which) => {
            link.mac = which.macaddress.as_deref().map(mac).transpose()?;
            link.name = which.name.as_deref().map(card).transpose()?;
            let drivers: Result<Vec<String>, Mistake> =
                which.driver.iter().map(|text| driver(text)).collect();
            link.driver = Some(drivers?.join(" ")).filter(|drivers| !drivers.is_empty());
            if link.mac.is_none() && link.name.is_none() && link.driver.is_none() {
                return Err(Mistake::NoCard(name.to_owned()));
            }
        }
    }
    for text in ethernet.addresses.iter() {
        link.addresses.push(with_prefix(text, None)?);
    }
    for gateway in ethernet.gateway4.iter().chain(&ethernet.gateway6) {
        link.routes.push(Route::by(None, address(gateway)?));
    }
    for hop in ethernet.routes.iter().flatten() {
        link.routes.push(route(hop)?);
    }
    if let Some(servers) = &ethernet.nameservers {
        link.resolve(&servers.addresses, &servers.search)?;
    }
    Ok(link)
}

fn route(hop: &Hop) -> Result<Route, Mistake> {
    for (key, given) in [("table", &hop.table), ("type", &hop.kind)] {
        if given.as_ref().is_some_and(|given| given != "unicast") {
            return Err(Mistake::Kind(key.to_owned()));
        }
    }
    let is_default = ["default", "0.0.0.0/0", "::/0"].contains(&hop.to.as_str());
    let to = if is_default { None } else { Some(with_prefix(&hop.to, None)?) };
    let via = hop.via.as_deref().map(address).transpose()?;
    if via.is_none() && hop.scope.as_deref() != Some("link") {
        let wanted = "route without via; give its gateway, or scope: link";
        return Err(Mistake::Value { value: hop.to.clone(), wanted });
    }
    Ok(Route { to, via, metric: hop.metric, on_link: hop.on_link.unwrap_or(false) })
}
