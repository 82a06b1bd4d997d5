//! Golden tests: what is written, and every word an operator reads about it.

mod nat64;
mod reserved;

use super::*;
use std::time::Duration;

/// The mistakes in a document, one a line.
fn mistakes(text: &str) -> Vec<String> {
    parse(text).expect_err("the document is accepted").iter().map(ToString::to_string).collect()
}

const MINIMAL: &str = "[data-plane]\ninterfaces = [\"eth0\"]\n";

#[test]
fn minimal_takes_the_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/sluice"));
    assert_eq!(config.api_listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.data_plane.pin_dir, PathBuf::from("/sys/fs/bpf/sluice"));
    assert_eq!(config.data_plane.max_flows, None);
    assert_eq!(config.bgp, None);
    assert!(config.services.is_empty() && !config.name.is_empty());
}

#[test]
fn the_example_is_accepted() {
    let config = parse(include_str!("../../sluice.example.toml")).unwrap();
    assert!(config.bgp.is_some());
    let probes: Vec<_> =
        config.services.iter().map(|s| s.health.as_ref().map(|h| &h.probe)).collect();
    assert!(probes.iter().any(|p| matches!(p, Some(sluice_model::Probe::HttpGet { .. }))));
    assert!(config.services.iter().any(|s| s.vips.len() == 2));
}

#[test]
fn every_key_of_the_example_does_something() {
    // Commented-out keys are documentation too: with the comment signs gone, each must still be known.
    let text = include_str!("../../sluice.example.toml");
    let optional: Vec<&str> =
        text.lines().filter(|line| line.starts_with("#") && line.contains(" = ")).collect();
    assert!(optional.len() >= 5, "the example shows the optional keys: {optional:?}");
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if line.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    parse(&uncommented).unwrap();
}

#[test]
fn five_mistakes_are_five_messages() {
    let text = r#"nmae = "edge-1"
[api]
listen = "0.0.0.0:8080"
[data-plane]
interfaces = ["eth*"]
[[service]]
name = "web"
vips = ["203.0.113.10/24"]
port = "80"
protocol = "quic"
"#;
    assert_eq!(
        mistakes(text),
        [
            "line 1: nmae: unknown key; write name",
            "line 3: api.listen: 0.0.0.0:8080 can be reached from outside, which needs TLS; write \"127.0.0.1:8080\" and, for others, [api.tls]",
            "line 8: service.web.vips: 203.0.113.10/24 is not an address; write 203.0.113.10",
            "line 9: service.web.port: \"80\" is text; write 80 without quotes",
            "line 10: service.web.protocol: \"quic\" is not known; write \"tcp\", \"udp\" or \"sctp\"",
        ]
    );
}

#[test]
fn syntax_mistakes_come_with_the_others() {
    let text = "[data-plane]\nattach = \"fast\n[bgp]\nasn = = 1\nhold = 1\n";
    let found = mistakes(text);
    let starts = ["line 2: not TOML: ", "line 4: not TOML: ", "line 5: bgp.hold: unknown key; "];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
}

#[test]
fn what_is_missing_is_said_where_it_belongs() {
    let text = format!(
        "{MINIMAL}[bgp]\n[[bgp.peer]]\n[[service]]\n[service.health]\n[[service.backend]]\n"
    );
    assert_eq!(
        mistakes(&text),
        [
            "line 3: bgp.asn: is missing; add asn = 64512",
            "line 3: bgp.router-id: is missing; add router-id = \"10.0.0.2\"",
            "line 4: bgp.peer[0].address: is missing; add address = \"10.0.0.1\"",
            "line 4: bgp.peer[0].asn: is missing; add asn = 64513",
            "line 5: service[0].name: is missing; add name = \"web\"",
            "line 5: service[0].port: is missing; add port = 80",
            "line 5: service[0].protocol: is missing; add protocol = \"tcp\"",
            "line 5: service[0].vips: is missing; add vips = [\"203.0.113.10\"]",
            "line 6: service[0].health.type: is missing; add type = \"http\"",
            "line 7: service[0].backend[0].address: is missing; add address = \"10.1.0.11\"",
            "line 7: service[0].backend[0].port: is missing; add port = 8080",
        ]
    );
    assert_eq!(
        mistakes(""),
        ["line 1: data-plane: is missing; add [data-plane] with interfaces = [\"eth*\"]"]
    );
}

#[test]
fn clashes_name_both_lines() {
    let text = format!(
        r#"{MINIMAL}[[service]]
name = "web"
vips = ["203.0.113.10", "203.0.113.11"]
port = 80
protocol = "tcp"
backend = [
  {{ address = "10.1.0.1", port = 80 }},
  {{ address = "10.1.0.1", port = 80, weight = 3 }},
  {{ address = "2001:db8::1", port = 80 }},
  {{ address = "203.0.113.11", port = 80 }},
]
[[service]]
name = "web"
vips = ["203.0.113.11"]
port = 80
protocol = "tcp"
[[service]]
name = "dns"
vips = ["203.0.113.11"]
port = 80
protocol = "udp"
"#
    );
    assert_eq!(
        mistakes(&text),
        [
            "line 10: service.web.backend: 10.1.0.1:80 is also on line 9; write it once",
            "line 11: service.web.backend: 2001:db8::1 would never be used: the service has no IPv6 VIP; add one or remove the backend",
            "line 12: service.web.backend: 203.0.113.11 is a VIP of the service on line 19; write the address of a server",
            "line 15: service.web.name: the service on line 4 has this name; choose another",
            "line 16: service.web.vips: 203.0.113.11:80/tcp belongs to service web on line 5; give one of them another VIP, port or protocol",
        ]
    );
}

/// One wrong line in a document that is right otherwise.
#[test]
fn single_mistakes() {
    let cases = [
        (
            "api.listen",
            "[api]\nlisten = 8080",
            "8080 is not an address with a port; write \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
        (
            "api.listen",
            "[api]\nlisten = \"127.0.0.1\"",
            "\"127.0.0.1\" has no port; write \"127.0.0.1:8080\"",
        ),
        ("api", "api = 3", "is a number, not a table; write [api]"),
        ("state-dir", "state-dir = \"x/y\"", "\"x/y\" is not an absolute path; write /x/y"),
        (
            "bgp.asn",
            "[bgp]\nrouter-id = \"10.0.0.1\"\nasn = 0",
            "0 is out of range; write a number from 1 to 4294967295",
        ),
        (
            "bgp.asn",
            "[bgp]\nrouter-id = \"10.0.0.1\"\nasn = 23456",
            "23456 is reserved; write your own AS number, or a private one from 64512 to 65534",
        ),
        (
            "bgp.router-id",
            "[bgp]\nasn = 1\nrouter-id = \"2001:db8::1\"",
            "2001:db8::1 is an IPv6 address; write an IPv4 address like 10.0.0.2",
        ),
        (
            "bgp.graceful-restart",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\ngraceful-restart = 120",
            "120 has no unit; write \"120s\"",
        ),
        (
            "bgp.graceful-restart",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\ngraceful-restart = \"2h\"",
            "\"2h\" is out of range; write from \"0s\" to \"4095s\"",
        ),
        (
            "bgp.peer[10.0.0.1].hold-time",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\n[[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 2\nhold-time = \"2s\"",
            "\"2s\" is too short; write \"0s\" for none, or at least \"3s\"",
        ),
        (
            "bgp.peer[10.0.0.1].passive",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\nlisten = []\n[[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 2\npassive = true",
            "a passive peer needs somebody who listens; give [bgp] a listen address or write false",
        ),
        (
            "bgp.peer[10.0.0.1].local-address",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\n[[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 2\nlocal-address = \"2001:db8::2\"",
            "the peer's address is of the other family; write an IPv4 address",
        ),
        (
            "bgp.peer",
            "[bgp]\nasn = 1\nrouter-id = \"10.0.0.1\"\n[bgp.peer]\naddress = \"10.0.0.1\"",
            "is a list of tables; write [[bgp.peer]]",
        ),
        (
            "service.w.vips",
            "[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = []",
            "is empty; write vips = [\"203.0.113.10\"]",
        ),
        (
            "service.w.vips",
            "[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = \"203.0.113.10\"",
            "is text, not a list; write vips = [ … ]",
        ),
        (
            "service.w.vips",
            "[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = [\"127.0.0.1\"]",
            "127.0.0.1 is a loopback address; write an address that is routed",
        ),
        (
            "service.w.vips",
            "[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = [\"::ffff:203.0.113.10\"]",
            "\"::ffff:203.0.113.10\" is an IPv4 address in disguise; write 203.0.113.10",
        ),
        (
            "service.w.vips",
            "[[service]]\nname = \"w\"\nport = 1\nprotocol = \"tcp\"\nvips = [\"203.0.113.10\", \"203.0.113.10\"]",
            "203.0.113.10 is also on line 7; write it once",
        ),
        (
            "service.w.port",
            "[[service]]\nname = \"w\"\nprotocol = \"tcp\"\nvips = [\"203.0.113.10\"]\nport = 65536",
            "65536 is out of range; write a number from 1 to 65535",
        ),
        (
            "service[0].name",
            "[[service]]\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nname = \"a b\"",
            "\"a b\" has characters other than letters, digits, - _ . /; write \"a-b\"",
        ),
        (
            "service.w.source-ranges",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nsource-ranges = [\"10.0.0.5/24\"]",
            "10.0.0.5/24 has bits beyond its length; write \"10.0.0.0/24\"",
        ),
        (
            "service.w.full-nat",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nfull-nat = [\"pods\"]",
            "\"pods\" is not a prefix; write one like \"10.0.0.0/8\" or \"2001:db8::/32\"",
        ),
        (
            "service.w.affinity",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\naffinity = 3",
            "3 has no unit; write \"3s\"",
        ),
        (
            "service.w.route.communities",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nroute = { communities = [\"70000:1\"] }",
            "\"70000:1\" is not a community; write \"64512:100\" (numbers up to 65535) or \"64512:1:2\"",
        ),
        (
            "service.w.health.path",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nhealth = { type = \"tcp\", path = \"/x\" }",
            "only an HTTP check has this; write type = \"http\" or leave path out",
        ),
        (
            "service.w.health.status",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nhealth = { type = \"http\", status = \"299-200\" }",
            "\"299-200\" runs backwards; write \"200-299\"",
        ),
        (
            "service.w.health.timeout",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nhealth = { type = \"tcp\", timeout = \"1 day\" }",
            "\"1 day\" is not a time; write a number with ms, s, m or h, like \"500ms\" or \"30s\"",
        ),
        (
            "service.w.health.interval",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nhealth = { type = \"tcp\", interval = \"10ms\" }",
            "\"10ms\" is out of range; write from \"100ms\" to \"1h\"",
        ),
        (
            "service.w.backend[0].wieght",
            "[[service]]\nname = \"w\"\nvips = [\"203.0.113.10\"]\nport = 1\nprotocol = \"tcp\"\nbackend = [{ address = \"10.0.0.1\", port = 1, wieght = 1 }]",
            "unknown key; write weight",
        ),
    ];
    for (at, lines, message) in cases {
        // Keys of the top table must come before the first header.
        let top = !lines.starts_with('[');
        let text = if top { format!("{lines}\n{MINIMAL}") } else { format!("{MINIMAL}{lines}\n") };
        let count = lines.lines().count();
        let line = if top { count } else { count + 2 };
        let line = if message.starts_with("is a list of tables") { line - 1 } else { line };
        assert_eq!(mistakes(&text), [format!("line {line}: {at}: {message}")], "{text}");
    }
}

#[test]
fn an_unknown_key_that_resembles_none_is_answered_with_all() {
    let text = "[data-plane]\ninterfaces = [\"eth0\"]\nzzzzzz = 1\n";
    let message = "unknown key; known keys: interfaces, attach, pin-dir, max-flows, nat64-source";
    assert_eq!(mistakes(text), [format!("line 3: data-plane.zzzzzz: {message}")]);
}

#[test]
fn a_service_becomes_what_was_written() {
    let text = format!(
        r#"{MINIMAL}[[service]]
name = "web"
vips = ["2001:db8:113::10", "203.0.113.10"]
port = 80
protocol = "udp"
no-backend = "drop"
[service.health]
type = "http"
status = 204
interval = "250ms"
port = 8081
[[service.backend]]
address = "10.1.0.12"
port = 8080
weight = 0
[[service.backend]]
address = "10.1.0.11"
port = 8080
"#
    );
    let service = parse(&text).unwrap().services.remove(0);
    assert_eq!(service.idle_timeout, Duration::from_secs(60));
    assert_eq!(service.no_backend, sluice_model::NoBackend::Drop);
    assert_eq!(service.on_down, sluice_model::OnDown::Reset, "UDP has no end that would be seen");
    let weights: Vec<_> =
        service.backends.iter().map(|b| (b.address.to_string(), b.weight)).collect();
    assert_eq!(weights, [("10.1.0.11:8080".to_owned(), 1), ("10.1.0.12:8080".to_owned(), 0)]);
    let check = service.health.unwrap();
    assert_eq!((check.interval, check.port), (Duration::from_millis(250), Some(8081)));
    let sluice_model::Probe::HttpGet { path, status, .. } = check.probe else { panic!("not HTTP") };
    assert_eq!((path.as_str(), status.first, status.last), ("/", 204, 204));
}

/// A service of SCTP with two addresses, and what else it has.
fn associations(lines: &str) -> String {
    format!(
        "{MINIMAL}[[service]]\nname = \"amf\"\nvips = [\"203.0.113.38\"]\nport = 38412\nprotocol = \"sctp\"\n{lines}\n"
    )
}

#[test]
fn connections_outlast_a_failed_probe_unless_told_otherwise() {
    use sluice_model::OnDown::{Drain, Reset};
    for (protocol, line, wanted) in [
        ("tcp", "", Drain),
        ("sctp", "", Drain),
        ("udp", "", Reset),
        ("tcp", "on-down = \"reset\"", Reset),
        ("udp", "on-down = \"drain\"", Drain),
    ] {
        let service = associations(line).replace("sctp", protocol);
        assert_eq!(parse(&service).unwrap().services[0].on_down, wanted, "{protocol} {line}");
    }
    let wrong = mistakes(&associations("on-down = \"keep\""));
    assert!(wrong[0].contains("service.amf.on-down"), "{wrong:?}");
}

#[test]
fn sctp_has_secondary_addresses() {
    let service =
        parse(&associations("secondary-vips = [\"203.0.113.39\"]")).unwrap().services.remove(0);
    assert_eq!(service.idle_timeout, Duration::from_secs(210));
    let frontends: Vec<String> = service.frontends().map(|f| f.to_string()).collect();
    assert_eq!(frontends, ["203.0.113.38:38412/sctp", "203.0.113.39:38412/sctp"]);
    assert!(service.is_multihomed());
    assert!(!parse(&associations("")).unwrap().services[0].is_multihomed());
    let checked = associations("health = { type = \"tcp\", port = 8080 }");
    assert!(parse(&checked).unwrap().services[0].health.is_some());
}

#[test]
fn what_does_not_go_with_secondary_addresses_is_said() {
    let with = |more: &str| format!("secondary-vips = [\"203.0.113.39\"]\n{more}");
    for (lines, wrong) in [
        (
            "secondary-vips = [\"203.0.113.38\"]".to_owned(),
            "line 8: service.amf.secondary-vips: 203.0.113.38 is also on line 5; write it once",
        ),
        (
            "secondary-vips = [\"2001:db8::39\"]".to_owned(),
            "line 8: service.amf.secondary-vips: 2001:db8::39 is second to nothing: the service has no IPv6 VIP; add \
             one or leave it out",
        ),
        (
            "secondary-vips = [\"203.0.113.1\", \"203.0.113.2\", \"203.0.113.3\", \"203.0.113.4\"]"
                .to_owned(),
            "line 8: service.amf.secondary-vips: more than 3 addresses; leave 203.0.113.4 out",
        ),
        (
            with("affinity = \"3h\""),
            "line 9: service.amf.affinity: a client of several addresses has no single one to be known by; leave \
             affinity or secondary-vips out",
        ),
        (
            with("full-nat = [\"10.0.0.0/8\"]"),
            "line 9: service.amf.full-nat: backends would take a client's addresses for several clients; leave \
             full-nat or secondary-vips out",
        ),
        (
            "health = { type = \"tcp\" }".to_owned(),
            "line 8: service.amf.health: no server answers TCP at a port of SCTP; add port = 8080 of one that does, or \
             leave the health check out",
        ),
    ] {
        assert_eq!(mistakes(&associations(&lines)), [wrong]);
    }
    let tcp = associations("secondary-vips = [\"203.0.113.39\"]").replace("sctp", "tcp");
    assert_eq!(
        mistakes(&tcp),
        [
            "line 8: service.amf.secondary-vips: only clients of SCTP use several addresses; write protocol = \"sctp\" or \
          leave them out"
        ]
    );
    let nat64 = associations(
        "secondary-vips = [\"2001:db8::39\"]\nbackend = [{ address = \"10.1.0.1\", port = 38412 }]",
    );
    let nat64 = nat64
        .replace("\"203.0.113.38\"", "\"2001:db8::38\"")
        .replace("[data-plane]", "[data-plane]\nnat64-source = \"10.0.0.2\"");
    assert_eq!(
        mistakes(&nat64),
        [
            "line 9: service.amf.secondary-vips: with IPv4 backends alone behind an IPv6 VIP they would take a client's \
          addresses for several clients; add IPv6 backends or leave them out"
        ]
    );
}

proptest::proptest! {
    /// A configuration file can never panic the process.
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _outcome = parse(&text).map_err(|mistakes| mistakes.len());
    }

    #[test]
    fn no_mutation_of_the_example_panics(at in 0usize..6000, cut in 0usize..40, put in ".{0,6}") {
        let mut text: Vec<char> = include_str!("../../sluice.example.toml").chars().collect();
        let start = at.min(text.len());
        let end = (start + cut).min(text.len());
        text.splice(start..end, put.chars());
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(config) => proptest::prop_assert!(config.data_plane.interfaces.includes_any()),
            Err(mistakes) => proptest::prop_assert!(!mistakes.is_empty()),
        }
    }
}
