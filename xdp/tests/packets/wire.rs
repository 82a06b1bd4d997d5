//! Packets as values: built, changed field by field, and turned into bytes with full checksums.
//!
//! Nothing here is shared with the program under test. Expected packets are made by changing the
//! fields of what was sent and building again, so a comparison of bytes verifies every checksum
//! against one computed over the whole packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// A frame from Ethernet to payload.
#[derive(Clone, Debug)]
pub struct Packet {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// Tags from the outside in: (TPID, TCI).
    pub vlans: Vec<(u16, u16)>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// IPv4 identification, or that of the IPv6 fragment header.
    pub id: u32,
    /// IPv4 only.
    pub dont_fragment: bool,
    pub fragment: Option<Fragment>,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: (type, body after next-header and length, 6 + 8 n bytes).
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub body: Body,
    /// Bytes after the IP packet, such as Ethernet padding.
    pub trailer: Vec<u8>,
}

/// Offset in bytes, multiple of 8.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub offset: u16,
    pub more: bool,
}

#[derive(Clone, Debug)]
pub enum Body {
    Tcp(Tcp),
    Udp(Udp),
    Sctp(Sctp),
    /// Both ICMPs; the address family says which.
    Icmp(Icmp),
    Raw(u8, Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    /// False: the field is zero, "no checksum" (RFC 768).
    pub checksum: bool,
    pub data: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Sctp {
    pub source: u16,
    pub destination: u16,
    pub tag: u32,
    pub chunks: Vec<Chunk>,
}

/// Filled up to a multiple of four octets, and its length the right one.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub kind: u8,
    pub flags: u8,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    /// The four bytes after the checksum.
    pub rest: [u8; 4],
    pub data: Vec<u8>,
}

// === impl Packet ===

impl Packet {
    pub fn new(source: IpAddr, destination: IpAddr, body: Body) -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            vlans: Vec::new(),
            source,
            destination,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            body,
            trailer: Vec::new(),
        }
    }

    pub fn tcp(source: (IpAddr, u16), destination: (IpAddr, u16), flags: u8) -> Self {
        Self::new(
            source.0,
            destination.0,
            Body::Tcp(Tcp {
                source: source.1,
                destination: destination.1,
                sequence: 0x0102_0304,
                acknowledgment: if flags & ACK == 0 { 0 } else { 0x1112_1314 },
                flags,
                window: 64240,
                options: Vec::new(),
                data: if flags & SYN == 0 { b"GET / HTTP/1.1\r\n".to_vec() } else { Vec::new() },
            }),
        )
    }

    pub fn udp(source: (IpAddr, u16), destination: (IpAddr, u16), data: &[u8]) -> Self {
        Self::new(
            source.0,
            destination.0,
            Body::Udp(Udp {
                source: source.1,
                destination: destination.1,
                checksum: true,
                data: data.to_vec(),
            }),
        )
    }

    pub fn sctp(source: (IpAddr, u16), destination: (IpAddr, u16), chunks: &[Chunk]) -> Self {
        let is_init = chunks.first().is_some_and(|chunk| chunk.kind == Chunk::INIT);
        Self::new(
            source.0,
            destination.0,
            Body::Sctp(Sctp {
                source: source.1,
                destination: destination.1,
                tag: if is_init { 0 } else { 0x2122_2324 },
                chunks: chunks.to_vec(),
            }),
        )
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn tcp_mut(&mut self) -> &mut Tcp {
        match &mut self.body {
            Body::Tcp(tcp) => tcp,
            other => panic!("not TCP: {other:?}"),
        }
    }

    pub fn udp_mut(&mut self) -> &mut Udp {
        match &mut self.body {
            Body::Udp(udp) => udp,
            other => panic!("not UDP: {other:?}"),
        }
    }

    pub fn sctp_mut(&mut self) -> &mut Sctp {
        match &mut self.body {
            Body::Sctp(sctp) => sctp,
            other => panic!("not SCTP: {other:?}"),
        }
    }

    pub fn set_source(&mut self, (address, port): (IpAddr, u16)) {
        self.source = address;
        match &mut self.body {
            Body::Tcp(tcp) => tcp.source = port,
            Body::Udp(udp) => udp.source = port,
            Body::Sctp(sctp) => sctp.source = port,
            other => panic!("no ports: {other:?}"),
        }
    }

    pub fn set_destination(&mut self, (address, port): (IpAddr, u16)) {
        self.destination = address;
        match &mut self.body {
            Body::Tcp(tcp) => tcp.destination = port,
            Body::Udp(udp) => udp.destination = port,
            Body::Sctp(sctp) => sctp.destination = port,
            other => panic!("no ports: {other:?}"),
        }
    }

    /// The whole frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for (tpid, tci) in &self.vlans {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.ip_bytes());
        frame.extend(&self.trailer);
        frame
    }

    /// From the IP header on, without trailer: what ICMP errors quote.
    pub fn ip_bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(source, destination),
            mixed => panic!("mixed families: {mixed:?}"),
        }
    }

    fn protocol(&self) -> u8 {
        match &self.body {
            Body::Tcp(_) => TCP,
            Body::Udp(_) => UDP,
            Body::Sctp(_) => SCTP,
            Body::Icmp(_) if self.source.is_ipv4() => ICMP,
            Body::Icmp(_) => ICMPV6,
            Body::Raw(protocol, _) => *protocol,
        }
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        assert!(self.extensions.is_empty() && self.options.len().is_multiple_of(4));
        let body = self.body_bytes();
        let header_bytes = 20 + self.options.len();
        let fragment =
            self.fragment.map_or(0, |f| (f.offset / 8) | if f.more { 0x2000 } else { 0 });
        let flags = fragment | if self.dont_fragment { 0x4000 } else { 0 };
        let mut header = vec![0x40 | (header_bytes / 4) as u8, self.tos];
        header.extend(((header_bytes + body.len()) as u16).to_be_bytes());
        header.extend((self.id as u16).to_be_bytes());
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        header.extend(body);
        header
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        assert!(self.options.is_empty());
        let mut extensions = self.extensions.clone();
        if let Some(fragment) = self.fragment {
            let offset = fragment.offset | u16::from(fragment.more);
            let mut body = offset.to_be_bytes().to_vec();
            body.extend(self.id.to_be_bytes());
            extensions.push((44, body));
        }
        let mut payload = Vec::new();
        for (index, (_, body)) in extensions.iter().enumerate() {
            assert_eq!(body.len() % 8, 6, "extension headers are multiples of eight bytes");
            payload.push(extensions.get(index + 1).map_or(self.protocol(), |next| next.0));
            // The fragment header has a reserved byte where others have their length (RFC 8200, 4.5).
            payload.push((body.len() / 8) as u8);
            payload.extend(body);
        }
        payload.extend(self.body_bytes());
        let mut packet = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.push(extensions.first().map_or(self.protocol(), |first| first.0));
        packet.push(self.ttl);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(payload);
        packet
    }

    fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Tcp(tcp) => self.summed(tcp.bytes(), 16),
            Body::Udp(udp) if udp.checksum => {
                let mut bytes = self.summed(udp.bytes(), 6);
                // Zero means "none", so the other zero of ones' complement is sent (RFC 768).
                if bytes[6..8] == [0, 0] {
                    bytes[6..8].fill(0xff);
                }
                bytes
            }
            Body::Udp(udp) => udp.bytes(),
            Body::Sctp(sctp) => sctp.bytes(),
            Body::Icmp(icmp) => self.summed(icmp.bytes(), 2),
            Body::Raw(_, bytes) => bytes.clone(),
        }
    }

    /// Puts the checksum over pseudo header (not for ICMP over IPv4) and `bytes` at `at`.
    fn summed(&self, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        let mut covered = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) if self.protocol() != ICMP => {
                covered.extend(source.octets());
                covered.extend(destination.octets());
                covered.extend([0, self.protocol()]);
                covered.extend((bytes.len() as u16).to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                covered.extend(source.octets());
                covered.extend(destination.octets());
                covered.extend((bytes.len() as u32).to_be_bytes());
                covered.extend([0, 0, 0, self.protocol()]);
            }
            _ => {}
        }
        covered.extend(&bytes);
        bytes[at..at + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
        bytes
    }
}

impl Tcp {
    fn bytes(&self) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4));
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        bytes
    }
}

impl Udp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend((8 + self.data.len() as u16).to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(&self.data);
        bytes
    }
}

impl Sctp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        for chunk in &self.chunks {
            bytes.extend([chunk.kind, chunk.flags]);
            bytes.extend((4 + chunk.value.len() as u16).to_be_bytes());
            bytes.extend(&chunk.value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let sum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
        bytes
    }
}

impl Chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;

    pub fn new(kind: u8, value: &[u8]) -> Self {
        Self { kind, flags: 0, value: value.to_vec() }
    }

    /// An INIT (or INIT ACK) with this tag: window, streams and first number behind it.
    pub fn init(kind: u8, tag: u32) -> Self {
        let rest = [0, 1, 0, 0, 0, 10, 0, 10, 1, 2, 3, 4];
        Self::new(kind, &[&tag.to_be_bytes()[..], &rest].concat())
    }

    /// User data behind its number, stream and protocol.
    pub fn data(data: &[u8]) -> Self {
        Self { flags: 3, ..Self::new(Self::DATA, &[&[1; 12][..], data].concat()) }
    }
}

impl Icmp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.code, 0, 0];
        bytes.extend(self.rest);
        bytes.extend(&self.data);
        bytes
    }
}

/// Where an untagged frame with ports and no options or extension headers goes.
pub fn destination(frame: &[u8]) -> SocketAddr {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    match port(12) {
        0x0800 => {
            let octets: [u8; 4] = frame[30..34].try_into().unwrap();
            (IpAddr::from(octets), port(36)).into()
        }
        0x86dd => {
            let octets: [u8; 16] = frame[38..54].try_into().unwrap();
            (IpAddr::from(octets), port(56)).into()
        }
        other => panic!("ethertype {other:#06x}"),
    }
}

/// RFC 1071, the slow and obvious way.
pub fn checksum(bytes: &[u8]) -> u16 {
    let sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded >> 16) + (folded & 0xffff);
    }
    !(folded as u16)
}

/// RFC 9260 appendix A, the slow and obvious way. It goes into a packet with its lowest octet first.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The check value that catalogues of CRCs give.
#[test]
fn crc32c_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

/// RFC 1071's own example, and a header whose checksum is widely published.
#[test]
fn the_checksum_is_right() {
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    let packet = Packet::new(
        "192.168.0.1".parse().unwrap(),
        "192.168.0.199".parse().unwrap(),
        Body::Raw(UDP, vec![0; 95]),
    )
    .with(|p| p.id = 0);
    let bytes = packet.ip_bytes();
    assert_eq!(bytes[..4], [0x45, 0, 0, 0x73]);
    assert_eq!(bytes[10..12], [0xb8, 0x61]);
    assert_eq!(checksum(&bytes[..20]), 0);
}
