//! `[data-plane]`.

use super::pattern::Patterns;
use super::report::Report;
use super::section::Section;
use super::values;
use crate::human;
use serde_spanned::Spanned;
use sluice_xdp::AttachPolicy;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Fewer make no sense with tables per CPU, more do not fit into the memory of the machines this is for.
const MAX_FLOWS: std::ops::RangeInclusive<u32> = 4096..=1 << 26;

/// `[data-plane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataPlane {
    /// Links to work on.
    pub(crate) interfaces: Patterns,
    /// How XDP may be attached.
    pub(crate) attach: AttachPolicy,
    /// Where maps and links are pinned.
    pub(crate) pin_dir: PathBuf,
    /// Room of the flow table; none: as the machine's memory allows.
    pub(crate) max_flows: Option<u32>,
    /// What IPv4 backends see of clients of an IPv6 VIP; none: such services are refused.
    pub(crate) nat64_source: Option<Ipv4Addr>,
}

/// The data plane; `None` when something necessary is missing or wrong.
pub(super) fn data_plane(top: &mut Section<'_, '_>, report: &mut Report) -> Option<DataPlane> {
    const EXAMPLE: &str = "interfaces = [\"eth*\"]";
    let Some(mut section) = top.table(report, "data-plane") else {
        report.missing(
            top.offset(),
            "data-plane".to_owned(),
            &format!("[data-plane] with {EXAMPLE}"),
        );
        return None;
    };
    let patterns = section.list(report, "interfaces", values::text);
    let listed = section.required(report, "interfaces", EXAMPLE, |_| Ok(()));
    let offset = listed.map_or(section.offset(), |listed| listed.span().start);
    let interfaces = patterns.and_then(|patterns| interfaces(&section, report, &patterns, offset));
    let attach = section.or(
        report,
        "attach",
        AttachPolicy::Auto,
        values::choice(&[
            ("auto", AttachPolicy::Auto),
            ("native", AttachPolicy::Native),
            ("generic", AttachPolicy::Generic),
        ]),
    );
    let pin_dir = section.or(report, "pin-dir", PathBuf::from("/sys/fs/bpf/sluice"), values::path);
    let max_flows = section.optional(report, "max-flows", values::integer(MAX_FLOWS));
    let nat64_source = section.optional(report, "nat64-source", values::unicast_ipv4);
    section.finish(report);
    let nat64_source = nat64_source.map(Spanned::into_inner);
    let max_flows = max_flows.map(Spanned::into_inner);
    Some(DataPlane { interfaces: interfaces?, attach, pin_dir, max_flows, nat64_source })
}

fn interfaces(
    section: &Section<'_, '_>,
    report: &mut Report,
    patterns: &[Spanned<String>],
    offset: usize,
) -> Option<Patterns> {
    let at = section.at("interfaces");
    let mut selected = Patterns::default();
    for pattern in patterns {
        if let Err(message) = selected.add(pattern.get_ref()) {
            report.push(pattern.span().start, &at, message);
        }
    }
    if selected.includes_any() {
        return Some(selected);
    }
    report.push(
        offset,
        at,
        "selects no link; write patterns like \"eth*\", and \"!eth9\" to leave one out",
    );
    None
}

/// The kernel's name for this host.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "sluice".to_owned() } else { human::visible(name) }
}
