//! What one bridge wishes: kept as it was sent, so that nothing it said is lost, with what was made of it.

use super::convert::{self, Around, prefixes};
use super::texts;
use super::wire::{Beyond, SaidChange, SaidState, Sent};
use crate::human;
use sluice_api::WantedPeer;
use sluice_model::Service;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A bridge's state at one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Who stands behind it.
    pub(crate) owner: String,
    /// Its own count.
    pub(crate) generation: u64,
    /// Prefixes inside its cluster.
    pub(crate) inside: Vec<String>,
    /// BGP peers it wants.
    pub(crate) peers: Vec<WantedPeer>,
    /// What this version does not know of it.
    pub(crate) beyond: Beyond,
    /// Services by name.
    pub(crate) wishes: BTreeMap<String, Arc<BridgeWish>>,
}

/// One service of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeWish {
    /// As it was sent.
    pub(crate) sent: Sent,
    /// The bridge's generation that last changed it.
    pub(crate) generation: u64,
    /// The service, or why none can be made of it.
    pub(crate) made: Result<Arc<Service>, String>,
}

/// Why a bridge's message is refused; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Two clusters under one name.
    #[error("the source belongs to {0:?}; choose another name, or DELETE the source first")]
    OtherOwner(String),
    /// The bridge has said something newer, or another leader has.
    #[error("generation {submitted} is older than {newest}")]
    Older {
        /// What was sent.
        submitted: u64,
        /// What is kept.
        newest: u64,
    },
    /// A generation has one content for ever.
    #[error("generation {0} has other content than before; count on")]
    Altered(u64),
    /// A change that builds on something else.
    #[error("the change builds on generation {base}, and the newest is {newest}; PUT everything")]
    Base {
        /// What it builds on.
        base: u64,
        /// What is kept.
        newest: u64,
    },
    /// A change that does not count on.
    #[error("generation {generation} is not above its base {base}")]
    NotAbove {
        /// What was sent.
        generation: u64,
        /// What it builds on.
        base: u64,
    },
    /// What cannot be guessed: which of two is meant, or what a prefix should be.
    #[error("{0}")]
    Invalid(String),
}

// === impl Bridge ===

impl Bridge {
    /// The state after a complete one; `None` when it is known already.
    pub(crate) fn put(
        known: Option<&Self>,
        state: SaidState,
        nat64_source: Option<Ipv4Addr>,
    ) -> Result<Option<Self>, Refusal> {
        let SaidState { owner, generation, inside, peers, services, beyond } = state;
        let empty = Bridge::default();
        let before = known.unwrap_or(&empty);
        if before.owner != owner {
            texts::check_owner(&owner).map_err(Refusal::Invalid)?;
        }
        if let Some(known) = known {
            known.check_owner(&owner)?;
            if generation < known.generation {
                let newest = known.generation;
                return Err(Refusal::Older { submitted: generation, newest });
            }
        }
        let nets = prefixes(&inside).map_err(Refusal::Invalid)?;
        check_peers(&peers)?;
        let around = Around { inside: &nets, nat64_source };
        let wishes = BTreeMap::new();
        let mut next = Bridge { owner, generation, inside, peers, beyond, wishes };
        for sent in services {
            check_length(&sent)?;
            let wish = before.wish(sent, generation, next.inside == before.inside, around);
            match next.wishes.entry(wish.name().to_owned()) {
                Entry::Vacant(free) => free.insert(wish),
                Entry::Occupied(taken) => return Err(twice("service", taken.key())),
            };
        }
        match known {
            Some(known) if known.generation != generation => Ok(Some(next)),
            Some(known) if *known == next => Ok(None),
            Some(_) => Err(Refusal::Altered(generation)),
            None => Ok(Some(next)),
        }
    }

    /// The state after a change; `None` when it is known already.
    pub(crate) fn patch(
        known: Option<&Self>,
        change: SaidChange,
        nat64_source: Option<Ipv4Addr>,
    ) -> Result<Option<Self>, Refusal> {
        let SaidChange { owner, base, generation, inside, peers, upsert, remove, beyond } = change;
        let Some(known) = known else { return Err(Refusal::Base { base, newest: 0 }) };
        known.check_owner(&owner)?;
        if base != known.generation {
            return Err(Refusal::Base { base, newest: known.generation });
        }
        if generation <= base {
            return Err(Refusal::NotAbove { generation, base });
        }
        let mut next = Bridge { generation, ..known.clone() };
        if let Some(inside) = inside.filter(|inside| *inside != known.inside) {
            next.inside = inside;
        }
        if let Some(peers) = peers {
            check_peers(&peers)?;
            next.peers = peers;
            (next.beyond.peers, next.beyond.ignored) = (beyond.peers, beyond.ignored);
        }
        next.beyond.members.extend(beyond.members);
        let nets = prefixes(&next.inside).map_err(Refusal::Invalid)?;
        let around = Around { inside: &nets, nat64_source };
        let is_same_inside = next.inside == known.inside;
        if !is_same_inside {
            for wish in next.wishes.values_mut() {
                *wish = known.wish(wish.sent.clone(), wish.generation, false, around);
            }
        }
        for name in &remove {
            next.wishes.remove(name);
        }
        for sent in upsert {
            check_length(&sent)?;
            let wish = known.wish(sent, generation, is_same_inside, around);
            next.wishes.insert(wish.name().to_owned(), wish);
        }
        Ok(Some(next))
    }

    /// From what was kept.
    pub(crate) fn kept(
        mut self,
        services: impl IntoIterator<Item = (u64, Sent)>,
        nat64_source: Option<Ipv4Addr>,
    ) -> Result<Self, String> {
        let nets = prefixes(&self.inside)?;
        let around = Around { inside: &nets, nat64_source };
        for (generation, sent) in services {
            let wish = BridgeWish::new(sent, generation, around);
            self.wishes.insert(wish.name().to_owned(), Arc::new(wish));
        }
        Ok(self)
    }

    /// Services that could be made.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> + '_ {
        self.wishes.values().filter_map(|wish| wish.made.as_ref().ok())
    }

    fn check_owner(&self, owner: &str) -> Result<(), Refusal> {
        if self.owner == owner { Ok(()) } else { Err(Refusal::OtherOwner(self.owner.clone())) }
    }

    /// A wish that has not changed is the same one: neither its generation nor its service is new.
    fn wish(
        &self,
        sent: Sent,
        generation: u64,
        is_same_inside: bool,
        around: Around<'_>,
    ) -> Arc<BridgeWish> {
        let before = self.wishes.get(&sent.wanted.name).filter(|known| known.sent == sent);
        match before {
            Some(known) if is_same_inside => Arc::clone(known),
            known => {
                let generation = known.map_or(generation, |known| known.generation);
                Arc::new(BridgeWish::new(sent, generation, around))
            }
        }
    }
}

// === impl BridgeWish ===

impl BridgeWish {
    fn new(sent: Sent, generation: u64, around: Around<'_>) -> Self {
        let made = match &sent.misfit {
            Some(why) => Err(why.clone()),
            None => convert::service(&sent.wanted, around).map(Arc::new),
        };
        BridgeWish { sent, generation, made }
    }

    /// The service's name, as the bridge calls it.
    pub(crate) fn name(&self) -> &str {
        &self.sent.wanted.name
    }
}

/// A name is what a service is reported by, so one that is too long refuses the whole; another mistake in it is told.
fn check_length(sent: &Sent) -> Result<(), Refusal> {
    if sent.wanted.name.len() <= texts::MAX_NAME {
        return Ok(());
    }
    let (beginning, most) = (human::beginning(&sent.wanted.name, 40), texts::MAX_NAME);
    Err(Refusal::Invalid(format!(
        "a service's name ({beginning}…) has more than {most} characters"
    )))
}

fn check_peers(peers: &[WantedPeer]) -> Result<(), Refusal> {
    for (at, peer) in peers.iter().enumerate() {
        texts::check_name(&peer.name)
            .map_err(|why| Refusal::Invalid(format!("a peer is called {:?}: {why}", peer.name)))?;
        if peers.iter().take(at).any(|other| other.name == peer.name) {
            return Err(twice("peer", &peer.name));
        }
    }
    Ok(())
}

fn twice(what: &str, name: &str) -> Refusal {
    Refusal::Invalid(format!("two {what}s are called {name}; name each once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use sluice_api::{SourceChange, SourceState, WantedBackend, WantedService};

    fn wanted(name: &str, vip: &str) -> WantedService {
        WantedService {
            name: name.to_owned(),
            vips: vec![vip.to_owned()],
            port: 80,
            backends: vec![WantedBackend { address: "10.0.0.1".into(), port: 80, weight: 1 }],
            ..WantedService::default()
        }
    }

    fn state(generation: u64, services: &[(&str, &str)]) -> SourceState {
        let services = services.iter().map(|(name, vip)| wanted(name, vip)).collect();
        SourceState { owner: "uid".into(), generation, services, ..SourceState::default() }
    }

    fn put(known: Option<&Bridge>, state: SourceState) -> Bridge {
        Bridge::put(known, state.into(), None).unwrap().unwrap()
    }

    #[test]
    fn what_is_older_altered_or_somebody_elses_is_refused() {
        let known = put(None, state(5, &[("a", "192.0.2.1")]));
        let refused =
            |state: SourceState| Bridge::put(Some(&known), state.into(), None).unwrap_err();
        assert_eq!(
            Bridge::put(Some(&known), state(5, &[("a", "192.0.2.1")]).into(), None),
            Ok(None)
        );
        assert_eq!(refused(state(4, &[])), Refusal::Older { submitted: 4, newest: 5 });
        assert_eq!(refused(state(5, &[])), Refusal::Altered(5));
        let stranger = SourceState { owner: "other".into(), ..state(9, &[]) };
        assert_eq!(refused(stranger), Refusal::OtherOwner("uid".into()));
        let twice = state(6, &[("a", "192.0.2.1"), ("a", "192.0.2.2")]);
        assert!(matches!(refused(twice), Refusal::Invalid(_)));
    }

    #[test]
    fn a_change_names_what_it_builds_on() {
        let known = put(None, state(5, &[("a", "192.0.2.1"), ("b", "192.0.2.2")]));
        let change = |base, generation| SourceChange {
            owner: "uid".into(),
            base,
            generation,
            upsert: vec![wanted("c", "192.0.2.3")],
            remove: vec!["a".into(), "never".into()],
            ..SourceChange::default()
        };
        let patched = |known, change: SourceChange| Bridge::patch(known, change.into(), None);
        let base = Refusal::Base { base: 4, newest: 5 };
        assert_eq!(patched(Some(&known), change(4, 9)), Err(base));
        assert_eq!(patched(None, change(4, 9)), Err(Refusal::Base { base: 4, newest: 0 }));
        let not_above = Refusal::NotAbove { generation: 5, base: 5 };
        assert_eq!(patched(Some(&known), change(5, 5)), Err(not_above));
        let next = patched(Some(&known), change(5, 7)).unwrap().unwrap();
        let wishes: Vec<_> = next.wishes.values().map(|w| (w.name(), w.generation)).collect();
        assert_eq!(wishes, [("b", 5), ("c", 7)], "what did not change keeps its generation");
    }

    #[test]
    fn a_bad_service_is_left_out_and_says_why() {
        let bridge = put(None, state(1, &[("a", "192.0.2.1"), ("b", "192.0.2.300")]));
        let names: Vec<_> = bridge.services().map(|s| s.name.to_string()).collect();
        assert_eq!(names, ["a"]);
        let why = bridge.wishes["b"].made.clone().unwrap_err();
        assert!(why.contains("192.0.2.300"), "{why}");
    }

    #[test]
    fn clients_inside_are_shown_as_the_vip() {
        let known = put(None, state(1, &[("a", "192.0.2.1")]));
        let inside = vec!["10.244.0.0/16".to_owned()];
        let change = SourceChange {
            owner: "uid".into(),
            base: 1,
            generation: 2,
            inside: Some(inside),
            ..SourceChange::default()
        };
        let next = Bridge::patch(Some(&known), change.into(), None).unwrap().unwrap();
        let service = next.services().next().unwrap();
        assert_eq!(*service.full_nat, ["10.244.0.0/16".parse::<IpNet>().unwrap()]);
        assert_eq!(next.wishes["a"].generation, 1, "the service itself has not changed");
    }

    #[test]
    fn an_appliance_without_an_address_for_nat64_says_so() {
        let wanted = WantedService { nat64: true, ..wanted("a", "2001:db8::1") };
        let state = SourceState { services: vec![wanted], ..state(1, &[]) };
        let made = |source: Option<&str>| {
            let source = source.map(|source| source.parse().unwrap());
            let bridge = Bridge::put(None, state.clone().into(), source).unwrap().unwrap();
            bridge.wishes["a"].made.clone()
        };
        assert!(made(Some("10.0.0.9")).unwrap().nat64);
        assert!(made(None).unwrap_err().contains("nat64-source"));
    }

    #[test]
    fn texts_that_no_bridge_writes_are_refused_as_a_whole() {
        let refused = |state: SourceState| match Bridge::put(None, state.into(), None) {
            Err(Refusal::Invalid(why)) => why,
            other => panic!("{other:?}"),
        };
        let owner = "o".repeat(10 << 20);
        let why = refused(SourceState { owner, ..state(1, &[]) });
        assert!(why.contains("128") && why.len() < 200, "{why}");
        let name = "n".repeat(254);
        assert!(refused(state(1, &[(&name, "192.0.2.1")])).contains("253"));
        let peer = sluice_api::WantedPeer { name: "a b".into(), ..Default::default() };
        assert!(refused(SourceState { peers: vec![peer], ..state(1, &[]) }).contains("letters"));
    }
}
