//! The table, beside the figures of peers from another machine of the same kind.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::measure::Quartiles;

/// One case of one start: ns per packet of each run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) ns: Vec<f64>,
}

/// What is known about a case from elsewhere, ns per packet. Measured once on one core of a 2-vCPU
/// EPYC (Zen 3) VM, kernel 6.18, mitigations on: a yardstick here, a comparison only on that machine.
struct Known {
    name: &'static str,
    must: Option<f64>,
    goal: Option<f64>,
    katran: Option<f64>,
    loxilb: Option<f64>,
    nft: Option<f64>,
}

const UNKNOWN: Known =
    Known { name: "", must: None, goal: None, katran: None, loxilb: None, nft: None };

const KNOWN: [Known; 14] = [
    Known {
        name: "established v4 TCP, 1 flow",
        must: Some(60.0),
        goal: Some(30.0),
        katran: Some(129.0),
        loxilb: Some(269.0),
        ..UNKNOWN
    },
    Known {
        name: "established v4 UDP, 1 flow",
        must: Some(60.0),
        goal: Some(30.0),
        katran: Some(167.0),
        loxilb: Some(226.0),
        ..UNKNOWN
    },
    Known {
        name: "established v6 TCP, 1 flow",
        must: Some(75.0),
        goal: Some(40.0),
        katran: Some(131.0),
        ..UNKNOWN
    },
    Known {
        name: "established v4 TCP, 100k flows",
        must: Some(120.0),
        goal: Some(80.0),
        katran: Some(286.0),
        loxilb: Some(1098.0),
        ..UNKNOWN
    },
    Known {
        name: "new flow each packet, v4 TCP, gate off",
        must: Some(350.0),
        goal: Some(150.0),
        katran: Some(777.0),
        ..UNKNOWN
    },
    Known {
        name: "not ours, v4 TCP",
        must: Some(40.0),
        goal: Some(25.0),
        katran: Some(57.0),
        loxilb: Some(307.0),
        ..UNKNOWN
    },
    Known { name: "not ours, v6 TCP", must: Some(40.0), goal: Some(25.0), ..UNKNOWN },
    Known { name: "live: XDP DNAT + redirect, no lookup", goal: Some(266.0), ..UNKNOWN },
    Known {
        name: "live: Sluice, 1 flow",
        must: Some(310.0),
        goal: Some(290.0),
        katran: Some(393.0),
        loxilb: Some(1066.0),
        ..UNKNOWN
    },
    Known {
        name: "live: Sluice, 100k flows",
        must: Some(360.0),
        goal: Some(320.0),
        katran: Some(557.0),
        loxilb: Some(1466.0),
        ..UNKNOWN
    },
    Known { name: "live: Sluice, new flow each packet", katran: Some(1026.0), ..UNKNOWN },
    Known { name: "live: nft DNAT, 1 flow", nft: Some(1403.0), ..UNKNOWN },
    Known { name: "live: nft DNAT, 100k flows", nft: Some(1666.0), ..UNKNOWN },
    Known { name: "live: nft DNAT, new flow each packet", nft: Some(2560.0), ..UNKNOWN },
];

/// Joins the runs of several starts and prints one line per case, in the order of first sight.
pub(crate) fn print(starts: &[Vec<Measured>]) -> anyhow::Result<()> {
    let mut order = Vec::new();
    let mut runs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for measured in starts.iter().flatten() {
        if !runs.contains_key(measured.name.as_str()) {
            order.push(measured.name.as_str());
        }
        runs.entry(&measured.name).or_default().extend(&measured.ns);
    }
    println!("ns per packet                                  here            |  reference machine");
    println!(
        "{:<40} {:>7} {:>7} {:>7} | {:>5} {:>5} {:>7} {:>7} {:>6}",
        "case", "lower", "median", "upper", "must", "goal", "katran", "loxilb", "nft"
    );
    for name in order {
        let values = runs.remove(name).unwrap_or_default();
        let Quartiles { lower, median, upper } =
            Quartiles::of(values).with_context(|| format!("no runs of {name}"))?;
        let known = KNOWN.iter().find(|known| known.name == name).unwrap_or(&UNKNOWN);
        let [must, goal, katran, loxilb, nft] =
            [known.must, known.goal, known.katran, known.loxilb, known.nft]
                .map(|ns| ns.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}")));
        println!(
            "{name:<40} {lower:>7.1} {median:>7.1} {upper:>7.1} | {must:>5} {goal:>5} {katran:>7} {loxilb:>7} {nft:>6}"
        );
    }
    Ok(())
}
