//! Manifests that tests need again and again, and what pods are asked.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::Cluster;
use crate::lab::backend::{HTTP_PORT, UDP_PORT};

/// How long a pod may take to be available; on an idle machine it is two seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A Deployment of backends that answer with their pod's name and the client they see, over HTTP and UDP.
pub fn backends(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    // One on each node as far as there are nodes.
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": { "app": name } },
                    }],
                    "containers": [{
                        "name": "backend", "image": "backend",
                        "args": [
                            "backend", "--name", "$(POD)",
                            "--http", format!("[::]:{HTTP_PORT}"), "--udp", format!("[::]:{UDP_PORT}"),
                        ],
                        "env": [{ "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                        "readinessProbe": {
                            "tcpSocket": { "port": HTTP_PORT }, "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    })
}

/// A Service of type LoadBalancer over [`backends`]: HTTP on port 80, UDP on port 53.
pub fn service(name: &str, class: Option<&str>) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "type": "LoadBalancer",
            "selector": { "app": name },
            "ports": [
                { "name": "http", "port": 80, "targetPort": HTTP_PORT, "protocol": "TCP" },
                { "name": "echo", "port": 53, "targetPort": UDP_PORT, "protocol": "UDP" },
            ],
        },
    });
    if let (Some(class), Some(spec)) =
        (class, service.get_mut("spec").and_then(Value::as_object_mut))
    {
        spec.insert("loadBalancerClass".into(), class.into());
    }
    service
}

impl Cluster {
    /// Starts backends in the namespace `default` and waits until they are available.
    ///
    /// # Errors
    /// When they do not come up.
    pub fn start_backends(&self, name: &str, replicas: u32) -> Result<()> {
        self.api()
            .create("/apis/apps/v1/namespaces/default/deployments", &backends(name, replicas))?;
        self.wait_deployment("default", name, DEADLINE).map(drop)
    }

    /// Sets the number of replicas and does not wait.
    ///
    /// # Errors
    /// When there is no such Deployment.
    pub fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
        let change = json!({ "spec": { "replicas": replicas } });
        self.api().patch(&path, super::api::Patch::Merge, &change).map(drop)
    }

    /// Runs a command in a pod of the namespace `default` and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        let mut args = vec!["exec", pod, "--"];
        args.extend(command);
        self.kubectl(&args)
    }

    /// Pods of an app in the namespace `default`.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn pods(&self, app: &str) -> Result<Vec<Value>> {
        self.api().list(&format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{app}"))
    }
}
