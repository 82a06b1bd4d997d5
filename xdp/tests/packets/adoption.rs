//! The loader goes and comes back: what it finds keeps running.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use sluice_xdp::AttachMode;
use sluice_xdp_abi::names;

use crate::bed::{
    Bed, VIP4, VIP6, Want, address, check, end, options, program, sh, socket, tcp, udp,
};
use crate::forward::{BACKEND4_TCP, CLIENT4, VIP4_TCP, forwarded, returned};
use crate::wire::{ACK, Packet, SYN};

fn segment(flow: u16, flags: u8) -> Packet {
    Packet::tcp((address("198.51.100.7"), 20_000 + flow), end(VIP4_TCP), flags)
}

/// The program attached to a link, as the kernel numbers it.
pub fn attached_program_id(link: &str) -> Option<u64> {
    let output = Command::new("ip").args(["-d", "link", "show", "dev", link]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let id = text.split("prog/xdp id ").nth(1)?.split_whitespace().next()?;
    Some(id.parse().unwrap())
}

/// The kernel lets go of an unpinned attachment a grace period later.
pub fn wait_until_detached(link: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Some(id) = attached_program_id(link) {
        assert!(Instant::now() < deadline, "program {id} is still attached to {link}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn pinned_program_id(bed: &Bed) -> u64 {
    let pin = bed.pin_dir().join(names::PROGRAM);
    u64::from(aya::programs::ProgramInfo::from_pin(pin).unwrap().id())
}

#[test]
fn everything_is_found_again() {
    let mut bed = Bed::new();
    assert!(!bed.plane.adopted());
    let backends = [(BACKEND4_TCP, 1), ("10.1.0.12:8080", 2), ("10.1.0.13:8080", 0)];
    bed.serve(tcp(VIP4, 80), &program(&backends));
    bed.serve(udp(VIP6, 53), &program(&[("[2001:db8:1::11]:53", 1)]));
    bed.serve(tcp(VIP6, 80), &program(&[]));
    let flows: Vec<_> = (0..200).map(|flow| bed.backend_of(&segment(flow, SYN))).collect();
    let (programs, vips) = (bed.plane.programs().unwrap(), bed.plane.vips().unwrap());
    let counters = bed.snapshot();

    let bed = bed.reopen();
    assert!(bed.plane.adopted());
    assert_eq!(bed.plane.programs().unwrap(), programs);
    assert_eq!(bed.plane.vips().unwrap(), vips);
    let adopted = bed.snapshot();
    assert_eq!(adopted.frontends, counters.frontends);
    assert_eq!(adopted.backends, counters.backends);
    let again: Vec<_> = (0..200).map(|flow| bed.backend_of(&segment(flow, ACK))).collect();
    assert_eq!(again, flows);
    let new_flows = |snapshot: &sluice_xdp::Snapshot| snapshot.frontends[&tcp(VIP4, 80)].new_flows;
    assert_eq!(new_flows(&bed.snapshot()), new_flows(&counters), "none began anew");
}

/// Changes after an adoption must not take numbers that are in use.
#[test]
fn an_adopted_data_plane_can_be_changed() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    let first = segment(1, SYN);
    assert_eq!(bed.backend_of(&first), socket(BACKEND4_TCP));
    let mut bed = bed.reopen();
    let other = "10.1.0.21:9090";
    bed.serve(tcp(VIP4, 81), &program(&[(other, 1)]));
    bed.serve(udp(VIP4, 80), &program(&[(other, 1)]));
    let to_other = Packet::tcp(end(CLIENT4), end("203.0.113.10:81"), SYN);
    let reply = Packet::tcp(end(BACKEND4_TCP), (first.source, 20_001), ACK);
    let rows = [
        (
            "the old service",
            segment(1, ACK),
            Want::Tx(forwarded(&segment(1, ACK), end(BACKEND4_TCP))),
        ),
        ("its reply", reply.clone(), Want::Tx(returned(&reply, end(VIP4_TCP), &first))),
        ("the new service", to_other.clone(), Want::Tx(forwarded(&to_other, end(other)))),
    ];
    check(&bed, &rows);
    bed.plane.remove_program(&tcp(VIP4, 80)).unwrap();
    let left = bed.plane.programs().unwrap();
    assert_eq!(
        left.keys().copied().collect::<BTreeSet<_>>(),
        [tcp(VIP4, 81), udp(VIP4, 80)].into()
    );
    let reopened = bed.reopen();
    assert_eq!(reopened.plane.programs().unwrap(), left);
}

#[test]
fn an_attachment_survives_and_its_program_is_replaced() {
    let mut bed = Bed::new();
    sh("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up");
    let index = if_nametoindex("up0").unwrap();
    assert_eq!(bed.plane.attach(index).unwrap(), AttachMode::Native);
    assert_eq!(bed.plane.attached(), BTreeMap::from([(index, AttachMode::Native)]));
    let old = attached_program_id("up0").expect("attached");
    assert_eq!(old, pinned_program_id(&bed));

    let options = options(bed.pin_dir());
    drop(bed);
    assert_eq!(attached_program_id("up0"), Some(old), "it runs on without loader");
    let mut bed = Bed::open(&options);
    assert_eq!(bed.plane.attached(), BTreeMap::from([(index, AttachMode::Native)]));
    assert_eq!(bed.plane.attach(index).unwrap(), AttachMode::Native);
    let new = attached_program_id("up0").expect("attached");
    assert_eq!(new, pinned_program_id(&bed), "the attached program is the pinned one");

    bed.plane.detach(index).unwrap();
    wait_until_detached("up0");
    assert!(bed.plane.attached().is_empty());
}

/// A link may vanish while nobody looks.
#[test]
fn a_link_that_is_gone_is_no_attachment() {
    let mut bed = Bed::new();
    sh("ip link add up0 type veth peer name up1");
    bed.plane.attach(if_nametoindex("up0").unwrap()).unwrap();
    sh("ip link del up0");
    let mut bed = bed.reopen();
    assert!(bed.plane.adopted());
    assert!(bed.plane.attached().is_empty());
}

#[test]
fn maps_of_another_version_are_not_adopted() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    sh("ip link add up0 type veth peer name up1 && ip link set up0 up");
    let index = if_nametoindex("up0").unwrap();
    bed.plane.attach(index).unwrap();
    bed.change_control(|words| {
        assert_eq!(words[0], sluice_xdp_abi::ABI_VERSION);
        words[0] += 1;
    });

    let mut bed = bed.reopen();
    assert!(!bed.plane.adopted());
    assert!(bed.plane.programs().unwrap().is_empty());
    assert!(bed.plane.vips().unwrap().is_empty());
    bed.plane.attach(index).unwrap();
    assert_eq!(attached_program_id("up0"), Some(pinned_program_id(&bed)));
    assert!(bed.reopen().plane.adopted(), "the new version's maps are");
}

#[test]
fn removal_leaves_nothing() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    sh("ip link add up0 type veth peer name up1 && ip link set up0 up");
    bed.plane.attach(if_nametoindex("up0").unwrap()).unwrap();
    let options = options(bed.pin_dir());
    bed.remove();
    wait_until_detached("up0");
    let left: Vec<_> = std::fs::read_dir(&options.pin_dir)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
    assert!(!Bed::open(&options).plane.adopted());
}
