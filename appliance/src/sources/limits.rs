//! Which VIPs a source may ask for: what its own entry in the configuration says, and what the tokens say that write to it.

use ipnet::IpNet;
use std::net::IpAddr;

/// One list of prefixes, for some sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// For whom; empty for every source.
    pub(crate) sources: Vec<String>,
    /// What they may ask for.
    pub(crate) prefixes: Vec<IpNet>,
}

/// All lists. They hold for a source and not for a request: so they hold for what was kept over a restart too, and a
/// change of the file acts at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `[[vips.source]]`.
    pub(crate) of_sources: Vec<Limit>,
    /// `prefixes` of `[[api.tls.token]]`.
    pub(crate) of_tokens: Vec<Limit>,
}

// === impl Limits ===

impl Limits {
    /// Whether a source may have this VIP. Of either kind one list must have it, unless none of that kind is about the
    /// source. A token without prefixes adds nothing: it must not lift what limits another one.
    pub(crate) fn permit(&self, source: &str, vip: IpAddr) -> bool {
        [&self.of_sources, &self.of_tokens].into_iter().all(|limits| {
            let is_about = |limit: &&Limit| {
                limit.sources.is_empty() || limit.sources.iter().any(|name| name == source)
            };
            let mut about = limits.iter().filter(is_about).peekable();
            about.peek().is_none()
                || about.any(|limit| limit.prefixes.iter().any(|prefix| prefix.contains(&vip)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(sources: &[&str], prefixes: &[&str]) -> Limit {
        Limit {
            sources: sources.iter().map(|name| (*name).to_owned()).collect(),
            prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn both_kinds_of_lists_must_permit() {
        let limits = Limits {
            of_sources: vec![limit(&["east"], &["203.0.113.0/24", "2001:db8::/32"])],
            of_tokens: vec![
                limit(&["east", "north"], &["203.0.113.0/25"]),
                limit(&["north"], &["198.51.100.0/24"]),
            ],
        };
        for (source, vip, permitted) in [
            ("east", "203.0.113.10", true),
            ("east", "203.0.113.200", false),
            ("east", "2001:db8::1", false),
            ("north", "203.0.113.10", true),
            ("north", "198.51.100.1", true),
            ("north", "192.0.2.1", false),
            ("west", "192.0.2.1", true),
        ] {
            assert_eq!(limits.permit(source, vip.parse().unwrap()), permitted, "{source} {vip}");
        }
        let of_all = Limits { of_tokens: vec![limit(&[], &["192.0.2.0/24"])], ..limits };
        assert!(!of_all.permit("west", "198.51.100.1".parse().unwrap()));
    }
}
