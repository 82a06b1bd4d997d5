//! The same things in two vocabularies.

use sluice_model::{
    Backend, Frontend, NoBackend, Program, Protocol, RouteAttributes, canonical_prefixes,
};

// What the planner leaves out is what the data plane would refuse.
const _: () = assert!(
    sluice_model::MAX_BACKENDS_PER_FRONTEND == sluice_xdp::MAX_BACKENDS_PER_SERVICE as usize
        && sluice_model::MAX_FRONTENDS_PER_BACKEND == sluice_xdp::MAX_SERVICES_PER_ENDPOINT
);

pub(super) fn frontend_to_xdp(frontend: Frontend) -> sluice_xdp::Frontend {
    sluice_xdp::Frontend {
        vip: frontend.vip,
        port: frontend.port,
        protocol: match frontend.protocol {
            Protocol::Tcp => sluice_xdp::Protocol::Tcp,
            Protocol::Udp => sluice_xdp::Protocol::Udp,
            Protocol::Sctp => sluice_xdp::Protocol::Sctp,
        },
    }
}

pub(super) fn frontend_from_xdp(frontend: sluice_xdp::Frontend) -> Frontend {
    Frontend {
        vip: frontend.vip,
        port: frontend.port,
        protocol: match frontend.protocol {
            sluice_xdp::Protocol::Tcp => Protocol::Tcp,
            sluice_xdp::Protocol::Udp => Protocol::Udp,
            sluice_xdp::Protocol::Sctp => Protocol::Sctp,
        },
    }
}

pub(super) fn program_to_xdp(program: &Program) -> sluice_xdp::Program {
    let backend = |b: &Backend| sluice_xdp::Backend { address: b.address, weight: b.weight };
    sluice_xdp::Program {
        backends: program.backends.iter().map(backend).collect(),
        no_backend: match program.no_backend {
            NoBackend::Reject => sluice_xdp::NoBackend::Reject,
            NoBackend::Drop => sluice_xdp::NoBackend::Drop,
        },
        idle_timeout: program.idle_timeout,
        source_ranges: program.source_ranges.to_vec(),
        affinity: program.affinity,
        full_nat: program.full_nat.to_vec(),
        multihomed: program.multihomed,
    }
}

pub(super) fn program_from_xdp(program: sluice_xdp::Program) -> Program {
    let backend = |b: sluice_xdp::Backend| Backend { address: b.address, weight: b.weight };
    Program {
        backends: sluice_model::canonical_backends(program.backends.into_iter().map(backend)),
        no_backend: match program.no_backend {
            sluice_xdp::NoBackend::Reject => NoBackend::Reject,
            sluice_xdp::NoBackend::Drop => NoBackend::Drop,
        },
        idle_timeout: program.idle_timeout,
        source_ranges: canonical_prefixes(program.source_ranges),
        affinity: program.affinity,
        full_nat: canonical_prefixes(program.full_nat),
        multihomed: program.multihomed,
    }
}

pub(super) fn attributes_to_bgp(attributes: &RouteAttributes) -> sluice_bgp::RouteAttributes {
    sluice_bgp::RouteAttributes {
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: attributes.communities.clone(),
        large_communities: attributes.large_communities.clone(),
        prepend: attributes.prepend,
    }
}

pub(super) fn next_hop_to_xdp(next_hop: sluice_netlink::NextHop) -> sluice_xdp::NextHop {
    sluice_xdp::NextHop {
        link_index: next_hop.link_index,
        source_mac: next_hop.source_mac,
        destination_mac: next_hop.destination_mac,
    }
}
