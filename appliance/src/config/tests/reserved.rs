//! Which addresses may be VIPs and backends, as the file says it.

use super::*;

/// A file in which this VIP and this backend are wanted, with what else has addresses.
fn wanting(vip: &str, backend: &str, more: &str) -> String {
    format!(
        "{MINIMAL}[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = [\"{vip}\"]\n\
         backend = [{{ address = \"{backend}\", port = 1 }}]\n\
         [bgp]\nasn = 64512\nrouter-id = \"10.0.0.2\"\nlisten = [\"10.0.0.4:179\"]\n\
         [[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 64513\nlocal-address = \"10.0.0.2\"\nnext-hop-ipv6 = \"2001:db8::2\"\n\
         [api.tls]\nlisten = \"10.0.0.3:8443\"\ncertificate = \"/c\"\nkey = \"/k\"\nclient-ca = \"/a\"\n{more}"
    )
}

#[test]
fn addresses_that_somebody_has_are_no_vips_and_no_backends() {
    const GOOD: (&str, &str) = ("203.0.113.10", "10.1.0.11");
    const VIPS: &str = "[vips]\nallow = [\"203.0.113.0/24\"]\ndeny = [\"203.0.113.128/25\"]\n";
    const BACKENDS: &str = "[backends]\nallow = [\"10.1.0.0/16\", \"169.254.0.0/16\"]\ntrust = [\"169.254.20.0/24\"]\n";
    for (vip, more, why) in [
        (GOOD.0, VIPS, ""),
        ("10.0.0.1", "", "10.0.0.1 is a BGP peer's; use another address"),
        (
            "10.0.0.2",
            "",
            "10.0.0.2 is the appliance's own (bgp.peer.local-address); use another address",
        ),
        ("10.0.0.3", "", "10.0.0.3 is the appliance's own (api.tls.listen); use another address"),
        ("10.0.0.4", "", "10.0.0.4 is the appliance's own (bgp.listen); use another address"),
        (
            "203.0.113.200",
            VIPS,
            "203.0.113.200 is in 203.0.113.128/25 of vips.deny; use another address",
        ),
        ("8.8.8.8", VIPS, "8.8.8.8 is in no prefix of vips.allow; use another address"),
        ("169.254.1.1", "", "169.254.1.1 is link-local; write an address that is routed"),
        ("0.1.2.3", "", "0.1.2.3 stands for no host; write an address that is routed"),
        ("240.0.0.1", "", "240.0.0.1 stands for many hosts; write an address that is routed"),
    ] {
        let found = parse(&wanting(vip, GOOD.1, more)).err().unwrap_or_default();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        let wanted: Vec<String> = Some(format!("line 7: service.w.vips: {why}"))
            .filter(|_| !why.is_empty())
            .into_iter()
            .collect();
        assert_eq!(found, wanted, "{vip} {more}");
    }
    for (backend, more, why) in [
        (GOOD.1, BACKENDS, ""),
        ("10.0.0.1", "", ""),
        ("169.254.20.10", BACKENDS, ""),
        ("169.254.169.254", BACKENDS, "169.254.169.254 is link-local; use another address"),
        ("10.2.0.1", BACKENDS, "10.2.0.1 is in no prefix of backends.allow; use another address"),
        ("10.0.0.3", "", "10.0.0.3 is the appliance's own (api.tls.listen); use another address"),
        ("0.1.2.3", "", "0.1.2.3 stands for no host; write an address that is routed"),
    ] {
        let found = parse(&wanting(GOOD.0, backend, more)).err().unwrap_or_default();
        let said: Vec<&str> = found.iter().map(|mistake| mistake.message.as_str()).collect();
        assert_eq!(
            said,
            Vec::from_iter(Some(why).filter(|why| !why.is_empty())),
            "{backend} {more}"
        );
    }
}

#[test]
fn sources_are_limited_by_name_and_by_token() {
    let text = format!(
        "{MINIMAL}[[vips.source]]\nname = \"prod\"\nprefixes = [\"203.0.113.0/24\"]\n[api.tls]\n\
         certificate = \"/c\"\nkey = \"/k\"\n[[api.tls.token]]\nname = \"t\"\nfile = \"/t\"\n\
         sources = [\"test\"]\nprefixes = [\"198.51.100.0/24\"]\n[[api.tls.token]]\nname = \"all\"\nfile = \"/u\"\n"
    );
    let limits = parse(&text).unwrap().limits();
    for (source, vip, permitted) in [
        ("prod", "203.0.113.10", true),
        ("prod", "198.51.100.10", false),
        ("test", "198.51.100.10", true),
        ("test", "203.0.113.10", false),
        ("other", "192.0.2.1", true),
    ] {
        assert_eq!(limits.permit(source, vip.parse().unwrap()), permitted, "{source} {vip}");
    }
    for (from, to, wrong) in [
        (
            "prefixes = [\"203.0.113.0/24\"]",
            "",
            "line 3: vips.source[0].prefixes: is missing; add prefixes = [\"203.0.113.0/24\"]",
        ),
        (
            "prefixes = [\"198.51.100.0/24\"]",
            "prefixes = []",
            "line 13: api.tls.token[0].prefixes: is empty; write prefixes like \"203.0.113.0/24\", or leave it out to allow all",
        ),
    ] {
        assert_eq!(mistakes(&text.replace(from, to)), [wrong]);
    }
}
