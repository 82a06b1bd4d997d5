//! `[api]`: the plain listener for this machine, and TLS for everybody else.

use super::report::Report;
use super::section::Section;
use super::{reserved, values};
use crate::sources::check_source;
use ipnet::IpNet;
use serde_spanned::Spanned;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use toml::de::DeValue;

/// Port of the REST API and the status page unless configured.
const PORT: u16 = 8080;
/// The same under TLS.
const TLS_PORT: u16 = 8443;

/// `[api.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiTls {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Chain in PEM, our own certificate first.
    pub(crate) certificate: PathBuf,
    /// Its key in PEM.
    pub(crate) key: PathBuf,
    /// Whose client certificates count.
    pub(crate) client_ca: Option<PathBuf>,
    /// Who else is let in.
    pub(crate) tokens: Vec<ApiToken>,
}

/// `[[api.tls.token]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiToken {
    /// For logs.
    pub(crate) name: String,
    /// One line.
    pub(crate) file: PathBuf,
    /// Sources it may write to; empty for all.
    pub(crate) sources: Vec<String>,
    /// The VIPs that these may ask for; empty for all.
    pub(crate) prefixes: Vec<IpNet>,
}

/// Where the API listens; the default when it is absent or wrong.
pub(super) fn read(top: &mut Section<'_, '_>, report: &mut Report) -> (SocketAddr, Option<ApiTls>) {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let Some(mut section) = top.table(report, "api") else { return (default, None) };
    let listen = section.or(report, "listen", default, |value| {
        let listen = values::socket(PORT)(value)?;
        if listen.ip().is_loopback() {
            Ok(listen)
        } else {
            let port = listen.port();
            Err(format!(
                "{listen} can be reached from outside, which needs TLS; write \"127.0.0.1:{port}\" and, for others, [api.tls]"
            ))
        }
    });
    let tls = section.table(report, "tls").and_then(|table| tls(table, report));
    section.finish(report);
    (listen, tls)
}

fn tls(mut table: Section<'_, '_>, report: &mut Report) -> Option<ApiTls> {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, TLS_PORT));
    let listen = table.or(report, "listen", everywhere, values::socket(TLS_PORT));
    let example = "certificate = \"/etc/sluice/tls.crt\"";
    let certificate = table.required(report, "certificate", example, values::path);
    let key = table.required(report, "key", "key = \"/etc/sluice/tls.key\"", values::path);
    let client_ca = table.optional(report, "client-ca", values::path).map(Spanned::into_inner);
    let sections = table.tables(report, "token");
    if sections.is_empty() && client_ca.is_none() {
        let message = "lets nobody in; add [[api.tls.token]] with a name and a file, or client-ca";
        report.push(table.offset(), "api.tls", message);
    }
    let tokens = sections.into_iter().filter_map(|section| token(section, report)).collect();
    table.finish(report);
    Some(ApiTls {
        listen,
        certificate: certificate?.into_inner(),
        key: key?.into_inner(),
        client_ca,
        tokens,
    })
}

/// The name of a source, as `PUT /api/v1/sources/NAME` takes it.
fn source(value: &DeValue<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    check_source(&name).map(|()| name).map_err(|why| format!("is no name of a source: {why}"))
}

fn token(mut table: Section<'_, '_>, report: &mut Report) -> Option<ApiToken> {
    let name = table.required(report, "name", "name = \"prod\"", values::text);
    let file = table.required(report, "file", "file = \"/etc/sluice/prod.token\"", values::path);
    let sources = table.list(report, "sources", source).unwrap_or_default();
    let prefixes = reserved::limit(&mut table, report, "prefixes").unwrap_or_default();
    table.finish(report);
    Some(ApiToken {
        name: name?.into_inner(),
        file: file?.into_inner(),
        sources: sources.into_iter().map(Spanned::into_inner).collect(),
        prefixes,
    })
}
