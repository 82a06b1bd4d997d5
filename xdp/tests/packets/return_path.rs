//! How replies find the client: by the kernel's routes where they lead over an attached link, else
//! back where the client's packets come from.

use nix::net::if_::if_nametoindex;

use crate::bed::{Bed, VIP4, VIP6, Want, check, end, program, sh, tcp};
use crate::forward::{
    BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, forwarded, returned,
};
use crate::wire::{ACK, Packet, SYN};

const LINK_MAC: [u8; 6] = [2, 3, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 3, 0, 0, 0, 2];

/// A link towards a router that knows the way to all clients.
fn routed() -> Bed {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    bed.serve(tcp(VIP6, 80), &program(&[(BACKEND6_TCP, 1)]));
    sh("ip link add up0 address 02:03:00:00:00:01 type veth peer name up1");
    sh("ip link set up1 up && ip link set up0 up");
    sh("ip addr add 192.0.2.1/24 dev up0 && ip -6 addr add 2001:db8:2::1/64 dev up0 nodad");
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (family, router, clients) in
        [("-4", "192.0.2.2", "198.51.100.0/24"), ("-6", "2001:db8:2::2", "2001:db8:77::/64")]
    {
        sh(&format!(
            "ip {family} neigh replace {router} lladdr 02:03:00:00:00:02 dev up0 nud permanent"
        ));
        sh(&format!("ip {family} route add {clients} via {router}"));
    }
    bed
}

fn exchange(bed: &Bed, is_v4: bool, is_routed: bool) {
    let (client, vip, backend) = if is_v4 {
        (end(CLIENT4), end(VIP4_TCP), end(BACKEND4_TCP))
    } else {
        (end(CLIENT6), end(VIP6_TCP), end(BACKEND6_TCP))
    };
    let first = Packet::tcp(client, vip, SYN);
    let reply = Packet::tcp(backend, client, SYN | ACK);
    let back = returned(&reply, vip, &first);
    let want = if is_routed {
        Want::Redirect(back.with(|p| (p.source_mac, p.destination_mac) = (LINK_MAC, ROUTER_MAC)))
    } else {
        Want::Tx(back)
    };
    let rows =
        [("there", first.clone(), Want::Tx(forwarded(&first, backend))), ("back", reply, want)];
    check(bed, &rows);
}

#[test]
fn a_route_over_an_attached_link_is_taken() {
    let mut bed = routed();
    bed.plane.attach(if_nametoindex("up0").unwrap()).unwrap();
    exchange(&bed, true, true);
    exchange(&bed, false, true);
}

#[test]
fn a_route_over_another_link_is_not() {
    let bed = routed();
    exchange(&bed, true, false);
    exchange(&bed, false, false);
}

#[test]
fn without_neighbour_the_reply_goes_back_where_the_client_came_from() {
    let mut bed = routed();
    bed.plane.attach(if_nametoindex("up0").unwrap()).unwrap();
    sh("ip neigh del 192.0.2.2 dev up0 && ip -6 neigh del 2001:db8:2::2 dev up0");
    exchange(&bed, true, false);
    exchange(&bed, false, false);
}
