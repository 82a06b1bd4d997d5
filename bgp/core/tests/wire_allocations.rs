//! Encoding allocates nothing when the output has room: a session's write buffer is all that it needs.

use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use sluice_bgp_core::wire::{
    AsPath, Asn, Attributes, Capability, Codec, Community, Family, Frame, HoldTime, Message,
    Notification, Open, OtherAttribute,
};
use std::alloc::System;
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};

thread_local! {
    /// Only this thread's: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator cannot be counted otherwise")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: `pointer` came from `alloc` above, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many allocations a call makes.
fn allocations(call: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    call();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn encoding_allocates_nothing() {
    let codec = Codec { as4: false, internal: true, ipv4: true, ipv6: true };
    let attributes = Attributes {
        local_pref: Some(100),
        communities: vec![Community::NO_EXPORT; 100],
        large_communities: vec![[1, 2, 3].into(); 30],
        other: vec![OtherAttribute { code: 99, flags: 0xc0, value: vec![1; 300] }],
        ..Attributes::originated(AsPath::sequence(Asn::new(4_200_000_001)))
    };
    let v4: Vec<Ipv4Net> =
        (0..3000).map(|i| Ipv4Net::new_assert(Ipv4Addr::from_bits(0xcb00_0000 + i), 32)).collect();
    let v6: Vec<Ipv6Net> =
        (0..900).map(|i| Ipv6Net::new_assert(Ipv6Addr::from_bits(i), 128)).collect();
    let family = Capability::Multiprotocol(Family::IPV6_UNICAST);
    let as_number = Asn::new(65001).unwrap();
    let open = Open::new(as_number, HoldTime::DEFAULT, [1, 1, 1, 1].into(), vec![family]);
    let messages = [
        Message::Open(open),
        Message::KeepAlive,
        Message::Notification(Notification::shutdown(2, "bye")),
    ];
    let mut out = BytesMut::with_capacity(1 << 18);
    let mut written = 0;
    let count = allocations(|| {
        written += codec.announce_v4(&attributes, Ipv4Addr::LOCALHOST, &v4, &mut out).unwrap();
        let hop = Ipv6Addr::LOCALHOST;
        written += codec.announce_v6(&attributes, hop, Some(hop), &v6, &mut out).unwrap();
        written += codec.withdraw_v4(&v4, &mut out).unwrap();
        written += codec.withdraw_v6(&v6, &mut out).unwrap();
        codec.end_of_rib(Family::IPV6_UNICAST, &mut out).unwrap();
        for message in &messages {
            codec.encode(message, &mut out).unwrap();
        }
    });
    assert!(written > 10, "{written}");
    assert_eq!(count, 0);
}

#[test]
fn decoding_one_vip_allocates_little() {
    let codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
    let attributes = Attributes {
        communities: vec![Community::NO_EXPORT],
        ..Attributes::originated(AsPath::sequence(Asn::new(65001)))
    };
    let prefix = [Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 10), 32)];
    let mut out = BytesMut::new();
    codec.announce_v4(&attributes, Ipv4Addr::new(192, 0, 2, 1), &prefix, &mut out).unwrap();
    let frame = Frame::split(&mut out).unwrap().unwrap();
    let mut decoded = None;
    let count = allocations(|| decoded = codec.decode(&frame).ok());
    assert!(matches!(decoded, Some(Message::Update(u)) if u.attributes == attributes));
    // Prefixes and the list they are in; the path and its segments; communities.
    assert_eq!(count, 5);
}
