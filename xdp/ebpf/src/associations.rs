//! SCTP: the first program hands its packets over to this one, so that packets of TCP and UDP have none of its code in
//! the way. What is done is the same, by the same functions; what differs is chosen when they are compiled, by
//! [`Runs`](crate::cpu::Runs).

use crate::cache::CacheKey;
use crate::chunks;
use crate::cpu::Cpu;
use crate::packet::{FIN, Kind, Packet, RST, SCTP, SYN, parse};
use crate::{decide, known, rewrite};

/// Balances the packet that was handed over, whichever way it goes.
#[inline(always)]
pub fn run(cpu: &Cpu) -> u32 {
    let (data, end) = (cpu.context.data(), cpu.context.data_end());
    let parsed = parse(cpu, data, end).filter(|packet| packet.kind == Kind::Association);
    let Some(packet) = parsed else {
        return cpu.pass((end - data) as u64);
    };
    let (may_be_vip, may_be_backend) = known(&packet);
    if !may_be_vip && !may_be_backend {
        return cpu.pass(packet.len());
    }
    // The verifier need not follow each of them through all the code behind.
    let flags = cpu.forget(u64::from(chunks::flags(cpu, &packet))) as u8;
    let packet = Packet { kind: Kind::Transport, protocol: SCTP, flags, ..packet };
    let key = CacheKey::of(&packet);
    if packet.flags & (SYN | FIN | RST) == 0
        && let Some(entry) = key.find(cpu)
    {
        return rewrite::send(cpu, &packet, &entry);
    }
    decide(cpu, &packet, &key, (may_be_vip, may_be_backend))
}
