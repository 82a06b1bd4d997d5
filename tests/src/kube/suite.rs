//! The upstream end-to-end suite of Kubernetes, run from the client's place.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Cluster;
use crate::lab::{Proc, until};

/// What became of one test of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// The suite skipped it, and says why.
    Skipped(String),
    /// It failed; the first line of why.
    Failed(String),
}

/// One test of the suite.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name without the words that all share.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// A part of the suite that runs.
#[derive(Debug)]
pub struct Run {
    process: Proc,
    report: PathBuf,
}

impl Run {
    /// Starts the tests whose names match `focus` and not `skip` (regular expressions; an empty one skips nothing).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &Cluster, name: &str, focus: &str, skip: &str) -> Result<Self> {
        let dir = cluster.lab.dir().join(format!("suite-{name}"));
        std::fs::create_dir_all(&dir)?;
        let report = dir.join("junit.xml");
        let mut command = Command::new(cluster.programs.path("e2e.test"));
        command.current_dir(&dir).env("HOME", &dir).args([
            "--provider=skeleton",
            "--ginkgo.no-color",
            "--ginkgo.timeout=2h",
            "--test.timeout=0",
            "--ginkgo.v",
            // Nothing of the cluster itself runs in pods.
            "--minStartupPods=0",
            "--disable-log-dump=true",
            "--dump-logs-on-failure=false",
        ]);
        command.arg(format!("--kubeconfig={}", cluster.control.kubeconfig().display()));
        command.arg(format!("--kubectl-path={}", cluster.programs.path("kubectl").display()));
        command.arg(format!("--ginkgo.junit-report={}", report.display()));
        command.arg(format!("--ginkgo.focus={focus}"));
        if !skip.is_empty() {
            command.arg(format!("--ginkgo.skip={skip}"));
        }
        let process = cluster.client.spawn(&format!("suite-{name}"), command)?;
        Ok(Self { process, report })
    }

    /// Waits for the end and returns what became of each test that was chosen.
    ///
    /// # Errors
    /// When it does not end in time, or ends without a report.
    pub fn finish(self, deadline: Duration) -> Result<Vec<Case>> {
        self.process.wait(deadline)?;
        let text = std::fs::read_to_string(&self.report)
            .with_context(|| format!("no report; last words: {}", self.process.tail(10)))?;
        let cases = parse(&text)?;
        if cases.is_empty() {
            bail!("no test was chosen; last words: {}", self.process.tail(10));
        }
        Ok(cases)
    }

    /// Everything it has said so far.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Gives every Service that becomes a LoadBalancer without a class this class: the suite sets none and has no flag
/// for it.
///
/// # Errors
/// When the policy is refused or is not in force in time.
pub fn set_class(cluster: &Cluster, class: &str) -> Result<()> {
    let api = cluster.api();
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let group = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": { "name": "class" },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"],
                "operations": ["CREATE", "UPDATE"],
            }] },
            "matchConditions": [{
                "name": "becomes-a-load-balancer",
                "expression": "object.spec.type == 'LoadBalancer' && !has(object.spec.loadBalancerClass) && \
                               (oldObject == null || oldObject.spec.type != 'LoadBalancer')",
            }],
            "mutations": [{
                "patchType": "ApplyConfiguration",
                "applyConfiguration": {
                    "expression": format!("Object{{spec: Object.spec{{loadBalancerClass: '{class}'}}}}"),
                },
            }],
        },
    });
    let binding = json!({
        "apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": { "name": "class" },
        "spec": { "policyName": "class" },
    });
    api.create(&format!("{admission}/mutatingadmissionpolicies"), &policy)?;
    api.create(&format!("{admission}/mutatingadmissionpolicybindings"), &binding)?;
    let services = "/api/v1/namespaces/default/services";
    let probe = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "class-probe" },
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
    });
    until("the policy to be in force", Duration::from_secs(30), || {
        // Made for real and not as a dry run: only then is it the path that the suite's Services take.
        let made = api.create(services, &probe)?;
        api.delete(&format!("{services}/class-probe"))?;
        let set = made.pointer("/spec/loadBalancerClass").and_then(Value::as_str);
        ensure!(set == Some(class), "it has {set:?}");
        Ok(())
    })?;
    api.wait_gone(&format!("{services}/class-probe"), Duration::from_secs(30)).map(drop)
}

/// Reads a JUnit report of Ginkgo: the tests that were chosen.
fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for piece in text.split("<testcase ").skip(1) {
        let (head, rest) = piece.split_once('>').context("an unfinished test case")?;
        let body = rest.split("</testcase>").next().unwrap_or_default();
        let Some(name) = attribute(head, "name").as_deref().and_then(short_name) else { continue };
        let seconds =
            attribute(head, "time").and_then(|time| time.parse().ok()).unwrap_or_default();
        let message = |tag: &str| {
            let (_, found) = body.split_once(&format!("<{tag}"))?;
            attribute(found.split('>').next()?, "message")
        };
        let verdict = match attribute(head, "status").as_deref() {
            Some("passed") => Verdict::Passed,
            // The ones that were not chosen are reported as skipped without a reason.
            Some("skipped") => match message("skipped").and_then(reason) {
                Some(reason) => Verdict::Skipped(reason),
                None => continue,
            },
            _ => {
                Verdict::Failed(message("failure").or_else(|| message("error")).unwrap_or_default())
            }
        };
        cases.push(Case { name, verdict, took: Duration::from_secs_f64(seconds) });
    }
    Ok(cases)
}

/// `skipped - WHY` is a test's own doing.
fn reason(message: String) -> Option<String> {
    message.strip_prefix("skipped - ").map(str::to_owned)
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let (_, rest) = head.split_once(&format!("{name}=\""))?;
    let value = rest.split('"').next()?;
    let mut value = value.to_owned();
    for (coded, plain) in [
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#xA;", "\n"),
        ("&amp;", "&"),
    ] {
        value = value.replace(coded, plain);
    }
    Some(value)
}

/// `[It] [sig-network] LoadBalancers … should do this [Slow] [Serial]` without its labels.
fn short_name(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("[It] ")?;
    let mut plain = String::new();
    while let Some((before, label)) = rest.split_once('[') {
        plain += before;
        rest = label.split_once(']').map_or("", |(_, after)| after);
    }
    plain += rest;
    let words: Vec<&str> = plain.split_whitespace().collect();
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuite><testcase name="[ReportBeforeSuite]" status="passed" time="0.1"></testcase>
<testcase name="[It] [sig-network] LoadBalancers [Feature:LoadBalancer] should work [Slow] [Two Words]" status="passed" time="2.5"><system-err>x</system-err></testcase>
<testcase name="[It] [sig-network] Other" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-network] Proxy" status="skipped" time="0"><skipped message="skipped - LB uses &#39;Proxy&#39;"></skipped></testcase>
<testcase name="[It] [sig-network] Bad" status="failed" time="1"><failure message="timed out" type="failed">at</failure></testcase></testsuite>"#;

    #[test]
    fn a_report_is_read() -> Result<()> {
        let cases = parse(REPORT)?;
        let seen: Vec<_> = cases.into_iter().map(|case| (case.name, case.verdict)).collect();
        assert_eq!(
            seen,
            [
                ("LoadBalancers should work".to_owned(), Verdict::Passed),
                ("Proxy".to_owned(), Verdict::Skipped("LB uses 'Proxy'".into())),
                ("Bad".to_owned(), Verdict::Failed("timed out".into())),
            ]
        );
        Ok(())
    }
}
