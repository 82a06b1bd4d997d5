//! What SCTP is particular about in a bridge's words: several addresses, and health checks that speak something else.

use sluice_api::{MAX_SECONDARY_VIPS, Protocol, WantedService};
use sluice_model::Family;
use std::net::IpAddr;

/// What does not go together with SCTP, or with secondary addresses, in a sentence.
pub(super) fn check(
    wanted: &WantedService,
    vips: &[IpAddr],
    secondary: &[IpAddr],
) -> Result<(), String> {
    let is_sctp = wanted.protocol == Protocol::Sctp;
    if is_sctp && wanted.health.as_ref().is_some_and(|health| health.port.is_none()) {
        return Err("no server answers TCP at a port of SCTP; its health check needs another port"
            .to_owned());
    }
    if secondary.is_empty() {
        return Ok(());
    }
    if !is_sctp {
        return Err(format!("secondary addresses are for sctp, and this is {}", wanted.protocol));
    }
    if secondary.len() > MAX_SECONDARY_VIPS {
        return Err(format!("it has more than {MAX_SECONDARY_VIPS} secondary addresses"));
    }
    let is_second = |address: &&IpAddr| {
        !vips.contains(address) && vips.iter().any(|vip| Family::of(*vip) == Family::of(**address))
    };
    if let Some(stray) = secondary.iter().find(|address| !is_second(address)) {
        return Err(format!(
            "the secondary address {stray} has no other VIP of its family to be second to"
        ));
    }
    for (is_asked, name) in [
        (wanted.affinity_seconds.is_some(), "affinity"),
        (wanted.full_nat, "full NAT"),
        (wanted.nat64, "NAT64"),
    ] {
        if is_asked {
            return Err(format!(
                "{name} knows a client by one address, and secondary addresses are for clients of several"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::WantedHealth;

    #[test]
    fn each_contradiction_is_named() {
        type Spoil = fn(&mut WantedService);
        let good = WantedService { protocol: Protocol::Sctp, ..WantedService::default() };
        let ips =
            |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let (vips, one) = (ips(&["192.0.2.1"]), ips(&["192.0.2.2"]));
        assert_eq!(check(&good, &vips, &one), Ok(()));
        let spoils: [(&str, Spoil); 5] = [
            ("this is tcp", |w| w.protocol = Protocol::Tcp),
            ("affinity", |w| w.affinity_seconds = Some(9)),
            ("full NAT", |w| w.full_nat = true),
            ("NAT64", |w| w.nat64 = true),
            ("another port", |w| w.health = Some(WantedHealth::default())),
        ];
        for (word, spoil) in spoils {
            let mut wanted = good.clone();
            spoil(&mut wanted);
            let why = check(&wanted, &vips, &one).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
        for (secondary, word) in [
            (ips(&["2001:db8::2"]), "2001:db8::2"),
            (vips.clone(), "192.0.2.1"),
            (ips(&["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]), "more than 3"),
        ] {
            let why = check(&good, &vips, &secondary).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
    }
}
