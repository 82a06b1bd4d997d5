//! Which endpoints are refused, whoever wrote them.

use super::*;

fn node(name: &str, internal: &str, external: &str) -> Object {
    let o = json!({"metadata": {"name": name}, "status": {"addresses": [
        {"type": "InternalIP", "address": internal}, {"type": "ExternalIP", "address": external}]}});
    Object::Node(Box::new(serde_json::from_value(o).unwrap()))
}

fn api_server(address: &str) -> Object {
    let o = json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "ports": [{"port": 6443}], "endpoints": [{"addresses": [address]}]});
    Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
}

/// A slice with the label of the controller.
fn labelled(endpoints: &serde_json::Value) -> Object {
    let Object::EndpointSlice(mut slice) = slice_of("s", endpoints) else { panic!("no slice") };
    let labels = slice.metadata.labels.as_mut().unwrap();
    labels.insert(
        "endpointslice.kubernetes.io/managed-by".into(),
        "endpointslice-controller.k8s.io".into(),
    );
    Object::EndpointSlice(slice)
}

fn cluster(settings: Settings, service: Object, slice: Object) -> (Index, Changes) {
    let mut i = Index::new(settings);
    for object in [
        pool("192.0.2.0/30"),
        node("n1", "10.0.0.1", "198.51.100.1"),
        api_server("10.0.0.100"),
        service,
        slice,
    ] {
        i.apply(object);
    }
    i.synced();
    let changes = i.drain();
    (i, changes)
}

#[test]
fn what_only_nodes_and_appliances_reach_is_no_endpoint() {
    let settings = Settings {
        appliances: vec!["10.0.0.200".parse().unwrap()],
        denied_endpoints: vec!["10.7.0.0/16".parse().unwrap()],
        ..index().settings().clone()
    };
    for (address, why) in [
        ("127.0.0.1", "loopback"),
        ("0.1.2.3", "no host"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.5", "many hosts"),
        ("255.255.255.255", "many hosts"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("::ffff:10.9.0.9", "IPv6 notation"),
        ("fd00:ec2::254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("10.0.0.1", "node n1"),
        ("198.51.100.1", "node n1"),
        ("10.0.0.100", "API server"),
        ("10.0.0.200", "appliance"),
        ("10.7.1.1", "--deny-endpoints"),
    ] {
        let both = json!([{"addresses": ["10.9.0.1"]}, {"addresses": [address]}]);
        let (i, changes) =
            cluster(settings.clone(), shaped("a", &json!({}), &json!({})), slice_of("s", &both));
        assert_eq!(backends(&i), ["10.9.0.1:8080*1"], "{address}: the rest is served");
        let Some(Outcome::Serve(serve)) = outcome(&changes, "a") else { panic!("{address}") };
        let said = &serve.troubles[0];
        assert_eq!(said.reason, "EndpointsRefused");
        assert!(said.message.contains(address) && said.message.contains(why), "{said:?}");
    }
}

#[test]
fn pods_in_the_network_of_their_node_are_endpoints() {
    let selects = json!({"selector": {"app": "web"}});
    let endpoints = json!([{"addresses": ["10.0.0.1"], "nodeName": "n1"}]);
    let served = vec!["10.0.0.1:8080*1".to_owned()];
    for (spec, slice, wanted) in [
        (&selects, labelled(&endpoints), served),
        // Beside the controller's slices, and where it minds none whatever their labels say.
        (&selects, slice_of("s", &endpoints), vec![]),
        (&json!({}), labelled(&endpoints), vec![]),
    ] {
        let service = shaped("a", spec, &json!({}));
        let (i, _) = cluster(index().settings().clone(), service, slice);
        assert_eq!(backends(&i), wanted, "{spec}");
    }
}

#[test]
fn an_operator_may_allow_them() {
    let allowed = ["10.0.0.0/24", "169.254.0.0/16", "127.0.0.0/8"];
    let allowed_endpoints = allowed.iter().map(|net| net.parse().unwrap()).collect();
    let settings = Settings { allowed_endpoints, ..index().settings().clone() };
    let addresses = ["10.0.0.1", "10.0.0.100", "169.254.7.7", "127.0.0.1"];
    let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
    let slice = slice_of("s", &json!(endpoints));
    let (i, changes) = cluster(settings, shaped("a", &json!({}), &json!({})), slice);
    let all = ["10.0.0.1:8080*1", "10.0.0.100:8080*1", "169.254.7.7:8080*1"];
    assert_eq!(backends(&i), all, "but loopback is this host whoever asks");
    assert_eq!(reason(&changes, "a"), "EndpointsRefused");
}

#[test]
fn a_node_that_comes_later_takes_its_address() {
    let endpoints =
        slice_of("s", &json!([{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}]));
    let service = shaped("a", &json!({}), &json!({}));
    let (mut i, changes) = cluster(index().settings().clone(), service, endpoints);
    assert_eq!((reason(&changes, "a"), backends(&i).len()), ("served", 2));
    i.apply(node("n2", "10.0.0.2", "198.51.100.2"));
    assert_eq!(reason(&i.drain(), "a"), "EndpointsRefused");
    i.apply(api_server("10.0.0.3"));
    i.drain();
    assert!(backends(&i).is_empty());
    i.delete(&node("n2", "10.0.0.2", "198.51.100.2"));
    i.delete(&api_server("10.0.0.3"));
    assert_eq!((reason(&i.drain(), "a"), backends(&i).len()), ("served", 2));
}
