//! Version 1 of the format: a list of cards and name servers. Proxmox writes it.

use super::values::{Mask, Words, address, card, mac, with_prefix};
use super::{Link, Route};
use crate::cloud_init::{Mistake, read};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Document {
    config: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    mac_address: Option<String>,
    mtu: Option<u32>,
    subnets: Option<Vec<Subnet>>,
    /// Of a name server.
    #[serde(default)]
    address: Words,
    #[serde(default)]
    search: Words,
}

#[derive(Deserialize)]
struct Subnet {
    #[serde(rename = "type")]
    kind: String,
    address: Option<String>,
    netmask: Option<Mask>,
    gateway: Option<String>,
    #[serde(default)]
    dns_nameservers: Words,
    #[serde(default)]
    dns_search: Words,
    routes: Option<Vec<Hop>>,
}

#[derive(Deserialize)]
struct Hop {
    #[serde(alias = "destination")]
    network: String,
    netmask: Option<Mask>,
    gateway: String,
    metric: Option<u32>,
}

pub(super) fn links(body: Value) -> Result<Vec<Link>, Mistake> {
    let Document { config } = read(body)?;
    let (mut links, mut everywhere) = (Vec::new(), Link::default());
    for item in &config {
        match item.kind.as_str() {
            "physical" => links.push(link(item)?),
            "nameserver" => everywhere.resolve(&item.address, &item.search)?,
            other => return Err(Mistake::Kind(other.to_owned())),
        }
    }
    // Name servers belong to nobody in this format, and to a card in networkd's.
    for link in &mut links {
        link.dns.extend(&everywhere.dns);
        link.domains.extend(everywhere.domains.iter().cloned());
    }
    Ok(links)
}

fn link(item: &Item) -> Result<Link, Mistake> {
    let mut link = Link { mtu: item.mtu, ..Link::default() };
    let name = item.name.as_deref().map(card).transpose()?;
    // A card's name is what it would be called elsewhere: where the address is known, that says which one it is.
    match &item.mac_address {
        Some(text) => link.mac = Some(mac(text)?),
        None => link.name = Some(name.map_or_else(|| card(""), Ok)?),
    }
    for subnet in item.subnets.iter().flatten() {
        add(&mut link, subnet)?;
    }
    Ok(link)
}

fn add(link: &mut Link, subnet: &Subnet) -> Result<(), Mistake> {
    match subnet.kind.as_str() {
        "dhcp" | "dhcp4" => link.dhcp4 = true,
        "dhcp6" | "ipv6_dhcpv6-stateful" | "ipv6_dhcpv6-stateless" => {
            link.dhcp6 = true;
            link.accept_ra = Some(true);
        }
        "ipv6_slaac" => link.accept_ra = Some(true),
        "static" | "static6" => {
            let text = subnet.address.as_deref().unwrap_or_default();
            link.addresses.push(with_prefix(text, subnet.netmask.as_ref())?);
        }
        "manual" => {}
        other => return Err(Mistake::Kind(other.to_owned())),
    }
    if let Some(gateway) = &subnet.gateway {
        link.routes.push(Route::by(None, address(gateway)?));
    }
    for hop in subnet.routes.iter().flatten() {
        let to = Some(with_prefix(&hop.network, hop.netmask.as_ref())?);
        link.routes.push(Route { metric: hop.metric, ..Route::by(to, address(&hop.gateway)?) });
    }
    link.resolve(&subnet.dns_nameservers, &subnet.dns_search)
}
