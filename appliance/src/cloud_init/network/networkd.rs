//! systemd.network(5).

use super::Link;
use std::fmt::{self, Write as _};

/// The file for a card.
pub(super) fn file(link: &Link) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = write(&mut text, link);
    text
}

fn write(text: &mut String, link: &Link) -> fmt::Result {
    writeln!(text, "[Match]")?;
    if let Some(mac) = &link.mac {
        writeln!(text, "MACAddress={mac}")?;
    }
    if let Some(name) = &link.name {
        writeln!(text, "Name={name}")?;
    }
    if let Some(driver) = &link.driver {
        writeln!(text, "Driver={driver}")?;
    }
    writeln!(text, "Type=ether")?;
    if let Some(mtu) = link.mtu {
        writeln!(text, "\n[Link]\nMTUBytes={mtu}")?;
    }
    let dhcp = match (link.dhcp4, link.dhcp6) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    writeln!(text, "\n[Network]\nDHCP={dhcp}")?;
    if let Some(accepts) = link.accept_ra {
        writeln!(text, "IPv6AcceptRA={}", if accepts { "yes" } else { "no" })?;
    }
    for address in &link.addresses {
        writeln!(text, "Address={address}")?;
    }
    for server in &link.dns {
        writeln!(text, "DNS={server}")?;
    }
    if !link.domains.is_empty() {
        writeln!(text, "Domains={}", link.domains.join(" "))?;
    }
    for route in &link.routes {
        writeln!(text, "\n[Route]")?;
        if let Some(to) = &route.to {
            writeln!(text, "Destination={to}")?;
        }
        match route.via {
            Some(via) => writeln!(text, "Gateway={via}")?,
            None => writeln!(text, "Scope=link")?,
        }
        if route.on_link {
            writeln!(text, "GatewayOnLink=yes")?;
        }
        if let Some(metric) = route.metric {
            writeln!(text, "Metric={metric}")?;
        }
    }
    // As in the image's default: the machine's identity is made anew at each boot, its cards are not.
    writeln!(
        text,
        "\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n\n[DHCPv6]\nDUIDType=link-layer"
    )
}
