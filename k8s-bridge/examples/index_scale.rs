//! What the index costs: `cargo run --release -p sluice-bridge --example index_scale [SERVICES [ENDPOINTS]]`.
//!
//! Each figure is the median and the worst of many; memory is what the process has more than before.

use serde_json::{Value, json};
use sluice_bridge::index::{Changes, Index, Object, Settings};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let services = numbers.next().transpose()?.unwrap_or(2000);
    let endpoints = numbers.next().transpose()?.unwrap_or(10);
    for sharing in ["Exclusive", "Shared"] {
        println!("{services} services with {endpoints} endpoints each, {sharing} addresses");
        measure(services, endpoints, sharing)?;
    }
    Ok(())
}

fn measure(services: u32, endpoints: u32, sharing: &str) -> Result<(), Failure> {
    let settings =
        Settings { class: "sluice.dev/edge".into(), source: "prod".into(), ..Settings::default() };
    let mut index = Index::new(settings);
    let before = resident()?;
    let mut feed = Duration::ZERO;
    let nodes = (0..100).map(node);
    let all =
        nodes.chain((0..services).flat_map(|s| [service(s, false), slice(s, endpoints, true)]));
    for object in all.chain([pool(services, sharing)]) {
        let object = object?;
        let start = Instant::now();
        index.apply(object);
        feed += start.elapsed();
    }
    let start = Instant::now();
    index.synced();
    let changes = index.drain();
    println!("  first lists fed       {feed:?}");
    println!("  first drain           {:?}, {} wanted", start.elapsed(), changes.upsert.len());
    drop(changes);
    println!("  memory                {} KiB", resident()?.saturating_sub(before));
    let each = |what: &str, index: &mut Index, make: &dyn Fn(u32) -> Result<Object, Failure>| {
        let mut spent = Vec::new();
        for s in 0..services.min(500) {
            let object = make(s)?;
            let start = Instant::now();
            index.apply(object);
            let changes: Changes = index.drain();
            spent.push((start.elapsed(), changes.upsert.len()));
        }
        spent.sort_unstable();
        let (median, _) = spent.get(spent.len() / 2).copied().unwrap_or_default();
        let (worst, told) = spent.last().copied().unwrap_or_default();
        println!("  {what:<21} {median:?}, worst {worst:?} ({told} wanted)");
        Ok::<(), Failure>(())
    };
    each("an endpoint goes", &mut index, &|s| slice(s, endpoints, false))?;
    each("a port changes", &mut index, &|s| service(s, true))?;
    each("a node's heartbeat", &mut index, &|s| node(s % 100))?;
    each("a new service", &mut index, &|s| service(services + s, false))?;
    each("the pool is edited", &mut index, &|s| pool(services - s % 2, sharing))?;
    let mut spent = Vec::new();
    for s in 0..services.min(500) {
        let object = service(s, false)?;
        let start = Instant::now();
        index.delete(&object);
        let _gone = index.drain();
        spent.push(start.elapsed());
    }
    spent.sort_unstable();
    println!("  a service goes        {:?}, worst {:?}", spent.get(spent.len() / 2), spent.last());
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<Box<T>, Failure> {
    Ok(Box::new(serde_json::from_value(value)?))
}

fn node(n: u32) -> Result<Object, Failure> {
    let o = json!({"metadata": {"name": format!("n{n}"), "labels": {"kubernetes.io/os": "linux"}},
        "spec": {"podCIDRs": [format!("10.{}.{}.0/24", 100 + n / 256, n % 256)]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("10.0.{}.{}", n / 256, n % 256)}]}});
    Ok(Object::Node(read(o)?))
}

/// As many addresses as services, so that the last ones are looked for in a full pool.
fn pool(addresses: u32, sharing: &str) -> Result<Object, Failure> {
    let last = std::net::Ipv4Addr::from(0xCB00_0000 + addresses.saturating_sub(1));
    let o = json!({"metadata": {"name": "p"},
        "spec": {"addresses": [format!("203.0.0.0-{last}")], "sharing": sharing}});
    Ok(Object::AddressPool(read(o)?))
}

fn service(s: u32, edited: bool) -> Result<Object, Failure> {
    let o = json!({"metadata": {"name": format!("service-{s}"), "namespace": format!("team-{}", s % 50),
            "uid": format!("00000000-0000-0000-0000-{s:012}"), "labels": {"app": format!("app-{s}")},
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:ports": {}, "f:type": {}}}}]},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluice.dev/edge", "clusterIP": "10.96.0.1",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"app": format!("app-{s}")},
            "ports": [{"port": if edited { 443 } else { 80 }, "targetPort": 8080, "nodePort": 30000}]}});
    Ok(Object::Service(read(o)?))
}

fn slice(s: u32, endpoints: u32, whole: bool) -> Result<Object, Failure> {
    let last = if whole { endpoints } else { endpoints.saturating_sub(1) };
    let one = |e: u32| {
        let address = std::net::Ipv4Addr::from(0x0A64_0000 + s * endpoints + e);
        json!({"addresses": [address.to_string()], "nodeName": format!("n{}", (s + e) % 100),
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "name": format!("pod-{s}-{e}"), "namespace": "team"}})
    };
    let o = json!({"metadata": {"name": format!("service-{s}-abcde"), "namespace": format!("team-{}", s % 50),
            "labels": {"kubernetes.io/service-name": format!("service-{s}")}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": (0..last).map(one).collect::<Vec<_>>()});
    Ok(Object::EndpointSlice(read(o)?))
}

/// Resident memory of this process in KiB.
fn resident() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse()?)
}
