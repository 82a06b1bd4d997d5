//! The configuration file: one TOML document, read in two stages.
//!
//! The raw document keeps the place of every key and value. Validation turns it into a [`Config`] or into the list
//! of all mistakes, each with its line. Nothing is half accepted.

mod api;
mod bgp;
mod check;
mod cross;
mod general;
mod pattern;
mod report;
mod reserved;
mod sctp;
mod section;
mod service;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use api::{ApiTls, ApiToken};
pub(crate) use bgp::{Bgp, DEFAULT_CONNECT_RETRY, DEFAULT_HOLD_TIME};
pub(crate) use check::check;
pub(crate) use general::DataPlane;
pub(crate) use pattern::Patterns;
pub(crate) use report::ConfigError;
pub(crate) use reserved::Addresses;
pub(crate) use service::{KEPT, PROBE_TIMEOUT, WEIGHT, default_idle_timeout as idle_timeout};
pub(crate) use values::{
    Community, community_of as community, not_routed, spelled, written_duration,
};

use crate::files;
use crate::sources::{Limit, Limits};
use report::{Mistake, Report};
use section::Section;
use sluice_model::{Reserved, Service};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// A configuration that holds together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// How the appliance calls itself.
    pub(crate) name: String,
    /// Where the ledger and the lock live.
    pub(crate) state_dir: PathBuf,
    /// REST and status page.
    pub(crate) api_listen: SocketAddr,
    /// The same for who is not on this machine; none: nobody.
    pub(crate) api_tls: Option<ApiTls>,
    /// XDP.
    pub(crate) data_plane: DataPlane,
    /// None: VIPs are announced to nobody.
    pub(crate) bgp: Option<Bgp>,
    /// Which addresses may be VIPs and backends.
    pub(crate) addresses: Addresses,
    /// By name, without clashes.
    pub(crate) services: Vec<Service>,
}

// === impl Config ===

impl Config {
    /// What sources may ask for.
    pub(crate) fn limits(&self) -> Limits {
        let tokens = self.api_tls.iter().flat_map(|tls| &tls.tokens);
        let limited = tokens.filter(|token| !token.prefixes.is_empty());
        let of_token = |token: &ApiToken| Limit {
            sources: token.sources.clone(),
            prefixes: token.prefixes.clone(),
        };
        Limits {
            of_sources: self.addresses.sources.clone(),
            of_tokens: limited.map(of_token).collect(),
        }
    }

    /// What the file says of addresses that are not free.
    pub(crate) fn reserved(&self) -> Reserved {
        let (tls, data_plane) = (self.api_tls.as_ref(), Some(&self.data_plane));
        self.addresses.reserved(self.api_listen, tls, data_plane, self.bgp.as_ref())
    }
}

/// Reads and validates a file.
///
/// # Errors
/// When it cannot be read, or with every mistake in it.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        files::text(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|mistakes| ConfigError::Mistakes { path: path.to_owned(), mistakes })
}

/// Validates a document.
pub(crate) fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let mut report = Report::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    errors.iter().for_each(|error| report.syntax(error));
    let config = read(Section::new(document.get_ref(), "", 0), &mut report);
    let mistakes = report.into_mistakes();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

/// Reads everything there is, however much of it is wrong; `None` when something necessary was.
fn read(mut top: Section<'_, '_>, report: &mut Report) -> Option<Config> {
    let name = top.optional(report, "name", values::text).map(serde_spanned::Spanned::into_inner);
    let state_dir = top.or(report, "state-dir", PathBuf::from("/var/lib/sluice"), values::path);
    let (api_listen, api_tls) = api::read(&mut top, report);
    let data_plane = general::data_plane(&mut top, report);
    let bgp = bgp::read(&mut top, report);
    let addresses = reserved::read(&mut top, report);
    let services = service::read_all(&mut top, report);
    let nat64_source = data_plane.as_ref().and_then(|data_plane| data_plane.nat64_source);
    cross::check(&services, nat64_source.is_some(), report);
    let in_use =
        addresses.reserved(api_listen, api_tls.as_ref(), data_plane.as_ref(), bgp.as_ref());
    reserved::check(&services, &in_use, report);
    top.finish(report);
    let has_nat64 = nat64_source.is_some();
    Some(Config {
        name: name.unwrap_or_else(general::host_name),
        state_dir,
        api_listen,
        api_tls,
        data_plane: data_plane?,
        bgp,
        addresses,
        services: services.into_iter().filter_map(|raw| raw.into_service(has_nat64)).collect(),
    })
}
