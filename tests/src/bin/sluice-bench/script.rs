//! Frames for the bench programs to vary.

use std::net::{IpAddr, SocketAddr};

use sluice_tests::bpf::shared::{FRAME_BYTES, Script};

/// Length of an IPv4 frame; the bench programs know it too.
const SHORT_FRAME_BYTES: usize = 64;
const ETHERNET_BYTES: usize = 14;

/// What kind of packet towards whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) protocol: Protocol,
    /// Address of flow 0; others count up from it.
    pub(crate) client: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source_mac: [u8; 6],
    /// Packets after which flow numbers start again; 0: every packet is a new flow.
    pub(crate) flows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// With ACK.
    Tcp,
    /// With SYN.
    TcpSyn,
    Udp,
}

// === impl Stream ===

impl Stream {
    /// Bytes of a frame of this stream.
    pub(crate) fn frame_bytes(&self) -> usize {
        if self.client.is_ipv4() { SHORT_FRAME_BYTES } else { FRAME_BYTES }
    }

    /// The script without what concerns the far end.
    pub(crate) fn script(&self) -> Script {
        let mut frame = vec![0u8; FRAME_BYTES];
        let (transport, pseudo, client) = self.write_ip(&mut frame);
        frame[..6].copy_from_slice(&self.destination_mac);
        frame[6..12].copy_from_slice(&self.source_mac);
        self.write_transport(&mut frame[transport..self.frame_bytes()]);
        let transport_sum = pseudo + sum(&frame[transport..self.frame_bytes()]);
        let mut words = [0u64; FRAME_BYTES / 8];
        for (word, bytes) in words.iter_mut().zip(frame.chunks(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Script {
            frame: words,
            flows: self.flows,
            client,
            family: if self.client.is_ipv4() { 4 } else { 6 },
            ip_sum: sum(&frame[ETHERNET_BYTES..transport]),
            transport_sum,
            transport_sum_offset: (transport + self.checksum_at()) as u32,
            out_link_index: 0,
            wanted_destination: 0,
            wanted_port: 0,
            limit_link_index: 0,
            out_macs: [0; 6],
        }
    }

    /// Returns where the transport header starts, the sum of the pseudo header without the client's
    /// low bits, and those.
    fn write_ip(&self, frame: &mut [u8]) -> (usize, u32, u32) {
        let ip_bytes = self.frame_bytes() - ETHERNET_BYTES;
        match (self.client, self.destination.ip()) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                frame[12..14].copy_from_slice(&[0x08, 0x00]);
                frame[14] = 0x45;
                frame[16..18].copy_from_slice(&(ip_bytes as u16).to_be_bytes());
                frame[20] = 0x40; // don't fragment
                frame[22] = 64;
                frame[23] = self.number();
                frame[30..34].copy_from_slice(&vip.octets());
                let length = (ip_bytes - 20) as u32;
                (34, sum(&vip.octets()) + u32::from(self.number()) + length, client.to_bits())
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame[14] = 0x60;
                let length = ip_bytes - 40;
                frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
                frame[20] = self.number();
                frame[21] = 64;
                let (high, low) = (&client.octets()[..12], client.to_bits() as u32);
                frame[22..34].copy_from_slice(high);
                frame[38..54].copy_from_slice(&vip.octets());
                let pseudo =
                    sum(high) + sum(&vip.octets()) + u32::from(self.number()) + length as u32;
                (54, pseudo, low)
            }
            mixed => panic!("mixed families: {mixed:?}"),
        }
    }

    /// Source port and checksum stay zero.
    fn write_transport(&self, header: &mut [u8]) {
        header[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        match self.protocol {
            Protocol::Udp => {
                let length = header.len() as u16;
                header[4..6].copy_from_slice(&length.to_be_bytes());
            }
            Protocol::Tcp => header[12..14].copy_from_slice(&[5 << 4, 0x10]),
            Protocol::TcpSyn => header[12..14].copy_from_slice(&[5 << 4, 0x02]),
        }
    }

    fn number(&self) -> u8 {
        if self.protocol == Protocol::Udp { 17 } else { 6 }
    }

    fn checksum_at(&self) -> usize {
        if self.protocol == Protocol::Udp { 6 } else { 16 }
    }
}

/// Ones' complement sum (RFC 1071), folded once.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    (sum >> 16) + (sum & 0xffff)
}
