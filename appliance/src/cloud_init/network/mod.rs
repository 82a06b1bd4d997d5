//! `network-config` in both of its formats, as files of systemd-networkd.

mod networkd;
mod v1;
mod v2;
mod values;

use super::{Mistake, parse, put};
use ipnet::IpNet;
use serde_json::Value;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use values::Words;

/// One card and how it is to be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    mac: Option<String>,
    /// Patterns as in networkd.
    name: Option<String>,
    /// Patterns of kernel drivers, as in networkd.
    driver: Option<String>,
    mtu: Option<u32>,
    dhcp4: bool,
    dhcp6: bool,
    /// Router advertisements, unless the system shall choose.
    accept_ra: Option<bool>,
    addresses: Vec<IpNet>,
    routes: Vec<Route>,
    dns: Vec<IpAddr>,
    domains: Vec<String>,
}

// === impl Link ===

impl Link {
    /// A gateway outside of all prefixes of the card, as of hosters who give a /32: networkd would refuse the route, and the
    /// machine would have no network, where its only meaning is that the gateway is on the link.
    fn find_gateways_on_link(&mut self) {
        let addresses = &self.addresses;
        for route in &mut self.routes {
            let Some(via) = route.via else { continue };
            let same_family = || addresses.iter().filter(|a| a.addr().is_ipv4() == via.is_ipv4());
            let has_dhcp = if via.is_ipv4() { self.dhcp4 } else { self.dhcp6 };
            let is_outside =
                same_family().next().is_some() && !same_family().any(|a| a.contains(&via));
            let is_link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
            route.on_link |= is_outside && !has_dhcp && !is_link_local;
        }
    }

    /// Adds name servers, and domains to look names up in.
    fn resolve(&mut self, servers: &Words, domains: &Words) -> Result<(), Mistake> {
        for server in servers.iter() {
            self.dns.push(values::address(server)?);
        }
        for name in domains.iter() {
            self.domains.push(values::domain(name)?);
        }
        Ok(())
    }
}

/// A static route; without a destination the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    to: Option<IpNet>,
    /// None: the destination is on the link itself.
    via: Option<IpAddr>,
    metric: Option<u32>,
    /// The gateway is on the link although no address says so.
    on_link: bool,
}

// === impl Route ===

impl Route {
    /// By a gateway that the link's own addresses lead to, as far as is known here.
    fn by(to: Option<IpNet>, via: IpAddr) -> Self {
        Self { to, via: Some(via), metric: None, on_link: false }
    }
}

/// A file for each card. Files of networkd that were given by name are all that counts where there are any.
pub(super) fn take(dir: &Path, text: &str) -> Result<Vec<String>, Mistake> {
    let links = links(text)?;
    if has_own(dir)? {
        return Ok(Vec::new());
    }
    let file =
        |(number, link)| put(dir, &format!("cloud-init-{number}.network"), &networkd::file(link));
    let made: io::Result<Vec<Option<String>>> = links.iter().enumerate().map(file).collect();
    Ok(made?.into_iter().flatten().collect())
}

fn links(text: &str) -> Result<Vec<Link>, Mistake> {
    let mut document = parse(text)?;
    // As netplan has it, all of it may be below one key.
    let body = document.get_mut("network").map(Value::take).unwrap_or(document);
    let mut links = match body.get("version").and_then(Value::as_u64) {
        Some(1) => v1::links(body)?,
        Some(2) => v2::links(body)?,
        _ => return Err(Mistake::Version(body.get("version").cloned().unwrap_or_default())),
    };
    links.iter_mut().for_each(Link::find_gateways_on_link);
    Ok(links)
}

fn has_own(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if entry?.path().extension().is_some_and(|ending| ending == "network") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Proxmox writes it.
    const PROXMOX: &str = "version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'BC:24:11:00:00:01'
      subnets:
      - type: static
        address: '192.0.2.10'
        netmask: '255.255.255.0'
        gateway: '192.0.2.1'
      - type: static6
        address: '2001:db8::10/64'
        gateway: '2001:db8::1'
    - type: physical
      name: eth1
      mac_address: 'bc:24:11:00:00:02'
      subnets:
      - type: dhcp4
      - type: ipv6_slaac
    - type: nameserver
      address:
      - '192.0.2.53'
      search:
      - 'example.net'
";

    /// As a user of netplan writes it.
    const NETPLAN: &str = "network:
  version: 2
  ethernets:
    uplink:
      match: { macaddress: '52:54:00:00:00:01' }
      set-name: uplink
      addresses: [ 192.0.2.10/24, \"2001:db8::10/64\" ]
      gateway4: 192.0.2.1
      routes:
        - { to: default, via: '2001:db8::1' }
        - { to: 10.0.0.0/8, via: 192.0.2.254, metric: 50 }
      nameservers: { addresses: [192.0.2.53], search: [example.net] }
      mtu: 9000
      accept-ra: no
    all:
      match: { name: 'en*' }
      dhcp4: true
    eth7:
      dhcp6: true
";

    fn made(text: &str) -> Vec<String> {
        links(text).unwrap().iter().map(networkd::file).collect()
    }

    #[test]
    fn version_1() {
        let [first, second] = &made(PROXMOX)[..] else { panic!("two links") };
        assert_eq!(
            first,
            "[Match]\nMACAddress=bc:24:11:00:00:01\nType=ether\n\n\
             [Network]\nDHCP=no\nAddress=192.0.2.10/24\nAddress=2001:db8::10/64\nDNS=192.0.2.53\nDomains=example.net\n\n\
             [Route]\nGateway=192.0.2.1\n\n[Route]\nGateway=2001:db8::1\n\n\
             [DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n\n[DHCPv6]\nDUIDType=link-layer\n"
        );
        assert!(second.contains("\nDHCP=ipv4\nIPv6AcceptRA=yes\n"), "{second}");
    }

    #[test]
    fn version_2() {
        let files = made(NETPLAN);
        let [all, by_name, uplink] = &files[..] else { panic!("three links: {files:?}") };
        assert!(
            all.starts_with("[Match]\nName=en*\nType=ether\n\n[Network]\nDHCP=ipv4\n"),
            "{all}"
        );
        assert!(by_name.starts_with("[Match]\nName=eth7\n") && by_name.contains("DHCP=ipv6"));
        assert!(uplink.starts_with("[Match]\nMACAddress=52:54:00:00:00:01\n"), "{uplink}");
        for part in [
            "[Link]\nMTUBytes=9000\n",
            "IPv6AcceptRA=no\nAddress=192.0.2.10/24\nAddress=2001:db8::10/64\n",
            "[Route]\nGateway=192.0.2.1\n",
            "[Route]\nGateway=2001:db8::1\n",
            "[Route]\nDestination=10.0.0.0/8\nGateway=192.0.2.254\nMetric=50\n",
        ] {
            assert!(uplink.contains(part), "{part} in {uplink}");
        }
    }

    /// As hosters with one address per machine have it.
    #[test]
    fn a_gateway_on_the_link() {
        let says_so = "version: 2
ethernets:
  e:
    addresses: [ 192.0.2.10/32, '2001:db8::10/128' ]
    routes:
      - { to: default, via: 198.51.100.1, on-link: true }
      - { to: default, via: 'fe80::1' }
      - { to: 198.51.100.1/32, scope: link }
";
        let [file] = &made(says_so)[..] else { panic!("one link") };
        for part in [
            "[Route]\nGateway=198.51.100.1\nGatewayOnLink=yes\n\n[Route]\nGateway=fe80::1\n\n",
            "[Route]\nDestination=198.51.100.1/32\nScope=link\n",
        ] {
            assert!(file.contains(part), "{part} in {file}");
        }
        // Whoever does not say so can mean nothing else, unless the prefix is not known here.
        let on_link = |text: &str| made(text).concat().contains("GatewayOnLink=yes");
        let address = |address: &str, dhcp: &str| {
            format!(
                "version: 2\nethernets: {{e: {{addresses: [{address}], gateway4: 198.51.100.1, dhcp4: {dhcp}}}}}\n"
            )
        };
        assert!(on_link(&address("192.0.2.10/32", "no")));
        assert!(!on_link(&address("198.51.100.10/24", "no")));
        assert!(!on_link(&address("192.0.2.10/32", "yes")));
        let first = "version: 1
config:
    - {type: physical, name: e, subnets: [{type: static, address: 192.0.2.10/32, gateway: 198.51.100.1}]}
";
        assert!(on_link(first));
    }

    #[test]
    fn a_card_is_matched_by_its_driver_and_never_by_nothing() {
        let v2 = |which: &str| {
            format!("version: 2\nethernets: {{e: {{match: {which}, dhcp4: true}}}}\n")
        };
        let starts = [
            ("{driver: virtio_net}", "[Match]\nDriver=virtio_net\nType=ether\n"),
            (
                "{driver: [virtio_net, 'vmx*'], name: 'en*'}",
                "[Match]\nName=en*\nDriver=virtio_net vmx*\nType=ether\n",
            ),
        ];
        for (which, start) in starts {
            let files = made(&v2(which));
            assert!(files[0].starts_with(start), "{which}: {files:?}");
        }
        for (which, expected) in [
            (
                "{}",
                "the card \"e\" is matched by nothing; give its macaddress, its name or its driver",
            ),
            ("{driver: []}", "is matched by nothing"),
            (
                "{path: 'pci-0000:02*'}",
                "unknown field `path`, expected one of `macaddress`, `name`, `driver`",
            ),
            ("{name: '!eth0'}", "\"!eth0\" is no name of a card"),
            ("{driver: \"a\\nb\"}", "is no driver"),
        ] {
            let error = links(&v2(which)).unwrap_err().to_string();
            assert!(error.contains(expected), "{which}: {error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let v1 = |config: &str| format!("version: 1\nconfig: [{config}]\n");
        let v2 = |ethernets: &str| format!("version: 2\nethernets: {{{ethernets}}}\n");
        for (text, expected) in [
            ("ethernets: {}".to_owned(), "its version is null; 1 and 2 are understood"),
            (v1("{type: bond, name: bond0}"), "\"bond\" is not understood"),
            (
                v1("{type: physical, name: e, subnets: [{type: static, address: 192.0.2.1}]}"),
                "\"192.0.2.1\" is no address with the length of its prefix",
            ),
            (
                v1("{type: physical, name: e, subnets: [{type: wifi}]}"),
                "\"wifi\" is not understood",
            ),
            (v1("{type: physical, name: \"e\\nx\"}"), "\"e\\nx\" is no name of a card"),
            (v1("{type: physical, name: e, mac_address: '1'}"), "\"1\" is no MAC address"),
            (v2("e: {addresses: [192.0.2.1]}"), "is no address with the length of its prefix"),
            (v2("e: {gateway4: x}"), "\"x\" is no address"),
            (v2("e: {routes: [{to: 10.0.0.0/8}]}"), "\"10.0.0.0/8\" is no route without via"),
            (
                v2("e: {routes: [{to: 10.0.0.0/8, via: 10.0.0.1, table: 9}]}"),
                "\"table\" is not understood",
            ),
            ("version: 2\nvlans: {v: {id: 1, link: e}}".to_owned(), "\"vlans\" is not understood"),
        ] {
            let error = links(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
