//! Our own routes, and how they look to a peer (RFC 4271 §5.1).

use crate::wire::{AsPath, Asn, Attributes, Community};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// LOCAL_PREF where none is given: what FRR, BIRD and the big vendors assume.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// Attributes of an announced prefix beyond the mandatory ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteAttributes {
    /// MULTI_EXIT_DISC: lower is preferred between links to the same AS.
    pub med: Option<u32>,
    /// Sent to iBGP peers only; [`DEFAULT_LOCAL_PREF`] when absent.
    pub local_pref: Option<u32>,
    /// RFC 1997, high 16 bits first.
    pub communities: Vec<u32>,
    /// RFC 8092.
    pub large_communities: Vec<[u32; 3]>,
    /// How many extra times our AS is prepended; without effect towards iBGP peers.
    pub prepend: u8,
}

/// The whole announced set.
pub type Announced = BTreeMap<IpNet, RouteAttributes>;

// === impl RouteAttributes ===

impl RouteAttributes {
    /// Towards a peer in the same AS (`internal`) or another one. The next hop is not part of it.
    pub(super) fn towards(&self, local_asn: Asn, internal: bool) -> Attributes {
        // RFC 4271 §5.1.2: our own AS towards others, an empty path within.
        let repeats = if internal { 0 } else { 1 + usize::from(self.prepend) };
        let path = AsPath::sequence(std::iter::repeat_n(local_asn, repeats));
        Attributes {
            med: self.med,
            // RFC 4271 §5.1.5: to internal peers always, to others never.
            local_pref: internal.then(|| self.local_pref.unwrap_or(DEFAULT_LOCAL_PREF)),
            communities: self.communities.iter().copied().map(Community).collect(),
            large_communities: self.large_communities.iter().copied().map(Into::into).collect(),
            ..Attributes::originated(path)
        }
    }
}
