//! What `/api/v1/events` sends.

use crate::spelled;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Readiness of the appliance: `ready`, `not-ready`.
    Appliance,
    /// The generation that is programmed.
    Generation,
    /// A problem appeared or was solved.
    Problem,
    /// A link's XDP mode, or `down`.
    Link,
    /// A service's state.
    Service,
    /// A backend's health.
    Backend,
    /// A VIP: `announced`, `withdrawn`, `absent` (not on the link).
    Vip,
    /// A peer's session state.
    Peer,
    /// An announced prefix.
    Route,
}

spelled!(ChangeKind {
    Appliance => "appliance",
    Generation => "generation",
    Problem => "problem",
    Link => "link",
    Service => "service",
    Backend => "backend",
    Vip => "vip",
    Peer => "peer",
    Route => "route",
});

/// One difference between two snapshots; the data of a `change` event.
///
/// The server sends differences between what this client saw last and what holds now: of several changes in quick
/// succession the last one wins, and counters are never the subject of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// What sort of thing changed.
    pub kind: ChangeKind,
    /// Which one: name, address or prefix; of a backend `service address:port`.
    #[schema(example = "web 10.1.0.11:8080")]
    pub subject: String,
    /// The value before; absent when the subject is new.
    #[schema(example = "up")]
    pub from: Option<String>,
    /// The value now; absent when the subject is gone.
    #[schema(example = "down")]
    pub to: Option<String>,
    /// Why, where it is known.
    #[schema(example = "connection refused")]
    pub reason: Option<String>,
}
