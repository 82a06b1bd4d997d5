//! The routes of one Established session, in both directions.

use crate::connection::Connection;
use sluice_bgp_core::fsm::Role;
use sluice_bgp_core::rib::{AdjRibIn, AdjRibOut, Announced, Refreshes, Target};
use sluice_bgp_core::wire::Negotiated;
use std::sync::Arc;
use std::time::Instant;

/// Octets of UPDATEs that may wait for a slow peer; more is made when these are gone.
pub(crate) const WRITE_LIMIT: usize = 64 * 1024;

/// Exists while the peer is Established.
pub(crate) struct Session {
    pub(crate) role: Role,
    pub(crate) rib_out: AdjRibOut,
    pub(crate) rib_in: AdjRibIn,
    pub(crate) refreshes: Refreshes,
    next_hop_problems: Vec<String>,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        role: Role,
        negotiated: &Negotiated,
        connection: &Connection,
        routes: Arc<Announced>,
    ) -> Self {
        let target = Target {
            local_asn: negotiated.local_asn,
            codec: negotiated.codec(),
            next_hop_v4: connection.next_hops.v4,
            next_hop_v6: connection.next_hops.v6,
            enhanced_route_refresh: negotiated.enhanced_route_refresh,
        };
        Self {
            role,
            rib_out: AdjRibOut::new(target, routes),
            rib_in: AdjRibIn::default(),
            refreshes: Refreshes::default(),
            next_hop_problems: connection.next_hops.problems(connection.local.ip()),
        }
    }

    /// Begins the answer to a refresh, unless one is still being written.
    pub(crate) fn answer(&mut self, now: Instant) {
        while !self.rib_out.is_pending()
            && let Some(family) = self.refreshes.take(now)
        {
            self.rib_out.refresh(family);
        }
    }

    /// When a refresh is to be answered that has to wait for its time.
    pub(crate) fn answer_at(&self, now: Instant) -> Option<Instant> {
        if self.rib_out.is_pending() { None } else { self.refreshes.due_at(now) }
    }

    /// What keeps the peer from getting all routes, and what is wrong with its own.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.next_hop_problems.clone();
        problems.extend(self.rib_in.problems());
        problems.extend(self.rib_out.errors().iter().map(|(prefix, error)| {
            format!("{prefix} is not announced, it has too many communities: {error}")
        }));
        problems
    }
}
