//! REST types of `/api/v1`: the one contract shared by the daemon, the CLI, the status page and the bridge.
//!
//! No behaviour lives here: no IO, no clock, no rendering. Times are RFC 3339 text in UTC, durations are whole
//! seconds, rates are per second, addresses and prefixes are text without a port unless a field says so. Field names
//! are snake case; the values of closed sets are kebab case, except BGP states, which keep the spelling of
//! RFC 4271 §8.2.2.

mod bgp;
mod event;
mod openapi;
mod problem;
mod service;
mod source;
mod status;

pub use bgp::{BgpError, BgpErrorKind, BgpPeer, BgpRoute, BgpSpeaker, BgpState};
pub use event::{Change, ChangeKind};
pub use openapi::openapi_json;
pub use problem::Problem;
pub use service::{Backend, Health, NextHopState, Protocol, Service, ServiceState, Vip};
pub use source::{
    CONTRACT, Held, MAX_SECONDARY_VIPS, OnDown, PeerReport, ServiceReport, SourceChange,
    SourceReport, SourceState, SourceSummary, WantedBackend, WantedHealth, WantedPeer, WantedRoute,
    WantedService,
};
pub use status::{Counters, Drop, Link, RatePoint, Rates, Snapshot, Status, Traffic, XdpMode};

/// Gives a closed set of values the same spelling on the wire, in tables and in metric labels.
macro_rules! spelled {
    ($type:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order in which it is documented.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value as it is written in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use spelled;

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_spelling<T: serde::Serialize + Copy + std::fmt::Display>(all: &[T]) {
        for value in all {
            let json = serde_json::to_value(value).unwrap();
            assert_eq!(json, serde_json::Value::String(value.to_string()));
        }
    }

    #[test]
    fn text_and_json_spell_the_same() {
        assert_spelling(Protocol::ALL);
        assert_spelling(ServiceState::ALL);
        assert_spelling(Health::ALL);
        assert_spelling(NextHopState::ALL);
        assert_spelling(XdpMode::ALL);
        assert_spelling(BgpState::ALL);
        assert_spelling(ChangeKind::ALL);
    }

    #[test]
    fn a_snapshot_survives_json() {
        let snapshot = Snapshot {
            services: vec![Service {
                backends: vec![Backend { health: Health::Draining, ..Backend::default() }],
                ..Service::default()
            }],
            peers: vec![BgpPeer { state: BgpState::OpenConfirm, ..BgpPeer::default() }],
            ..Snapshot::default()
        };
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
