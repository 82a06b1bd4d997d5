//! Nodes as backends.

use super::*;

fn node(name: &str, address: &str, over: &serde_json::Value) -> Object {
    let mut o = json!({"metadata": {"name": name}, "spec": {},
        "status": {"addresses": [{"type": "Hostname", "address": name},
            {"type": "InternalIP", "address": address},
            {"type": "ExternalIP", "address": "198.51.100.1"}]}});
    for (part, fields) in over.as_object().unwrap() {
        for (key, value) in fields.as_object().unwrap() {
            o[part][key] = value.clone();
        }
    }
    Object::Node(Box::new(serde_json::from_value(o).unwrap()))
}

/// Service `a` with node port 30080, and what the spec says besides.
fn on_nodes(spec: &serde_json::Value, annotations: &serde_json::Value) -> Object {
    let mut spec = spec.clone();
    let ports = json!([{"port": 80, "nodePort": 30080}]);
    spec.as_object_mut().unwrap().entry("ports").or_insert(ports);
    let mut annotations = annotations.clone();
    annotations["sluice.dev/endpoints"] = json!("nodes");
    shaped("a", &spec, &json!({"annotations": annotations}))
}

fn serving(nodes: impl IntoIterator<Item = Object>, service: Object) -> Index {
    after([pool("192.0.2.0/30"), service].into_iter().chain(nodes)).0
}

#[test]
fn each_node_counts_or_not() {
    let exclude = "node.kubernetes.io/exclude-from-external-load-balancers";
    let labelled = |value: &str| json!({"metadata": {"labels": {exclude: value}}});
    let taint = json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler",
        "effect": "NoSchedule"}]}});
    let other = "10.0.0.9:30080*1";
    for (over, wanted) in [
        (json!({}), vec!["10.0.0.1:30080*1", other]),
        (labelled("true"), vec![other]),
        (labelled(""), vec![other]),
        (labelled("nonsense"), vec![other]),
        (labelled("false"), vec!["10.0.0.1:30080*1", other]),
        (labelled("0"), vec!["10.0.0.1:30080*1", other]),
        (taint, vec!["10.0.0.1:30080*0", other]),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            vec!["10.0.0.1:30080*0", other],
        ),
        (json!({"spec": {"unschedulable": true}}), vec!["10.0.0.1:30080*1", other]),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            vec!["10.0.0.1:30080*1", other],
        ),
    ] {
        let nodes = [node("n1", "10.0.0.1", &over), node("n9", "10.0.0.9", &json!({}))];
        let i = serving(nodes, on_nodes(&json!({}), &json!({})));
        assert_eq!(backends(&i), wanted, "{over}");
    }
}

#[test]
fn when_all_are_about_to_go_they_serve_to_the_end() {
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let i = serving([node("n1", "10.0.0.1", &gone)], on_nodes(&json!({}), &json!({})));
    assert_eq!(backends(&i), ["10.0.0.1:30080*1"]);
}

#[test]
fn nodes_come_and_go() {
    let plain = json!({});
    let mut i = serving([node("n1", "10.0.0.1", &plain)], on_nodes(&plain, &plain));
    i.apply(node("n2", "10.0.0.2", &plain));
    assert_eq!(i.drain().upsert.len(), 1);
    assert_eq!(backends(&i), ["10.0.0.1:30080*1", "10.0.0.2:30080*1"]);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    i.apply(node("n2", "10.0.0.2", &ready));
    assert_eq!(i.drain(), Changes::default(), "heartbeats change nothing");
    i.delete(&node("n1", "10.0.0.1", &plain));
    i.drain();
    assert_eq!(backends(&i), ["10.0.0.2:30080*1"]);
}

#[test]
fn local_traffic_goes_where_endpoints_are() {
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let endpoints = json!([{"addresses": ["10.9.0.1"], "nodeName": "n1"},
        {"addresses": ["10.9.0.2"], "nodeName": "n1"},
        {"addresses": ["10.9.0.3"], "nodeName": "n2", "conditions": leaving},
        {"addresses": ["10.9.0.4"], "nodeName": "n3", "conditions": {"ready": false}},
        {"addresses": ["10.9.0.5"]}, {"addresses": ["10.9.0.6"], "nodeName": "unknown"}]);
    let spec = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
    let plain = json!({});
    let nodes = [("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "10.0.0.3")]
        .map(|(n, a)| node(n, a, &plain));
    let mut i = serving(nodes, on_nodes(&spec, &plain));
    i.apply(slice_of("s", &endpoints));
    i.drain();
    assert_eq!(
        backends(&i),
        ["10.0.0.1:30080*2", "10.0.0.2:30080*0", "10.0.0.3:30080*0"],
        "as many shares as pods; n3 keeps its flows"
    );
    i.apply(slice_of(
        "s",
        &json!([{"addresses": ["10.9.0.4"], "nodeName": "n3", "conditions": {"ready": false}}]),
    ));
    i.drain();
    assert_eq!(backends(&i), ["10.0.0.3:30080*0"], "not for new flows, whatever else there is");
    i.apply(slice_of(
        "s",
        &json!([{"addresses": ["10.9.0.3"], "nodeName": "n2",
        "conditions": leaving}]),
    ));
    i.drain();
    assert_eq!(backends(&i), ["10.0.0.2:30080*1"], "nothing else is left");
    i.apply(on_nodes(&json!({}), &plain));
    i.drain();
    assert_eq!(backends(&i).len(), 3, "every node with traffic policy Cluster");
}

/// Path and port of the health check of each port of a Service whose endpoints are nodes.
fn probes(
    node_health: NodeHealth,
    service: Object,
) -> Vec<Option<(Option<&'static str>, Option<u16>)>> {
    let mut i = Index::new(Settings { node_health, ..index().settings().clone() });
    i.apply(pool("192.0.2.0/30"));
    i.apply(service);
    i.synced();
    i.drain();
    let health = i.wanted().map(|wanted| {
        let health = wanted.health.as_ref()?;
        let path = health.http_path.as_deref();
        assert!(path.is_none_or(|path| path == "/healthz"));
        Some((path.map(|_| "/healthz"), health.port))
    });
    health.collect()
}

#[test]
fn nodes_are_asked_where_kube_proxy_answers() {
    let local = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
    let kube_proxy = json!({"sluice.dev/node-health": "kube-proxy"});
    for (by_default, spec, annotations, wanted) in [
        (NodeHealth::NodePort, &json!({}), kube_proxy, Some((Some("/healthz"), Some(10_256)))),
        (NodeHealth::KubeProxy, &json!({}), json!({}), Some((Some("/healthz"), Some(10_256)))),
        (NodeHealth::KubeProxy, &local, json!({}), Some((Some("/healthz"), Some(31_000)))),
        (NodeHealth::KubeProxy, &json!({"externalTrafficPolicy": "Local"}), json!({}), None),
        (NodeHealth::KubeProxy, &local, json!({"sluice.dev/health": "none"}), None),
        (NodeHealth::KubeProxy, &local, json!({"sluice.dev/health": "tcp"}), Some((None, None))),
        (
            NodeHealth::KubeProxy,
            &json!({}),
            json!({"loxilb.io/liveness": "yes"}),
            Some((None, None)),
        ),
    ] {
        assert_eq!(probes(by_default, on_nodes(spec, &annotations)), [wanted], "{spec}");
    }
}

#[test]
fn without_a_word_nodes_are_asked_where_packets_go() {
    let local = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
    let udp = json!({"port": 53, "protocol": "UDP", "nodePort": 30053});
    let (tcp, sctp) = (
        json!({"port": 80, "nodePort": 30080}),
        json!({"port": 7, "protocol": "SCTP", "nodePort": 30007}),
    );
    for (spec, wanted) in [
        (json!({}), vec![Some((None, None))]),
        (local, vec![Some((None, None))]),
        (json!({"ports": [udp]}), vec![None]),
        (
            json!({"ports": [udp, tcp, sctp]}),
            vec![Some((None, Some(30080))), Some((None, None)), Some((None, Some(30080)))],
        ),
    ] {
        let service = on_nodes(&spec, &json!({}));
        assert_eq!(probes(NodeHealth::default(), service), wanted, "{spec}");
    }
}

#[test]
fn what_nodes_cannot_serve_is_refused() {
    let plain = json!({});
    let ports = json!([{"port": 80, "nodePort": 30080}, {"port": 81}]);
    for (service, answer) in [
        (on_nodes(&json!({"ports": ports}), &plain), "UnsupportedNodePort"),
        (
            on_nodes(
                &json!({"ports": [{"port": 80}], "allocateLoadBalancerNodePorts": false}),
                &plain,
            ),
            "UnsupportedNodePort",
        ),
        (
            on_nodes(&json!({"ports": [{"port": 7, "protocol": "DCCP"}]}), &plain),
            "UnsupportedProtocol",
        ),
        (
            on_nodes(
                &json!({"externalTrafficPolicy": "Local"}),
                &json!({"sluice.dev/full-nat": "true"}),
            ),
            "ClientAddressLost",
        ),
    ] {
        let (i, changes) = after([pool("192.0.2.0/30"), service]);
        assert_eq!(reason(&changes, "a"), answer);
        assert_eq!((i.wanted().count(), changes.pools[0].1.used), (0, 0), "and has no address");
    }
    let pods = json!({"ports": [{"port": 80}], "allocateLoadBalancerNodePorts": false});
    let (_, changes) = after([pool("192.0.2.0/30"), shaped("a", &pods, &plain)]);
    assert_eq!(reason(&changes, "a"), "served", "pods need no node port");
}

#[test]
fn a_label_chooses_nodes_and_pods_on_them() {
    let edge = json!({"metadata": {"labels": {"edge": ""}}});
    let nodes = || [node("n1", "10.0.0.1", &edge), node("n2", "10.0.0.2", &json!({}))];
    let asks = json!({"loxilb.io/nodelabel": "edge"});
    let i = serving(nodes(), on_nodes(&json!({}), &asks));
    assert_eq!(backends(&i), ["10.0.0.1:30080*1"]);
    let mut i = serving(nodes(), shaped("a", &json!({}), &json!({"annotations": asks})));
    i.apply(slice_of(
        "s",
        &json!([{"addresses": ["10.9.0.1"], "nodeName": "n1"},
        {"addresses": ["10.9.0.2"], "nodeName": "n2"}, {"addresses": ["10.9.0.3"]}]),
    ));
    i.drain();
    assert_eq!(backends(&i), ["10.9.0.1:8080*1"]);
    i.apply(node("n2", "10.0.0.2", &edge));
    i.drain();
    assert_eq!(backends(&i), ["10.9.0.1:8080*1", "10.9.0.2:8080*1"]);
}

#[test]
fn the_default_is_a_setting_and_an_annotation_overrides_it() {
    let settings = Settings { endpoints: EndpointMode::Nodes, ..index().settings().clone() };
    for (annotations, wanted) in [
        (json!({}), "10.0.0.1:30080*1"),
        (json!({"sluice.dev/endpoints": "pods"}), "10.9.0.1:8080*1"),
        (json!({"loxilb.io/usepodnetwork": "yes"}), "10.9.0.1:8080*1"),
    ] {
        let mut i = Index::new(settings.clone());
        i.apply(pool("192.0.2.0/30"));
        i.apply(node("n1", "10.0.0.1", &json!({})));
        i.apply(slice_of("s", &json!([{"addresses": ["10.9.0.1"], "nodeName": "n1"}])));
        let spec = json!({"ports": [{"port": 80, "nodePort": 30080}]});
        i.apply(shaped("a", &spec, &json!({"annotations": annotations})));
        i.synced();
        i.drain();
        assert_eq!(backends(&i), [wanted], "{annotations}");
    }
}

#[test]
fn what_lies_inside_is_said_in_few_prefixes() {
    let inside = vec!["10.9.2.0/24".parse().unwrap()];
    let mut i = Index::new(Settings { inside, ..index().settings().clone() });
    let pods = |cidr: &str| json!({"spec": {"podCIDRs": [cidr, "2001:db8:1::/64"]}});
    i.apply(node("n1", "10.0.0.2", &pods("10.9.0.0/24")));
    i.apply(node("n2", "10.0.0.3", &pods("10.9.1.0/24")));
    i.synced();
    let all = ["10.0.0.2/31", "10.9.0.0/23", "10.9.2.0/24", "2001:db8:1::/64"];
    assert_eq!(i.drain().inside.unwrap(), all);
    assert_eq!(i.inside(), all);
    let mut tainted = pods("10.9.1.0/24");
    tainted["spec"]["taints"] =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    i.apply(node("n2", "10.0.0.3", &tainted));
    assert_eq!(i.drain().inside, None, "a taint moves no prefix");
    i.delete(&node("n2", "10.0.0.3", &json!({})));
    let left = ["10.0.0.2/32", "10.9.0.0/24", "10.9.2.0/24", "2001:db8:1::/64"];
    assert_eq!(i.drain().inside.unwrap(), left);
}
