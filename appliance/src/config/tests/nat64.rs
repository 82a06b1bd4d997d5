//! NAT64 in the file.

use super::*;

/// An IPv6 VIP with IPv4 backends, and what else the service has.
fn nat64(setting: &str, vips: &str, backends: &str) -> String {
    format!(
        "{MINIMAL}{setting}\n[[service]]\nname = \"web\"\nvips = [{vips}]\nport = 80\nprotocol = \"tcp\"\n\
         backend = [{backends}]\n"
    )
}

#[test]
fn ipv6_vips_reach_ipv4_backends_with_a_source_alone() {
    const SOURCE: &str = "nat64-source = \"10.0.0.2\"";
    const V4: &str = "{ address = \"10.1.0.1\", port = 80 }";
    const V6: &str = "{ address = \"2001:db8:1::1\", port = 80 }";
    let (vip6, both_vips) = ("\"2001:db8::1\"", "\"2001:db8::1\", \"203.0.113.1\"");
    let both = format!("{V4}, {V6}");
    let is_nat64 = |setting, vips, backends| {
        parse(&nat64(setting, vips, backends)).map(|config| config.services[0].nat64)
    };
    assert_eq!(is_nat64(SOURCE, vip6, V4), Ok(true));
    assert_eq!(is_nat64(SOURCE, both_vips, V4), Ok(true));
    assert_eq!(is_nat64(SOURCE, both_vips, &both), Ok(false), "each its own");
    assert_eq!(is_nat64(SOURCE, vip6, ""), Ok(false));
    assert_eq!(is_nat64("", both_vips, V4), Ok(false), "the IPv4 VIP is served");
    for (setting, vips, backends, wrong) in [
        (
            "",
            vip6,
            V4,
            "line 9: service.web.backend: 10.1.0.1 would never be used: the service has no IPv4 VIP; add one, or set \
             nat64-source in [data-plane] to translate from the IPv6 VIP",
        ),
        (
            SOURCE,
            vip6,
            &both,
            "line 9: service.web.backend: 10.1.0.1 would never be used: the service has no IPv4 VIP; add one or remove \
             the backend",
        ),
        (
            SOURCE,
            "\"203.0.113.1\"",
            V6,
            "line 9: service.web.backend: 2001:db8:1::1 would never be used: the service has no IPv6 VIP; add one or \
             remove the backend",
        ),
        (
            SOURCE,
            "\"10.0.0.2\"",
            V4,
            "line 6: service.web.vips: 10.0.0.2 is the appliance's own (data-plane.nat64-source); use another address",
        ),
        (
            "nat64-source = \"2001:db8::2\"",
            "\"203.0.113.1\"",
            V4,
            "line 3: data-plane.nat64-source: 2001:db8::2 is IPv6; write an IPv4 address",
        ),
    ] {
        assert_eq!(mistakes(&nat64(setting, vips, backends)), [wrong]);
    }
}
