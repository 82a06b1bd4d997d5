//! Pods whose addresses are in no `spec.podCIDRs` call VIPs of their own cluster.

use super::*;

fn pods_of(name: &str, owner: &str, addresses: &[&str]) -> Object {
    let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
    let Object::EndpointSlice(mut slice) = slice_of(name, &json!(endpoints)) else {
        panic!("no slice")
    };
    let labels = slice.metadata.labels.as_mut().unwrap();
    labels.insert("kubernetes.io/service-name".into(), owner.into());
    labels.insert(
        "endpointslice.kubernetes.io/managed-by".into(),
        "endpointslice-controller.k8s.io".into(),
    );
    Object::EndpointSlice(slice)
}

fn node() -> Object {
    let o = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.244.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    Object::Node(Box::new(serde_json::from_value(o).unwrap()))
}

fn selecting(name: &str) -> Object {
    shaped(name, &json!({"selector": {"app": "web"}}), &json!({}))
}

#[test]
fn endpoints_tell_where_pods_are() {
    let plain = ["10.0.0.1/32", "10.244.0.0/24"];
    let with = ["10.0.0.1/32", "10.244.0.0/24", "172.20.5.64/26"];
    let (mut i, changes) = after([pool("192.0.2.0/30"), node(), selecting("a")]);
    assert_eq!(changes.inside.unwrap(), plain);
    i.apply(pods_of("s", "a", &["10.244.0.7", "172.20.5.70", "10.0.0.1"]));
    assert_eq!(i.drain().inside.unwrap(), with, "not the network of the node");
    i.apply(pods_of("s", "a", &["172.20.5.71"]));
    assert_eq!(i.drain().inside, None, "another pod of the block");
    // The Service's turn, whether ours or not, comes before or after that of its slice.
    i.apply(pods_of("t", "b", &["172.21.0.1"]));
    assert_eq!(i.drain().inside, None);
    i.apply(shaped("b", &json!({"selector": {"app": "x"}, "type": "ClusterIP"}), &json!({})));
    assert_eq!(i.drain().inside.unwrap().len(), 4);
    i.delete(&selecting("b"));
    assert_eq!(i.drain().inside.unwrap(), with);
    i.delete(&pods_of("s", "a", &[]));
    assert_eq!(i.drain().inside.unwrap(), plain);
}

#[test]
fn what_somebody_wrote_says_nothing_of_clients() {
    let own = slice_of("s", &json!([{"addresses": ["8.8.8.8"]}]));
    let (i, _) = after([node(), selecting("a"), own]);
    assert_eq!(i.inside(), ["10.0.0.1/32", "10.244.0.0/24"]);
    let (i, _) = after([node(), service("a", None), pods_of("s", "a", &["8.8.8.8"])]);
    assert_eq!(i.inside(), ["10.0.0.1/32", "10.244.0.0/24"], "without a selector");
}
