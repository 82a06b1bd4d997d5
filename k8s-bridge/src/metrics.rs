//! What is counted, and `/metrics` in the Prometheus text exposition format 0.0.4.

use crate::index::LeftOut;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the push latency's buckets, in milliseconds: a change in one network takes one or two, a full set of
/// thousands of services some hundred.
const BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 100, 500, 2_000, 10_000];

/// Every number the bridge shows.
#[derive(Debug, Default)]
pub struct Metrics {
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// By verb, kind and result.
    api: BTreeMap<(&'static str, &'static str, String), u64>,
    watch_lists: BTreeMap<&'static str, u64>,
    watch_errors: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    /// By appliance, verb and result.
    pushes: BTreeMap<(String, &'static str, &'static str), u64>,
    latency: BTreeMap<String, Latency>,
    state: State,
}

#[derive(Clone, Debug, Default)]
struct Latency {
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum: Duration,
}

/// How things are now, as opposed to what happened.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// This replica acts.
    pub is_leader: bool,
    /// Every first list was read.
    pub is_synced: bool,
    /// Generation of the wanted state; 0 for none.
    pub generation: u64,
    /// Services by state.
    pub services: BTreeMap<&'static str, usize>,
    /// Wanted services of the appliances.
    pub wanted: usize,
    /// Appliances by URL, with their state in one word.
    pub appliances: Vec<(String, &'static str)>,
    /// What of Services there is no place for on an appliance.
    pub left_out: LeftOut,
    /// Pools: name, addresses in use, addresses left.
    pub pools: BTreeMap<String, (u128, u128)>,
}

// === impl Metrics ===

impl Metrics {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to the API server was answered.
    pub fn api(&self, verb: &'static str, kind: &'static str, error: Option<&kube::Error>) {
        let result = match error {
            None => "ok".to_owned(),
            Some(kube::Error::Api(status)) => status.code.to_string(),
            Some(_) => "unreachable".to_owned(),
        };
        *self.numbers().api.entry((verb, kind, result)).or_default() += 1;
    }

    /// A kind is listed anew.
    pub fn watch_list(&self, kind: &'static str) {
        *self.numbers().watch_lists.entry(kind).or_default() += 1;
    }

    /// A watch broke.
    pub fn watch_error(&self, kind: &'static str) {
        *self.numbers().watch_errors.entry(kind).or_default() += 1;
    }

    /// An event was written, or had to be left out.
    pub fn event(&self, result: &'static str) {
        *self.numbers().events.entry(result).or_default() += 1;
    }

    /// An appliance answered.
    pub fn push(&self, url: &str, verb: &'static str, result: &'static str, took: Duration) {
        let mut numbers = self.numbers();
        *numbers.pushes.entry((url.to_owned(), verb, result)).or_default() += 1;
        if verb == "get" || result != "ok" {
            return;
        }
        let latency = numbers.latency.entry(url.to_owned()).or_default();
        latency.count += 1;
        latency.sum += took;
        for (count, bound) in latency.buckets.iter_mut().zip(BUCKETS_MS) {
            *count += u64::from(took <= Duration::from_millis(bound));
        }
    }

    /// How things are now.
    pub fn set_state(&self, state: State) {
        self.numbers().state = state;
    }

    /// How things are now.
    #[must_use]
    pub fn state(&self) -> State {
        self.numbers().state.clone()
    }

    /// The whole page.
    #[must_use]
    pub fn render(&self) -> String {
        let numbers = self.numbers();
        let mut page = Page::default();
        page.family("sluice_bridge_build_info", "gauge", "Version; always 1.");
        page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        now(&mut page, &numbers.state);
        page.family("sluice_bridge_api_requests_total", "counter", "Requests to the API server.");
        for ((verb, kind, result), count) in &numbers.api {
            page.sample("", &[("verb", verb), ("kind", kind), ("result", result)], count);
        }
        page.family("sluice_bridge_watch_lists_total", "counter", "Times a kind was listed.");
        for (kind, count) in &numbers.watch_lists {
            page.sample("", &[("kind", kind)], count);
        }
        page.family("sluice_bridge_watch_errors_total", "counter", "Times a watch broke.");
        for (kind, count) in &numbers.watch_errors {
            page.sample("", &[("kind", kind)], count);
        }
        page.family("sluice_bridge_events_total", "counter", "Events, by what became of them.");
        for (result, count) in &numbers.events {
            page.sample("", &[("result", result)], count);
        }
        page.family("sluice_bridge_pushes_total", "counter", "Requests to appliances.");
        for ((url, verb, result), count) in &numbers.pushes {
            page.sample("", &[("appliance", url), ("verb", verb), ("result", result)], count);
        }
        let name = "sluice_bridge_push_seconds";
        page.family(name, "histogram", "From sending a change to its acceptance.");
        for (url, latency) in &numbers.latency {
            for (count, bound) in latency.buckets.iter().zip(BUCKETS_MS) {
                let bound = Duration::from_millis(bound).as_secs_f64().to_string();
                page.sample("_bucket", &[("appliance", url), ("le", &bound)], count);
            }
            page.sample("_bucket", &[("appliance", url), ("le", "+Inf")], latency.count);
            page.sample("_sum", &[("appliance", url)], latency.sum.as_secs_f64());
            page.sample("_count", &[("appliance", url)], latency.count);
        }
        page.text
    }
}

fn now(page: &mut Page, state: &State) {
    page.family("sluice_bridge_leader", "gauge", "1 when this replica acts.");
    page.sample("", &[], u8::from(state.is_leader));
    page.family("sluice_bridge_synced", "gauge", "1 when every first list was read.");
    page.sample("", &[], u8::from(state.is_synced));
    page.family("sluice_bridge_generation", "gauge", "Generation of the wanted state.");
    page.sample("", &[], state.generation);
    page.family("sluice_bridge_services", "gauge", "Services of ours, by state.");
    for (name, count) in &state.services {
        page.sample("", &[("state", name)], count);
    }
    page.family(
        "sluice_bridge_wanted_services",
        "gauge",
        "Frontends the appliances are asked for.",
    );
    page.sample("", &[], state.wanted);
    page.family(
        "sluice_bridge_left_out",
        "gauge",
        "Endpoints and ports of Services that are too large for an appliance.",
    );
    page.sample("", &[("what", "endpoints")], state.left_out.endpoints);
    page.sample("", &[("what", "ports")], state.left_out.ports);
    page.family("sluice_bridge_appliance_up", "gauge", "1 when the appliance takes changes.");
    for (url, word) in &state.appliances {
        page.sample("", &[("appliance", url), ("state", word)], u8::from(*word == "Up"));
    }
    page.family("sluice_bridge_pool_used", "gauge", "Addresses in use.");
    for (pool, (used, _)) in &state.pools {
        page.sample("", &[("pool", pool)], used);
    }
    page.family("sluice_bridge_pool_free", "gauge", "Addresses left.");
    for (pool, (_, free)) in &state.pools {
        page.sample("", &[("pool", pool)], free);
    }
}

/// Text under construction.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

// === impl Page ===

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Writing to a string cannot fail.
            let _infallible = write!(self.text, "{before}{label}=\"{text}\"");
        }
        let _infallible =
            writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_family_once_and_escapes_labels() {
        let metrics = Metrics::default();
        metrics.api("patch", "Service", None);
        metrics.push("https://a\"b", "put", "ok", Duration::from_millis(3));
        metrics.set_state(State { is_leader: true, generation: 7, ..State::default() });
        let page = metrics.render();
        for line in [
            "sluice_bridge_leader 1",
            "sluice_bridge_left_out{what=\"ports\"} 0",
            "sluice_bridge_generation 7",
            "sluice_bridge_api_requests_total{verb=\"patch\",kind=\"Service\",result=\"ok\"} 1",
            "sluice_bridge_push_seconds_bucket{appliance=\"https://a\\\"b\",le=\"0.002\"} 0",
            "sluice_bridge_push_seconds_bucket{appliance=\"https://a\\\"b\",le=\"0.005\"} 1",
            "sluice_bridge_push_seconds_count{appliance=\"https://a\\\"b\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        let mut types: Vec<_> = page.lines().filter(|l| l.starts_with("# TYPE")).collect();
        types.dedup();
        assert_eq!(types.len(), page.matches("# TYPE").count());
    }
}
