//! The files in `deploy/` agree with each other and with the program.
//!
//! `SLUICE_REGENERATE=1 cargo test -p sluice-bridge --test manifests` writes the generated ones.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::path::{Path, PathBuf};

const HEAD: &str =
    "# The bridge of Sluice, for `kubectl apply -f`. Made of base/ and crds.yaml; change those.\n";
const PARTS: [&str; 5] = [
    "base/namespace.yaml",
    "crds.yaml",
    "base/rbac.yaml",
    "base/settings.yaml",
    "base/deployment.yaml",
];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_default()
}

fn agree(name: &str, wanted: &str) {
    if std::env::var_os("SLUICE_REGENERATE").is_some() {
        std::fs::write(deploy(name), wanted).unwrap();
    }
    assert!(
        read(name) == wanted,
        "{name} is out of date; make it anew as the head of this file says"
    );
}

#[test]
fn generated_files_are_up_to_date() {
    agree("crds.yaml", &sluice_bridge::crd::manifest().unwrap());
    let parts = PARTS.map(|part| read(part).trim_start_matches("---\n").to_owned());
    agree("sluice-bridge.yaml", &format!("{HEAD}{}", parts.join("---\n")));
}

#[test]
fn kustomize_has_the_same_parts() {
    let listed = read("kustomization.yaml");
    let listed: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("  - ")).collect();
    assert_eq!(listed, PARTS);
}

/// Verbs are counted by the program under these words; each must be in the role, and nothing else.
#[test]
fn the_role_allows_what_the_code_does_and_no_more() {
    let rules = rules(&read("base/rbac.yaml"));
    let wanted = [
        (["services", "nodes", "namespaces"].as_slice(), ["list", "watch"].as_slice()),
        (&["services", "services/status"], &["patch"]),
        (&["namespaces"], &["get"]),
        (&["endpointslices"], &["list", "watch"]),
        (&["addresspools", "peers"], &["list", "watch"]),
        (&["addresspools/status", "peers/status"], &["patch"]),
        (&["events"], &["create", "patch"]),
        (&["leases"], &["create"]),
        (&["leases"], &["get", "update"]),
    ];
    let wanted: Vec<_> =
        wanted.iter().map(|(resources, verbs)| (resources.join(", "), verbs.join(", "))).collect();
    assert_eq!(rules, wanted);
    // Every kind the watcher knows can be listed and watched.
    for kind in sluice_bridge::watch::Kind::ALL {
        let plural = format!("{}s", kind.as_str().to_lowercase());
        let may = |(resources, verbs): &&(String, String)| {
            resources.split(", ").any(|r| r == plural) && verbs == "list, watch"
        };
        assert!(rules.iter().any(|rule| may(&rule)), "{plural}");
    }
}

/// Resources and verbs of every rule, as they are written.
fn rules(text: &str) -> Vec<(String, String)> {
    let field = |line: &str, name: &str| {
        let list = line.trim().strip_prefix(name)?.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(list.to_owned())
    };
    let mut rules = Vec::new();
    let mut resources = None;
    for line in text.lines() {
        resources = field(line, "resources:").or(resources);
        if let Some(verbs) = field(line, "verbs:") {
            rules.push((resources.take().unwrap(), verbs));
        }
    }
    rules
}

#[test]
fn settings_are_flags_of_the_program() {
    use clap::CommandFactory;
    let cli = sluice_bridge::cli::Cli::command();
    let run = cli.find_subcommand("run").unwrap();
    let known: Vec<_> = run.get_arguments().filter_map(|a| a.get_env()?.to_str()).collect();
    let files = ["base/settings.yaml", "base/deployment.yaml", "uninstall.yaml"];
    let all = files.map(read).concat();
    let words = all.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    let used: Vec<_> = words.filter(|word| word.starts_with("SLUICE_")).collect();
    assert!(used.len() >= 6, "{used:?}");
    for variable in used {
        assert!(known.contains(&variable), "{variable} is no variable of the program");
    }
}
