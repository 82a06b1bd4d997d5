//! What a bridge sends, decoded: members that this version does not know are kept as they were sent, and told.
//!
//! The rules are at the head of the contract (`appliance/api/src/source.rs`). One service that cannot be understood is one
//! service that is left out.

use super::texts;
use crate::human;
use crate::raw::{Members, Raw};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use sluice_api::{CONTRACT, SourceChange, SourceState, WantedPeer, WantedService};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a peer's text that are worth repeating.
const SHOWN: usize = 100;

/// A service as a bridge sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// What was understood of it: its name at least.
    pub(crate) wanted: WantedService,
    /// Its own text, when not all of it was understood.
    pub(crate) raw: Option<Raw>,
    /// Members that are not known.
    pub(crate) ignored: Vec<String>,
    /// Why it cannot be served for all that.
    pub(crate) misfit: Option<String>,
}

/// What this version does not know of a source, beside its services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// Members of the whole.
    pub(crate) members: BTreeMap<String, Raw>,
    /// The peers' own text, when not all of it was understood.
    pub(crate) peers: Option<Raw>,
    /// Members of peers.
    pub(crate) ignored: BTreeSet<String>,
}

/// Everything that a bridge wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaidState {
    pub(crate) owner: String,
    pub(crate) generation: u64,
    pub(crate) inside: Vec<String>,
    pub(crate) peers: Vec<WantedPeer>,
    pub(crate) services: Vec<Sent>,
    pub(crate) beyond: Beyond,
}

/// What a bridge changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaidChange {
    pub(crate) owner: String,
    pub(crate) base: u64,
    pub(crate) generation: u64,
    pub(crate) inside: Option<Vec<String>>,
    pub(crate) peers: Option<Vec<WantedPeer>>,
    pub(crate) upsert: Vec<Sent>,
    pub(crate) remove: Vec<String>,
    pub(crate) beyond: Beyond,
}

/// What is read of a service that cannot be read as a whole.
#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    /// Why the rest of it was not kept, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Members whose absence would change what a service means, see the contract.
#[derive(Deserialize)]
struct Requires {
    #[serde(default)]
    requires: Vec<String>,
}

// === impl SaidState ===

impl SaidState {
    /// From the body of a request.
    ///
    /// # Errors
    /// When it is no complete state, or its owner or a name is no text that can be shown.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut all = document(body)?;
        let (peers, beyond) = peers(&mut all)?;
        Ok(SaidState {
            owner: owner(&mut all)?,
            generation: all.required("generation")?,
            inside: all.optional("inside")?.unwrap_or_default(),
            peers: peers.unwrap_or_default(),
            services: services(all.list("services")?.ok_or("services is missing")?)?,
            beyond: beyond.with(all),
        })
    }
}

impl From<SourceState> for SaidState {
    fn from(state: SourceState) -> Self {
        let SourceState { owner, generation, inside, peers, services } = state;
        let services = services.into_iter().map(Sent::from).collect();
        SaidState { owner, generation, inside, peers, services, beyond: Beyond::default() }
    }
}

// === impl SaidChange ===

impl SaidChange {
    /// From the body of a request.
    ///
    /// # Errors
    /// When it is no change, or its owner or a name is no text that can be shown.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let mut all = document(body)?;
        let (peers, beyond) = peers(&mut all)?;
        Ok(SaidChange {
            owner: owner(&mut all)?,
            base: all.required("base")?,
            generation: all.required("generation")?,
            inside: all.optional("inside")?,
            peers,
            upsert: services(all.list("upsert")?.ok_or("upsert is missing")?)?,
            remove: all.required("remove")?,
            beyond: beyond.with(all),
        })
    }
}

impl From<SourceChange> for SaidChange {
    fn from(change: SourceChange) -> Self {
        let SourceChange { owner, base, generation, inside, peers, upsert, remove } = change;
        let upsert = upsert.into_iter().map(Sent::from).collect();
        let beyond = Beyond::default();
        SaidChange { owner, base, generation, inside, peers, upsert, remove, beyond }
    }
}

// === impl Sent ===

impl Sent {
    /// Reads one service.
    ///
    /// # Errors
    /// When not even its name can be read.
    pub(crate) fn read(value: &RawValue) -> Result<Self, String> {
        if let Err(why) = texts::check_all(value.get()) {
            return Sent::refused(value, why);
        }
        let (wanted, ignored) = known::<WantedService>(value);
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(error) => {
                let Named { name, refused } = named(value)?;
                let misfit = refused.unwrap_or_else(|| {
                    format!("it does not fit contract {CONTRACT} of this version: {error}")
                });
                let misfit = Some(misfit);
                let wanted = WantedService { name, ..WantedService::default() };
                return Ok(Sent { wanted, raw: Some(value.into()), ignored: Vec::new(), misfit });
            }
        };
        let raw = (!ignored.is_empty()).then(|| Raw::from(value));
        // What this version requires, it knows; so whatever is named there is too much.
        let required = ignored.contains("requires").then(|| serde_json::from_str(value.get()));
        let required = required.and_then(Result::ok).map(|Requires { requires }| requires);
        let misfit = required.filter(|names| !names.is_empty()).map(|names| {
            let names = names.join(", ");
            format!("it requires {names}, which this version (contract {CONTRACT}) does not know: update the appliance")
        });
        let ignored = ignored.into_iter().filter(|name| name != "requires").collect();
        Ok(Sent { wanted, raw, ignored, misfit })
    }
}

impl Sent {
    /// Texts that nobody should see are not kept: of such a service only the name is, if that is one.
    fn refused(value: &RawValue, why: String) -> Result<Self, String> {
        let Named { name, .. } = named(value)?;
        texts::check_name(&name).map_err(|_| format!("a service's name: {why}"))?;
        let rest = Named { name: name.clone(), refused: Some(why.clone()) };
        let raw = serde_json::value::to_raw_value(&rest).map_err(|error| error.to_string())?;
        let wanted = WantedService { name, ..WantedService::default() };
        let raw = Some(Raw::from(raw.as_ref()));
        Ok(Sent { wanted, raw, ignored: Vec::new(), misfit: Some(why) })
    }
}

impl From<WantedService> for Sent {
    fn from(wanted: WantedService) -> Self {
        Sent { wanted, ..Sent::default() }
    }
}

impl Serialize for Sent {
    /// As it was sent.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.raw {
            Some(raw) => raw.serialize(to),
            None => self.wanted.serialize(to),
        }
    }
}

// === impl Beyond ===

impl Beyond {
    /// And what else is not known. What cannot be shown is not kept.
    fn with(mut self, rest: Members<'_>) -> Self {
        for (name, value) in rest.rest() {
            if texts::check_all(value.as_str()).is_ok() {
                self.members.insert(name, value);
            } else {
                self.ignored.insert(name);
            }
        }
        self
    }
}

fn named(value: &RawValue) -> Result<Named, String> {
    serde_json::from_str(value.get()).map_err(|error| format!("a service has no name: {error}"))
}

fn owner(all: &mut Members<'_>) -> Result<String, String> {
    let owner: String = all.required("owner")?;
    texts::check(&owner).map(|()| owner).map_err(|why| format!("owner: {why}"))
}

/// The members of a body.
fn document(body: &[u8]) -> Result<Members<'_>, String> {
    // A byte order mark is no part of JSON (RFC 8259 §8.1), and may be ignored.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let all = Members::of(text)?;
    all.names().try_for_each(texts::check)?;
    Ok(all)
}

fn services(values: Vec<&RawValue>) -> Result<Vec<Sent>, String> {
    values.into_iter().map(Sent::read).collect()
}

/// Peers, where some are said, with what is not known of them.
pub(crate) fn peers(all: &mut Members<'_>) -> Result<(Option<Vec<WantedPeer>>, Beyond), String> {
    let Some(value) = all.raw("peers") else { return Ok((None, Beyond::default())) };
    let (peers, ignored) = known::<Option<Vec<WantedPeer>>>(value);
    let mut peers = peers.map_err(|error| format!("peers: {error}"))?;
    let is_shown = texts::check_all(value.get()).is_ok();
    for peer in peers.iter_mut().flatten().filter(|_| !is_shown) {
        // It is no address then, and is reported so.
        peer.address = human::visible(human::beginning(&peer.address, SHOWN));
        peer.appliances.retain(|name| texts::check(name).is_ok());
    }
    let ignored: BTreeSet<String> = ignored
        .iter()
        .map(|name| format!("peers{}", human::visible(human::beginning(name, SHOWN))))
        .collect();
    let raw = (!ignored.is_empty() && is_shown).then(|| Raw::from(value));
    Ok((peers, Beyond { peers: raw, ignored, ..Beyond::default() }))
}

/// A value, and the members in it that nobody has read. Elements of a list are told as one: `backends[].zone`.
fn known<'a, T: Deserialize<'a>>(value: &'a RawValue) -> (serde_json::Result<T>, BTreeSet<String>) {
    let mut ignored = BTreeSet::new();
    let mut from = serde_json::Deserializer::from_str(value.get());
    let read = serde_ignored::deserialize(&mut from, |path| {
        let path = path.to_string();
        let mut name = String::new();
        for part in path.split('.').filter(|part| *part != "?") {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                name.push_str("[]");
            } else {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(part);
            }
        }
        ignored.insert(name);
    });
    (read, ignored)
}

#[cfg(test)]
mod tests;
