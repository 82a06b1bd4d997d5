//! From counters to rates: two readings, and two minutes of history. The clock is a parameter.

use super::time::unix;
use sluice_api::{Counters, Drop, RatePoint, Rates, Traffic};
use sluice_xdp::{Counters as Reading, Frontend, Snapshot};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

/// One point a second: two minutes, as the status page shows them.
const HISTORY: usize = 120;

/// The last two readings.
#[derive(Default)]
pub(crate) struct Meter {
    current: Snapshot,
    previous: Snapshot,
    read_at: Option<Instant>,
    /// Between the two readings; 0 while there is only one.
    seconds: f64,
    history: VecDeque<RatePoint>,
}

// === impl Meter ===

impl Meter {
    /// Takes a reading.
    pub(crate) fn feed(&mut self, reading: Snapshot, now: Instant, wall: SystemTime) {
        self.seconds = self.read_at.map_or(0.0, |before| (now - before).as_secs_f64());
        self.read_at = Some(now);
        self.previous = std::mem::replace(&mut self.current, reading);
        if self.seconds > 0.0 {
            let drops = self.drops().iter().map(|drop| drop.rate).sum();
            self.history.push_back(RatePoint { at: unix(wall), rates: self.total(), drops });
        }
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    pub(super) fn history(&self) -> Vec<RatePoint> {
        self.history.iter().copied().collect()
    }

    pub(super) fn flows(&self) -> u64 {
        self.current.flows
    }

    /// 0 before anything was read.
    pub(super) fn max_flows(&self) -> u64 {
        u64::from(self.current.max_flows)
    }

    pub(super) fn passed(&self) -> Traffic {
        let passed = self.current.passed;
        Traffic { packets: passed.packets, bytes: passed.bytes }
    }

    /// Rates over all frontends.
    pub(super) fn total(&self) -> Rates {
        let mut total = Rates::default();
        for (frontend, reading) in &self.current.frontends {
            add_rates(&mut total, self.rates(reading, self.previous.frontends.get(frontend)));
        }
        total
    }

    /// Sums over some frontends.
    pub(super) fn frontends(&self, frontends: impl Iterator<Item = Frontend>) -> (Counters, Rates) {
        self.sum(frontends.map(|frontend| {
            (self.current.frontends.get(&frontend), self.previous.frontends.get(&frontend))
        }))
    }

    /// Sums over one backend's share of some frontends.
    pub(super) fn backend(
        &self,
        frontends: impl Iterator<Item = Frontend>,
        backend: SocketAddr,
    ) -> (Counters, Rates) {
        self.sum(frontends.map(|frontend| {
            let key = (frontend, backend);
            (self.current.backends.get(&key), self.previous.backends.get(&key))
        }))
    }

    /// Dropped packets by reason.
    pub(super) fn drops(&self) -> Vec<Drop> {
        let before = |reason: &str| {
            self.previous.drops.iter().find(|(known, _)| *known == reason).map(|(_, n)| *n)
        };
        let drop = |(reason, packets): &(&'static str, u64)| Drop {
            reason: (*reason).to_owned(),
            packets: *packets,
            rate: self.rate(*packets, before(reason)),
        };
        self.current.drops.iter().map(drop).collect()
    }

    fn sum<'a>(
        &self,
        readings: impl Iterator<Item = (Option<&'a Reading>, Option<&'a Reading>)>,
    ) -> (Counters, Rates) {
        let (mut counters, mut rates) = (Counters::default(), Rates::default());
        for (current, previous) in readings {
            let Some(current) = current else { continue };
            counters.packets_in += current.to_backends.packets;
            counters.bytes_in += current.to_backends.bytes;
            counters.packets_out += current.to_clients.packets;
            counters.bytes_out += current.to_clients.bytes;
            counters.new_flows += current.new_flows;
            add_rates(&mut rates, self.rates(current, previous));
        }
        (counters, rates)
    }

    fn rates(&self, current: &Reading, previous: Option<&Reading>) -> Rates {
        // What was not there at the last reading has counted since: from zero.
        let zero = Reading::default();
        let previous = previous.unwrap_or(&zero);
        let rate = |of: fn(&Reading) -> u64| self.rate(of(current), Some(of(previous)));
        Rates {
            packets_in: rate(|r| r.to_backends.packets),
            bytes_in: rate(|r| r.to_backends.bytes),
            packets_out: rate(|r| r.to_clients.packets),
            bytes_out: rate(|r| r.to_clients.bytes),
            new_flows: rate(|r| r.new_flows),
        }
    }

    /// Per second; 0 while there is one reading only, and when a counter began anew.
    #[expect(clippy::cast_precision_loss, reason = "rates are shown with a few digits")]
    fn rate(&self, current: u64, previous: Option<u64>) -> f64 {
        if self.seconds > 0.0 {
            current.saturating_sub(previous.unwrap_or(0)) as f64 / self.seconds
        } else {
            0.0
        }
    }
}

fn add_rates(total: &mut Rates, more: Rates) {
    total.packets_in += more.packets_in;
    total.bytes_in += more.bytes_in;
    total.packets_out += more.packets_out;
    total.bytes_out += more.bytes_out;
    total.new_flows += more.new_flows;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn frontend(last: u8) -> Frontend {
        let protocol = sluice_xdp::Protocol::Tcp;
        Frontend { vip: [203, 0, 113, last].into(), port: 80, protocol }
    }

    fn reading(counts: &[(u8, u64)], dropped: u64) -> Snapshot {
        let counters = |n| Reading {
            to_backends: sluice_xdp::Traffic { packets: n, bytes: n * 100 },
            new_flows: n / 10,
            ..Reading::default()
        };
        Snapshot {
            frontends: counts.iter().map(|(f, n)| (frontend(*f), counters(*n))).collect(),
            backends: BTreeMap::new(),
            drops: vec![("no_next_hop", dropped)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut meter = Meter::default();
        meter.feed(reading(&[(1, 1000)], 5), start, wall);
        assert_eq!(meter.total(), Rates::default(), "one reading is no rate");
        assert!(meter.history().is_empty());

        meter.feed(reading(&[(1, 3000), (2, 500)], 9), start + Duration::from_secs(2), wall);
        let (counters, rates) = meter.frontends([frontend(1)].into_iter());
        assert_eq!((counters.packets_in, counters.bytes_in), (3000, 300_000));
        assert_eq!((rates.packets_in, rates.bytes_in, rates.new_flows), (1000.0, 100_000.0, 100.0));
        assert_eq!(meter.total().packets_in, 1250.0);
        assert_eq!(meter.drops()[0].rate, 2.0);
        assert_eq!(meter.history().last().unwrap().drops, 2.0);

        // A frontend that was removed and came back counts from zero: no negative rate.
        meter.feed(reading(&[(1, 10)], 9), start + Duration::from_secs(3), wall);
        assert_eq!(meter.total().packets_in, 0.0);
        assert_eq!(meter.frontends([frontend(9)].into_iter()), Default::default());
    }

    #[test]
    fn history_is_two_minutes() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for second in 0..200 {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            meter.feed(reading(&[(1, second)], 0), start + Duration::from_secs(second), wall);
        }
        let history = meter.history();
        assert_eq!(history.iter().map(|p| p.at).collect::<Vec<_>>(), (80..200).collect::<Vec<_>>());
    }
}
