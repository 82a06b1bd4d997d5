//! Every size of the data plane, together.

/// Frontends (VIP, port, protocol).
pub const MAX_SERVICES: u32 = 4096;

/// Pairs of frontend and backend over all services; 2 MiB of counters per CPU. The identifier 0 is nobody's.
pub const MAX_BACKENDS: u32 = 32_768;

/// Slots of one Maglev table. A prime, as the algorithm wants; shares of up to 40 backends are exact to one per cent,
/// and a table is one 8 KiB value, so 4096 services take 33 MiB where the paper's 65537 would take half a gigabyte.
pub const MAGLEV_SLOTS: u32 = 4093;

/// Backends of one frontend that can have weight: above this Maglev's shares are off by more than ten per cent.
pub const MAX_BACKENDS_PER_SERVICE: u32 = 409;

/// Tables beyond one per service. A changed service gets a fresh table and its old one rests at the end of this
/// queue, so no packet reads a table while it is being written.
pub const SPARE_TABLES: u32 = 64;

/// Maglev tables in all.
pub const MAX_TABLES: u32 = MAX_SERVICES + SPARE_TABLES;

/// Lists of client prefixes: two for each service, and spare ones. A list that nobody uses any more rests at the end of
/// its queue as tables do. The number 0 is no list.
pub const MAX_PREFIX_LISTS: u32 = 2 * MAX_SERVICES + SPARE_TABLES;

/// Client prefixes over all lists, each counted once however many services share its list. The trie takes memory for
/// what it holds only, about 100 octets each.
pub const MAX_PREFIXES: u32 = 65_536;

/// Pairs of client and frontend with session affinity: 12 MiB. Beyond it the longest unused is forgotten, and that
/// client's next flow goes where its address hashes to, which without changes of backends is the same place.
pub const MAX_AFFINITIES: u32 = 131_072;

/// Flows under full NAT and NAT64; the table takes memory for what it holds only, about 120 octets each.
pub const MAX_NAT_FLOWS: u32 = 262_144;

/// The lowest source port that full NAT and NAT64 give.
pub const MIN_NAT_PORT: u16 = 1024;

/// The highest source port that NAT64 gives. Above it begin those that Linux gives to the host's own connections
/// (`net.ipv4.ip_local_port_range`), which have the same source address and, for health checks, the same destination.
pub const MAX_NAT64_PORT: u16 = 32_767;

/// The longest datagram whose sum is made where its sender made none: no frame that XDP takes in one piece is longer. A
/// power of two less one, and so a mask.
pub const MAX_SUMMED_BYTES: usize = 4095;

/// TCP options looked through for the segment size of a SYN. It comes first from every stack in use.
pub const MAX_TCP_OPTIONS: usize = 8;

/// Chunks of an SCTP packet looked through for one that ends its association. Nothing but a few control chunks may stand
/// before it.
pub const MAX_CHUNKS: usize = 4;

/// Source ports tried for one flow. With half of all ports towards one backend taken, one flow in 65,536 fails.
pub const NAT_PORT_TRIES: u32 = 16;

/// Prefixes of routes to clients. A host with more, such as one with a full table, gets its ways from the kernel's own
/// look-up or from the packets. The trie takes memory for what it holds only, about 100 octets each.
pub const MAX_WAYS: u32 = 16_384;

/// Routers on the ways to clients: as many neighbours as Linux keeps at most by default (`gc_thresh3`).
pub const MAX_ROUTERS: u32 = 1024;

/// Routers of one way; of a route with more, the first ones are used.
pub const MAX_HOPS_PER_WAY: usize = 8;

/// Owned VIPs.
pub const MAX_VIPS: u32 = 4096;

/// Links with the program attached.
pub const MAX_LINKS: u32 = 256;

/// Frontends that may share one backend address, port and protocol. A reply tries them in turn.
pub const MAX_SERVICES_PER_ENDPOINT: usize = 30;

/// Default of the flow table.
pub const DEFAULT_MAX_FLOWS: u32 = 1_048_576;

/// Smallest flow table: the kernel's LRU moves entries in batches per CPU and behaves badly below this.
pub const MIN_MAX_FLOWS: u32 = 4096;

/// Room for unconfirmed flows, as a share of that for confirmed ones. At 100,000 new connections a second an eighth of
/// the default lasts for more than a second, and a handshake takes a round trip.
pub const UNCONFIRMED_SHARE: u32 = 8;

/// A reset of the client's is believed this far beyond where the client was last seen in its sequence, and
/// [`RESET_BEHIND`] before: what a client sends between two visits to the flow table, and one blind guess in 4,000.
pub const RESET_AHEAD: u32 = 1 << 20;

/// What may be lost between the balancer and a backend: a window without scaling.
pub const RESET_BEHIND: u32 = 1 << 16;

/// How far beyond a SYN-ACK a client's acknowledgment may be that proves that the client has seen it: data that the
/// backend has sent at once. A blind guess is right once in 65,536.
pub const HANDSHAKE_WINDOW: u32 = 1 << 16;

/// Largest flow cache of one CPU, in IPv4 flows: 16 MiB. As much again holds half as many IPv6 flows.
pub const MAX_CACHE_SLOTS: u32 = 262_144;

/// Smallest flow cache of one CPU, in IPv4 flows.
pub const MIN_CACHE_SLOTS: u32 = 4096;

/// IPv6 extension headers looked through before a packet counts as malformed. Real packets carry one or two.
pub const MAX_EXTENSION_HEADERS: usize = 6;

/// A cached flow visits the flow table once in this time, which is how long a flow can look idle while it is not.
pub const REFRESH_MS: u32 = 1000;

/// New flows one CPU may write to the flow table per second. Beyond it flows live in the CPU's cache only, so a SYN
/// flood costs a fortieth of a core: 100k/s at 246 ns.
pub const NEW_FLOWS_PER_SECOND_PER_CPU: u32 = 100_000;

/// ICMP answers (port unreachable) one CPU may send per second, RFC 1812 section 4.3.2.8 and RFC 4443 section 2.4 (f).
pub const ICMP_ERRORS_PER_SECOND_PER_CPU: u32 = 1000;

/// What a gate saves up over a pause. A tenth of a second at Debian's 250 ticks a second: short enough to bound a flood,
/// long enough for the bursts of a page being opened.
pub const GATE_BURST_TICKS: u32 = 25;

/// A flow of which only SYNs, or INITs of SCTP, were seen. As long as the longest pause between two of them (RTO.Max,
/// RFC 9260 section 16).
pub const OPENING_TIMEOUT_S: u32 = 60;

/// A flow of which nothing was heard from the backend, though more than an opening came from the client: what RFC 5382
/// REQ-5 allows for a connection that is not established.
pub const UNANSWERED_TIMEOUT_S: u32 = 240;

/// A flow that both sides have closed or one has reset (of SCTP: an ABORT or SHUTDOWN COMPLETE). A side that still sends
/// keeps it alive.
pub const CLOSING_TIMEOUT_S: u32 = 30;

const _: () = assert!(MAX_BACKENDS <= u16::MAX as u32 + 1);
const _: () = assert!(MAX_TABLES < u16::MAX as u32);
const _: () = assert!(MAX_PREFIX_LISTS < u16::MAX as u32);
