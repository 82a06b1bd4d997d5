//! More than the data plane holds of one service: what is chosen, and what is said of the rest. Refused as a whole, the
//! program that is there would go on with backends that are long gone.

use sluice_model::{
    Backend, Frontend, MAX_BACKENDS_PER_FRONTEND, MAX_FRONTENDS_PER_BACKEND, Protocol, Surplus,
};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

/// What one frontend has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Whose.
    pub frontend: Frontend,
    /// Backends with weight beyond what a frontend holds.
    pub surplus: usize,
    /// A backend that leads to other frontends already, as many as can be told apart.
    pub crowded: Option<SocketAddr>,
}

/// How many frontends lead to each backend. Every plan counts all of them, and hashing is less than half the work of
/// ordering; the keys of this hasher are always the same.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    frontends: HashMap<(SocketAddr, Protocol), usize, BuildHasherDefault<DefaultHasher>>,
}

// === impl Crowd ===

impl Crowd {
    /// Leaves of these backends what there is a place for. Frontends that come first are served first.
    pub(crate) fn admit(
        &mut self,
        frontend: Frontend,
        backends: &mut Vec<Backend>,
    ) -> Option<Excess> {
        let surplus = Surplus::of(backends.iter().map(|one| (one.address, one.weight)));
        let mut crowded = None;
        backends.retain_mut(|Backend { address, weight }| {
            let Some(left) = surplus.weight(*address, *weight) else { return false };
            *weight = left;
            let count = self.frontends.entry((*address, frontend.protocol)).or_default();
            let has_place = *count < MAX_FRONTENDS_PER_BACKEND;
            if has_place {
                *count += 1;
            } else {
                crowded.get_or_insert(*address);
            }
            has_place
        });
        let is_all = surplus.is_empty() && crowded.is_none();
        (!is_all).then_some(Excess { frontend, surplus: surplus.len(), crowded })
    }
}

// === impl Excess ===

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frontend { vip, port, protocol } = self.frontend;
        let port = format!("port {port}/{protocol} of {vip}");
        if self.surplus > 0 {
            let all = MAX_BACKENDS_PER_FRONTEND + self.surplus;
            write!(
                f,
                "{port} has {all} usable backends, and new flows go to {MAX_BACKENDS_PER_FRONTEND}, as many as the data \
                 plane holds"
            )?;
        }
        if let Some(backend) = self.crowded {
            let also = if self.surplus > 0 { "; " } else { "" };
            write!(
                f,
                "{also}{backend} is no backend of {port}: {MAX_FRONTENDS_PER_BACKEND} other frontends lead to it, as many \
                 as the data plane can tell apart"
            )?;
        }
        Ok(())
    }
}
