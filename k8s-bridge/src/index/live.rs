//! A Service that is on the air stays there: what is wrong with it is said, and what served before goes on. A new one is
//! refused for the same.

use super::annotations::Asks;
use super::{Trouble, trouble};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

/// What is wrong with a Service, and whether that keeps it from being served.
pub(super) struct Judge {
    is_live: bool,
    troubles: Vec<Trouble>,
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(is_live: bool) -> Self {
        Judge { is_live, troubles: Vec::new() }
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Something is wrong.
    ///
    /// # Errors
    /// The same when the Service is new.
    pub(super) fn take(&mut self, why: Trouble) -> Result<(), Trouble> {
        if !self.is_live {
            return Err(why);
        }
        let message = format!("{}; the Service is served on without that", why.message);
        let why = trouble(why.reason, message);
        if !self.troubles.contains(&why) {
            self.troubles.push(why);
        }
        Ok(())
    }

    pub(super) fn into_troubles(self) -> Vec<Trouble> {
        self.troubles
    }
}

/// The same Service that takes one family where it demands both; none when it does not.
pub(super) fn with_one_family(service: &Service) -> Option<Service> {
    let policy = service.spec.as_ref()?.ip_family_policy.as_deref()?;
    (policy == "RequireDualStack").then(|| {
        let prefers = Some("PreferDualStack".to_owned());
        let spec = service.spec.clone().unwrap_or_default();
        let spec = ServiceSpec { ip_family_policy: prefers, ..spec };
        Service { spec: Some(spec), ..service.clone() }
    })
}

/// Full NAT and NAT64 show no client's address.
pub(super) fn hides_clients(asks: &Asks) -> impl Iterator<Item = Trouble> {
    let all = [(asks.full_nat, "full NAT"), (asks.nat64, "NAT64")];
    all.into_iter().filter(|(is_asked, _)| *is_asked == Some(true)).map(|(_, name)| {
        let what = format!(
            "{name} hides the clients' addresses, and externalTrafficPolicy: Local is there to keep them; take one of \
             them off"
        );
        trouble("ClientAddressLost", what)
    })
}
