//! The health check that annotations ask for.

use super::super::Trouble;
use super::values::{invalid, number, once, seconds, truth, unsupported};
use sluice_api::WantedHealth;

/// How backends are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Probing {
    /// As is usual for where they are.
    #[default]
    AsUsual,
    /// Not at all.
    Off,
    /// So.
    By(WantedHealth),
}

/// The parts of a health check, as they are found.
#[derive(Default)]
pub(super) struct Probe {
    alive: bool,
    pub(super) kind: Option<Kind>,
    request: Option<String>,
    port: Option<u16>,
    every_s: Option<u32>,
    fall: Option<u8>,
}

#[derive(PartialEq)]
pub(super) enum Kind {
    None,
    Tcp,
    Http(String),
}

// === impl Probe ===

impl Probe {
    /// One of kube-loxilb's annotations; 0 stands for the default there.
    pub(super) fn take(&mut self, word: &str, key: &str, value: &str) -> Result<(), Trouble> {
        let read = |high| number(key, value, 0..=high).map(|n| (n > 0).then_some(n));
        match (word, value) {
            ("liveness", _) => self.alive = truth(key, value)?,
            ("probetype", "none" | "tcp") => once(&mut self.kind, key, kind(key, value)?)?,
            ("probetype", "http") => once(&mut self.kind, key, Kind::Http("/".to_owned()))?,
            ("probereq", path) => {
                let path = format!("/{}", path.trim_start_matches('/'));
                if !is_target(&path) {
                    return Err(invalid(key, value, TARGET));
                }
                self.request = Some(path);
            }
            ("probeport", _) => self.port = read(65_535)?.and_then(|n| u16::try_from(n).ok()),
            ("probetimeout", _) => {
                self.every_s = Some(seconds(key, value, 0..=3600)?).filter(|seconds| *seconds > 0);
            }
            ("proberetries", _) => self.fall = read(255)?.and_then(|n| u8::try_from(n).ok()),
            _ => return Err(unsupported(key, value)),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Probing, Trouble> {
        let http_path = match (self.kind, self.request) {
            (Some(Kind::Http(path)), request) => Some(request.unwrap_or(path)),
            (_, Some(request)) => return Err(unsupported("loxilb.io/probereq", &request)),
            (Some(Kind::None), None) => return Ok(Probing::Off),
            (None, None) if !self.alive => return Ok(Probing::AsUsual),
            (None | Some(Kind::Tcp), None) => None,
        };
        Ok(Probing::By(WantedHealth {
            http_path,
            port: self.port,
            interval_ms: self.every_s.map(|s| s.saturating_mul(1000)),
            timeout_ms: None,
            fall: self.fall,
        }))
    }
}

pub(super) fn kind(key: &str, value: &str) -> Result<Kind, Trouble> {
    match (value, value.strip_prefix("http:")) {
        ("none", _) => Ok(Kind::None),
        ("tcp", _) => Ok(Kind::Tcp),
        (_, Some(path)) if is_target(path) => Ok(Kind::Http(path.to_owned())),
        (_, Some(path)) if path.starts_with('/') => Err(invalid(key, value, TARGET)),
        _ => Err(invalid(key, value, "tcp, http:/path or none")),
    }
}

/// What a request line takes, and an appliance: another one would refuse the Service as a whole, on the air or not.
fn is_target(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|byte| byte.is_ascii_graphic())
}

const TARGET: &str = "a path of up to 1024 printable characters of ASCII, without spaces";
