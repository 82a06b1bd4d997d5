//! How long the codec takes: nanoseconds per UPDATE and per prefix, decoding and encoding.
//!
//! `cargo run --release -p sluice-bgp-core --example codec_bench`. Each figure is the median of many rounds with the
//! 10th and 90th percentile; compare them on one machine only.

#![expect(clippy::unwrap_used, reason = "a benchmark on messages of its own")]

use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use sluice_bgp_core::wire::{AsPath, Asn, Attributes, Codec, Community, Frame, Message};
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

const ROUNDS: usize = 4001;
/// Short, so that most rounds are not interrupted on a busy machine.
const ROUND: Duration = Duration::from_micros(50);
const CODEC: Codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn main() {
    let attributes = Attributes {
        med: Some(10),
        communities: vec![Community(0xfde9_0001), Community(0xfde9_0002)],
        ..Attributes::originated(AsPath::sequence(Asn::new(4_200_000_001)))
    };
    println!(
        "{:16} {:>7}  {:>26}  {:>26}",
        "UPDATE", "octets", "decode ns (p10-p90)", "encode ns (p10-p90)"
    );
    for count in [1, 100, 800] {
        let prefixes: Vec<Ipv4Net> = (0..count)
            .map(|i| Ipv4Net::new_assert(Ipv4Addr::from_bits(0xcb00_7100 + i), 32))
            .collect();
        report("announce v4", &prefixes, |prefixes, out| {
            CODEC.announce_v4(&attributes, NEXT_HOP_V4, prefixes, out).unwrap()
        });
        report("withdraw v4", &prefixes, |p, out| CODEC.withdraw_v4(p, out).unwrap());
    }
    for count in [1, 100, 230] {
        let prefixes: Vec<Ipv6Net> = (0..count)
            .map(|i| Ipv6Net::new_assert(Ipv6Addr::from_bits((0x2001_0db8 << 96) + i), 128))
            .collect();
        report("announce v6", &prefixes, |prefixes, out| {
            CODEC.announce_v6(&attributes, NEXT_HOP_V6, None, prefixes, out).unwrap()
        });
        report("withdraw v6", &prefixes, |p, out| CODEC.withdraw_v6(p, out).unwrap());
    }
}

/// One line: the prefixes as one message, decoded and encoded.
fn report<N>(what: &str, prefixes: &[N], write: impl Fn(&[N], &mut BytesMut) -> usize) {
    let mut out = BytesMut::with_capacity(1 << 16);
    assert_eq!(write(prefixes, &mut out), 1, "one message");
    let octets = out.len();
    let frame = Frame::split(&mut out.clone()).unwrap().unwrap();
    let decode = measure(|| {
        let Ok(Message::Update(update)) = CODEC.decode(black_box(&frame)) else { return };
        black_box(update);
    });
    let encode = measure(|| {
        out.clear();
        black_box(write(black_box(prefixes), &mut out));
    });
    let name = format!("{what} x{}", prefixes.len());
    println!(
        "{name:16} {octets:>7}  {}  {}",
        cell(decode, prefixes.len()),
        cell(encode, prefixes.len())
    );
}

/// `median (p10-p90) per prefix`.
fn cell([low, median, high]: [f64; 3], prefixes: usize) -> String {
    let each = median / prefixes as f64;
    let cell = format!("{median:.0} ({low:.0}-{high:.0}), {each:.1} each");
    format!("{cell:>26}")
}

/// 10th percentile, median and 90th percentile, nanoseconds per call.
fn measure(mut call: impl FnMut()) -> [f64; 3] {
    let mut calls: u32 = 1;
    loop {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        if start.elapsed() > ROUND {
            break;
        }
        calls *= 2;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    [10, 50, 90].map(|percent| rounds.get(ROUNDS * percent / 100).copied().unwrap_or_default())
}
