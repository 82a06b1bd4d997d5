//! Others detach, unpin and overwrite behind the loader's back: what runs goes on, and an inspection sets it right.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::Command;

use aya::maps::{HashMap, Map, MapData};
use nix::net::if_::if_nametoindex;
use sluice_xdp::{AttachMode, AttachPolicy, DataPlane, Finding, Inspection, Options};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::names;
use sluice_xdp_abi::program::{Endpoint, EndpointKey, Service, ServiceKey};

use crate::adoption::{attached_program_id, pinned_program_id, wait_until_detached};
use crate::bed::{Bed, VIP4, address, end, isolate, options, program, sh, socket, tcp};
use crate::forward::{BACKEND4_TCP, VIP4_TCP};
use crate::wire::{Packet, SYN};

fn link(name: &str) -> u32 {
    sh(&format!("ip link add {name} type veth peer name {name}p && ip link set {name} up"));
    if_nametoindex(name).unwrap()
}

/// Nothing is left to say after the repairs.
fn settles(plane: &mut DataPlane, wanted: &[Finding]) {
    let Inspection { found, failures } = plane.inspect();
    assert_eq!((found.as_slice(), failures.as_slice()), (wanted, &[][..]));
    let Inspection { found, failures } = plane.inspect();
    assert_eq!((found.as_slice(), failures.as_slice()), (&[][..], &[][..]), "a second look");
}

fn pins(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn detach_by_id(dir: &Path, link_index: u32) {
    // What `bpftool link detach` does.
    let pin = dir.join(format!("link-{link_index}-native"));
    let link = aya::programs::links::FdLink::from(
        aya::programs::links::PinnedLink::from_pin(pin).unwrap(),
    );
    detach(link.info().unwrap().id());
}

/// `BPF_LINK_GET_FD_BY_ID` and `BPF_LINK_DETACH`.
fn detach(id: u32) {
    let call = |command: i64, word: u32| {
        let attributes = [word, 0, 0, 0];
        // SAFETY: both commands take plain words.
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, 16) }
    };
    let fd = call(30, id);
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    assert_eq!(call(34, fd as u32), 0, "{}", std::io::Error::last_os_error());
    // SAFETY: opened above, and nobody else has it.
    unsafe { libc::close(fd as i32) };
}

#[test]
fn pins_that_are_removed_detach_nothing_and_come_back() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    let index = link("up0");
    assert_eq!(bed.plane.attach(index).unwrap(), AttachMode::Native);
    settles(&mut bed.plane, &[]);
    let before = pins(bed.pin_dir());
    let program = attached_program_id("up0");
    std::fs::remove_dir_all(bed.pin_dir()).unwrap();
    // The kernel lets go of what only had a name a grace period later; this outlasts one.
    sh("ip link add grace type veth peer name gracep && ip link del grace");
    assert_eq!(attached_program_id("up0"), program, "still attached, without a name");
    assert_eq!(bed.plane.attached().get(&index), Some(&AttachMode::Native));
    settles(&mut bed.plane, &[Finding::Unpinned(before.len())]);
    assert_eq!(pins(bed.pin_dir()), before);
    let flow = Packet::tcp((address("198.51.100.7"), 20_000), end(VIP4_TCP), SYN);
    assert_eq!(bed.backend_of(&flow), socket(BACKEND4_TCP));

    let mut bed = bed.reopen();
    assert!(bed.plane.adopted(), "a restart takes over what was pinned again");
    assert_eq!(bed.plane.attached().get(&index), Some(&AttachMode::Native));
    assert_eq!(bed.plane.programs().unwrap().len(), 1);
}

/// SCTP and NAT64 live in programs that the kernel forgets with the last reference to their table.
#[test]
fn other_programs_survive_the_pins() {
    let bed = crate::sctp::standard();
    let first = crate::sctp::chunks(end(crate::sctp::CLIENT4), end(crate::sctp::VIP4_SCTP), SYN);
    let backend = bed.backend_of(&first);
    std::fs::remove_dir_all(bed.pin_dir()).unwrap();
    sh("ip link add grace type veth peer name gracep && ip link del grace");
    assert_eq!(bed.backend_of(&first), backend);
}

#[test]
fn a_bpffs_that_was_unmounted_is_mounted_again() {
    let dir = isolate();
    let mount = dir.parent().unwrap().join("bpf");
    std::fs::create_dir_all(&mount).unwrap();
    let mut plane =
        DataPlane::open(&Options { pin_dir: mount.join("sluice"), ..options(&dir) }).unwrap();
    let index = link("up0");
    plane.attach(index).unwrap();
    let before = pins(&mount.join("sluice"));
    sh(&format!("umount {}", mount.display()));
    assert!(attached_program_id("up0").is_some());
    settles(&mut plane, &[Finding::Unpinned(before.len())]);
    assert_eq!(pins(&mount.join("sluice")), before);
}

#[test]
fn a_pin_directory_that_cannot_be_had_is_a_failure_and_detaches_nothing() {
    let mut bed = Bed::new();
    let index = link("up0");
    bed.plane.attach(index).unwrap();
    std::fs::remove_dir_all(bed.pin_dir()).unwrap();
    let parent = bed.pin_dir().parent().unwrap().to_owned();
    sh(&format!("mount -o remount,ro {}", parent.display()));
    let Inspection { failures, .. } = bed.plane.inspect();
    assert!(
        matches!(failures.as_slice(), [one] if one.contains("a restart could not take over")),
        "{failures:?}"
    );
    assert_eq!(bed.plane.attached().len(), 1);
    sh(&format!("mount -o remount,rw {}", parent.display()));
    let found = bed.plane.inspect().found;
    assert!(matches!(found.as_slice(), [Finding::Unpinned(_)]), "{found:?}");
}

#[test]
fn what_was_detached_is_seen_and_attached_again() {
    let mut bed = Bed::new();
    let index = link("up0");
    bed.plane.attach(index).unwrap();
    detach_by_id(bed.pin_dir(), index);
    wait_until_detached("up0");
    assert!(bed.plane.attached().is_empty(), "the kernel is asked");
    assert_eq!(bed.plane.attach(index).unwrap(), AttachMode::Native);
    settles(&mut bed.plane, &[Finding::Detached(index)]);
    assert!(attached_program_id("up0").is_some());
}

/// Deleted and created by somebody else, with the same name and even the same index.
#[test]
fn a_link_made_again_with_the_same_index_is_not_taken_for_the_old_one() {
    let mut bed = Bed::new();
    let index = link("up0");
    bed.plane.attach(index).unwrap();
    sh(&format!(
        "ip link del up0 && ip link add up0 index {index} type veth peer name up0p && ip link set up0 up"
    ));
    assert_eq!(attached_program_id("up0"), None);
    assert!(bed.plane.attached().is_empty());
    bed.plane.attach(index).unwrap();
    settles(&mut bed.plane, &[Finding::Detached(index)]);
    assert_eq!(attached_program_id("up0"), Some(pinned_program_id(&bed)));
}

#[test]
fn another_program_in_our_attachment_is_replaced() {
    let mut bed = Bed::new();
    let index = link("up0");
    bed.plane.attach(index).unwrap();
    let ours = attached_program_id("up0");
    let other = options(&bed.pin_dir().parent().unwrap().join("other"));
    let mut thief = DataPlane::open(&other).unwrap();
    // It finds our attachment among its own pins and takes it over.
    let pin = format!("link-{index}-native");
    let stolen = aya::programs::links::PinnedLink::from_pin(bed.pin_dir().join(&pin)).unwrap();
    aya::programs::links::FdLink::from(stolen).pin(other.pin_dir.join(&pin)).unwrap();
    drop(thief);
    thief = DataPlane::open(&other).unwrap();
    thief.attach(index).unwrap();
    assert_ne!(attached_program_id("up0"), ours);
    settles(&mut bed.plane, &[Finding::ProgramReplaced(index)]);
    assert_eq!(attached_program_id("up0"), ours);
}

#[test]
fn maps_that_others_change_are_set_right() {
    let mut bed = Bed::new();
    let restricted = sluice_xdp::Program {
        source_ranges: vec!["198.51.100.0/24".parse().unwrap()],
        ..program(&[(BACKEND4_TCP, 1), ("10.1.0.12:8080", 2)])
    };
    bed.serve(tcp(VIP4, 80), &restricted);
    let index = link("up0");
    bed.plane.attach(index).unwrap();
    settles(&mut bed.plane, &[]);
    let programs = bed.plane.programs().unwrap();
    let open = |name: &str| MapData::from_pin(bed.pin_dir().join(name)).unwrap();

    empty::<{ size_of::<ServiceKey>() }, { size_of::<Service>() }>(open(names::SERVICES));
    empty::<{ size_of::<Address>() }, 4>(open(names::VIPS));
    empty::<4, 8>(open(names::LINKS));
    empty::<{ size_of::<EndpointKey>() }, { size_of::<Endpoint>() }>(open(names::ENDPOINTS));
    for name in [names::BACKENDS, names::NEXT_HOPS, names::FRONTENDS, names::TABLES, names::FILTER]
    {
        zero(bed.pin_dir(), name);
    }
    bed.change_control(|words| words[1] = words[1].wrapping_add(7));
    let found = bed.plane.inspect().found;
    let wanted = [
        names::CONTROL,
        names::FILTER,
        names::VIPS,
        names::LINKS,
        names::BACKENDS,
        names::NEXT_HOPS,
        names::ENDPOINTS,
        names::TABLES,
        names::FRONTENDS,
        names::SERVICES,
    ];
    assert_eq!(found, wanted.map(Finding::Map));
    settles(&mut bed.plane, &[]);
    assert_eq!(bed.plane.programs().unwrap(), programs);
    assert!(bed.plane.vips().unwrap().contains(&address(VIP4)));
    let flow = Packet::tcp((address("198.51.100.7"), 20_000), end(VIP4_TCP), SYN);
    bed.backend_of(&flow);
}

fn empty<const K: usize, const V: usize>(map: MapData) {
    let mut map: HashMap<_, [u8; K], [u8; V]> = Map::HashMap(map).try_into().unwrap();
    let keys: Vec<_> = map.keys().map(Result::unwrap).collect();
    assert!(!keys.is_empty());
    keys.iter().for_each(|key| map.remove(key).unwrap());
}

/// All rows of an array.
fn zero(pin_dir: &Path, name: &str) {
    let map = MapData::from_pin(pin_dir.join(name)).unwrap();
    let info = map.info().unwrap();
    let (rows, size) = (info.max_entries().min(64), info.value_size());
    let value = vec![0u8; size as usize];
    for row in 0..rows {
        // BPF_MAP_UPDATE_ELEM: descriptor, key, value, flags.
        let attributes =
            [map.fd().as_fd().as_raw_fd() as u64, &raw const row as u64, value.as_ptr() as u64, 0];
        // SAFETY: key and value live here and are of the map's sizes.
        let result = unsafe { libc::syscall(libc::SYS_bpf, 2, &raw const attributes, 32) };
        assert_eq!(result, 0, "{name}: {}", std::io::Error::last_os_error());
    }
}

/// A tunnel's driver takes no program; frames cannot be redirected to it from a driver.
#[test]
fn auto_never_mixes_modes() {
    let dir = isolate();
    let mut plane =
        DataPlane::open(&Options { attach: AttachPolicy::Auto, ..options(&dir) }).unwrap();
    let native = link("up0");
    assert_eq!(plane.attach(native).unwrap(), AttachMode::Native);
    sh("ip link add name br0 type bridge && ip link set br0 up");
    let bridge = if_nametoindex("br0").unwrap();
    assert_eq!(plane.attach(bridge).unwrap(), AttachMode::Generic);
    let attached = plane.attached();
    assert_eq!(attached, [(native, AttachMode::Generic), (bridge, AttachMode::Generic)].into());
    let (culprit, _) = plane.fallback().expect("it says why");
    assert_eq!(culprit, bridge);
    let later = link("up1");
    assert_eq!(plane.attach(later).unwrap(), AttachMode::Generic);
    settles(&mut plane, &[]);
    let shown = Command::new("ip").args(["link", "show", "up0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("xdpgeneric"));
}
