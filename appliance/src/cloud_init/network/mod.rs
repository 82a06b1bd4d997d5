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
    via: IpAddr,
    metric: Option<u32>,
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
    match body.get("version").and_then(Value::as_u64) {
        Some(1) => v1::links(body),
        Some(2) => v2::links(body),
        _ => Err(Mistake::Version(body.get("version").cloned().unwrap_or_default())),
    }
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
            ("version: 2\nvlans: {v: {id: 1, link: e}}".to_owned(), "\"vlans\" is not understood"),
        ] {
            let error = links(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
