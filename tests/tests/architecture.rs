//! The rules about crates that no compiler checks: arrows, purity, licences, duplicates.
//!
//! Written on `cargo metadata` instead of a tool of its own: a tool takes minutes to build on a fresh machine and knows
//! neither the arrows nor which crates are pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Who may depend on whom within the workspace, build scripts included. A new crate is entered here.
const ARROWS: &[(&str, &[&str])] = &[
    ("sluice-model", &[]),
    ("sluice-api", &[]),
    ("sluice-bgp-core", &[]),
    ("sluice-xdp-abi", &[]),
    ("sluice-ebpf-build", &[]),
    ("sluice-plan", &["sluice-model"]),
    ("sluice-bgp", &["sluice-bgp-core"]),
    // The pure rule about which addresses may be VIPs, and the limits of the data plane: one copy for both sides.
    ("sluice-bridge", &["sluice-api", "sluice-model"]),
    ("sluice-netlink", &[]),
    ("sluice-xdp", &["sluice-xdp-abi", "sluice-ebpf-build"]),
    (
        "sluice",
        &[
            "sluice-api",
            "sluice-bgp",
            "sluice-model",
            "sluice-netlink",
            "sluice-plan",
            "sluice-xdp",
        ],
    ),
];

/// Depends on whatever it tests; nobody depends on it.
const TESTS: &str = "sluice-tests";

/// Crates without async, IO, clock or randomness.
const PURE: &[&str] =
    &["sluice-model", "sluice-plan", "sluice-api", "sluice-bgp-core", "sluice-xdp-abi"];

/// What a pure crate never pulls in, not even through others (a star ends a prefix).
const IMPURE: &[&str] = &[
    "tokio*",
    "async-std",
    "smol",
    "mio",
    "polling",
    "futures-executor",
    "kube*",
    "k8s-openapi",
    "aya*",
    "rtnetlink",
    "netlink-*",
    "socket2",
    "nix",
    "rustix",
    "libc",
    "hyper*",
    "axum*",
    "reqwest",
    "rustls*",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
];

/// Crates only one of ours may name.
const SOLE_USERS: &[(&str, &str)] = &[
    ("aya", "sluice-xdp"),
    ("rtnetlink", "sluice-netlink"),
    ("netlink-packet-route", "sluice-netlink"),
    ("netlink-sys", "sluice-netlink"),
];

/// Licences that what we ship may stand under.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
    "CC0-1.0",
];

/// Other licences, each with the reason why it is no harm.
const LICENCE_EXCEPTIONS: &[(&str, &str, &str)] =
    &[("bgp-rs", "GPL-3.0", "an independent decoder in the tests, which are never shipped")];

/// Crates that may be in the lock file twice, with the reason.
const DUPLICATES: &[(&str, &str)] = &[
    ("base64", "k8s-openapi is one version behind hyper-util"),
    ("getrandom", "ring, kube-runtime's hasher and the tests' generator each name their own"),
    ("hashbrown", "kube-runtime is one version behind indexmap"),
    ("syn", "derive macros are moving from 2 to 3; build time only"),
    (
        "synstructure",
        "the lock file names a parser of certificates that rcgen could use; nothing builds it",
    ),
    ("tower-http", "the tests' WebDriver client is one version behind kube"),
];

/// `cargo metadata`, read.
struct Tree {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
}

struct Package {
    name: String,
    version: String,
    licence: String,
    manifest: PathBuf,
    /// Ids by kind: normal, and build.
    normal: Vec<String>,
    build: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Tree {
    fn read(manifest: &Path) -> Result<Self> {
        // What is in the lock file and on this disk; the check itself never goes out.
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
            .arg(manifest)
            .output()?;
        ensure!(
            output.status.success(),
            "cargo metadata of {}: {}",
            manifest.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        let all: Value = serde_json::from_slice(&output.stdout)?;
        let mut packages = BTreeMap::new();
        for package in all.get("packages").and_then(Value::as_array).context("no packages")? {
            packages.insert(
                text(package, "id"),
                Package {
                    name: text(package, "name"),
                    version: text(package, "version"),
                    licence: text(package, "license"),
                    manifest: text(package, "manifest_path").into(),
                    normal: Vec::new(),
                    build: Vec::new(),
                },
            );
        }
        for node in all.pointer("/resolve/nodes").and_then(Value::as_array).context("no nodes")? {
            let package = packages.get_mut(&text(node, "id")).context("a node without package")?;
            for dep in node.get("deps").and_then(Value::as_array).into_iter().flatten() {
                let kinds = dep.get("dep_kinds").and_then(Value::as_array);
                for kind in kinds.into_iter().flatten() {
                    match kind.get("kind").and_then(Value::as_str) {
                        None => package.normal.push(text(dep, "pkg")),
                        Some("build") => package.build.push(text(dep, "pkg")),
                        Some(_) => {}
                    }
                }
            }
        }
        let members = strings(&all, "workspace_members").into_iter().collect();
        Ok(Self { packages, members })
    }

    fn members(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.packages.iter().filter(|(id, _)| self.members.contains(*id))
    }

    fn find(&self, name: &str) -> Result<(&String, &Package)> {
        self.members().find(|(_, p)| p.name == name).with_context(|| format!("no crate {name}"))
    }

    /// Everything that ends up in the code of `id`, with one way that leads there.
    fn reach<'a>(&'a self, id: &'a String) -> BTreeMap<&'a String, String> {
        let mut ways: BTreeMap<&'a String, String> = BTreeMap::new();
        let mut open: Vec<(&'a String, String)> = vec![(id, String::new())];
        while let Some((id, way)) = open.pop() {
            let Some(package) = self.packages.get(id) else { continue };
            let way = format!("{way}/{}", package.name);
            if ways.contains_key(id) {
                continue;
            }
            open.extend(package.normal.iter().map(|dep| (dep, way.clone())));
            ways.insert(id, way);
        }
        ways
    }

    fn name(&self, id: &str) -> &str {
        self.packages.get(id).map_or("", |package| package.name.as_str())
    }
}

fn workspace() -> Result<Tree> {
    Tree::read(&root().join("Cargo.toml"))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[test]
fn crates_depend_only_along_the_arrows() -> Result<()> {
    let tree = workspace()?;
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let ours: BTreeSet<&str> = tree.members().map(|(_, package)| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for (_, package) in tree.members().filter(|(_, package)| package.name != TESTS) {
        let Some(allowed) = arrows.get(package.name.as_str()) else {
            wrong.push(format!("{} is not in the table of arrows", package.name));
            continue;
        };
        for dep in package.normal.iter().chain(&package.build).map(|id| tree.name(id)) {
            if ours.contains(dep) && !allowed.contains(&dep) {
                wrong.push(format!("{} must not depend on {dep}", package.name));
            }
        }
    }
    for name in arrows.keys().filter(|name| !ours.contains(*name)) {
        wrong.push(format!("{name} is in the table of arrows and not in the workspace"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn kernel_programs_share_only_the_abi() -> Result<()> {
    let tree = Tree::read(&root().join("xdp/ebpf/Cargo.toml"))?;
    let (id, _) = tree.members().next().context("xdp/ebpf is empty")?;
    let ours: Vec<&str> = tree
        .reach(id)
        .keys()
        .filter(|dep| **dep != id)
        .map(|id| tree.name(id))
        .filter(|name| name.starts_with("sluice"))
        .collect();
    assert_eq!(ours, ["sluice-xdp-abi"]);
    Ok(())
}

#[test]
fn pure_crates_pull_in_nothing_impure() -> Result<()> {
    let tree = workspace()?;
    let mut wrong = Vec::new();
    for pure in PURE {
        let (id, _) = tree.find(pure)?;
        for (dep, way) in tree.reach(id) {
            if IMPURE.iter().any(|pattern| matches(pattern, tree.name(dep))) {
                wrong.push(way);
            }
        }
    }
    assert!(wrong.is_empty(), "impure, by these ways:\n{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_model_knows_no_serialisation() -> Result<()> {
    let tree = workspace()?;
    for name in ["sluice-model", "sluice-plan"] {
        let (id, _) = tree.find(name)?;
        let serde: Vec<String> = tree
            .reach(id)
            .into_iter()
            .filter(|(dep, _)| tree.name(dep).starts_with("serde"))
            .map(|(_, way)| way)
            .collect();
        // ipnet brings serde for the configuration's sake; the crates themselves never name it.
        let direct: Vec<_> = serde.iter().filter(|way| way.matches('/').count() == 2).collect();
        assert!(direct.is_empty(), "{direct:?}");
    }
    Ok(())
}

#[test]
fn adapters_are_the_sole_users_of_their_crates() -> Result<()> {
    let tree = workspace()?;
    for (foreign, owner) in SOLE_USERS {
        for (_, package) in tree.members().filter(|(_, package)| package.name != TESTS) {
            let uses = package.normal.iter().any(|id| tree.name(id) == *foreign);
            assert!(
                !uses || package.name == *owner,
                "{} uses {foreign}, which is {owner}'s",
                package.name
            );
        }
    }
    Ok(())
}

/// Reads an SPDX expression well enough for what crates write: `A OR B`, `A/B`, `(A OR B) AND C`.
fn permitted(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    let inside = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    if let Some(inside) = inside.filter(|inside| !inside.contains(['(', ')'])) {
        return permitted(inside, allowed);
    }
    if let Some((left, right)) = split_outside(expression, " OR ") {
        return permitted(left, allowed) || permitted(right, allowed);
    }
    if let Some((left, right)) = split_outside(expression, " AND ") {
        return permitted(left, allowed) && permitted(right, allowed);
    }
    match expression.split_once('/') {
        Some((left, right)) => permitted(left, allowed) || permitted(right, allowed),
        None => allowed(expression),
    }
}

/// Splits at the first `word` that is in no parentheses.
fn split_outside<'a>(expression: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    expression.match_indices(word).find_map(|(at, _)| {
        let (left, right) = (&expression.get(..at)?, expression.get(at + word.len()..)?);
        (left.matches('(').count() == left.matches(')').count()).then_some((*left, right))
    })
}

#[test]
fn licence_expressions_are_read_right() {
    let allowed = |name: &str| matches!(name, "MIT" | "Apache-2.0" | "Unicode-3.0");
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT/GPL-3.0", true),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(permitted(expression, &allowed), expected, "{expression:?}");
    }
}

#[test]
fn licences_are_on_the_list() -> Result<()> {
    let tree = workspace()?;
    let mut wrong = Vec::new();
    for package in tree.packages.values() {
        let excepted = LICENCE_EXCEPTIONS
            .iter()
            .any(|(name, licence, _)| *name == package.name && *licence == package.licence);
        if !excepted && !permitted(&package.licence, &|name| LICENCES.contains(&name)) {
            wrong.push(format!("{} {}: {:?}", package.name, package.version, package.licence));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn what_ships_contains_nothing_that_is_for_tests() -> Result<()> {
    let tree = workspace()?;
    let (id, _) = tree.find("sluice")?;
    let shipped: BTreeSet<&str> = tree.reach(id).keys().map(|id| tree.name(id)).collect();
    assert!(shipped.contains("sluice-xdp"), "the reach of the binary is empty");
    for forbidden in ["bgp-rs", "netgauze-bgp-pkt", "thirtyfour", "proptest", TESTS] {
        assert!(!shipped.contains(forbidden), "the appliance links {forbidden}");
    }
    Ok(())
}

#[test]
fn no_crate_is_there_twice_without_a_reason() -> Result<()> {
    let tree = workspace()?;
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in tree.packages.values() {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let known: BTreeSet<&str> = DUPLICATES.iter().map(|(name, _)| *name).collect();
    let twice: BTreeSet<&str> = versions.keys().copied().collect();
    let new: Vec<_> = twice.difference(&known).map(|name| (name, versions.get(name))).collect();
    let gone: Vec<_> = known.difference(&twice).collect();
    assert!(new.is_empty(), "twice, without a reason in the list: {new:?}");
    assert!(gone.is_empty(), "no longer twice, take it off the list: {gone:?}");
    Ok(())
}

#[test]
fn every_crate_inherits_lints_edition_and_compiler_version() -> Result<()> {
    let tree = workspace()?;
    for (_, package) in tree.members() {
        let manifest = std::fs::read_to_string(&package.manifest)?;
        for wanted in [
            "[lints]\nworkspace = true",
            "edition.workspace = true",
            "rust-version.workspace = true",
        ] {
            assert!(manifest.contains(wanted), "{}: {wanted:?} is missing", package.name);
        }
    }
    Ok(())
}

#[test]
fn every_file_says_what_it_is_for_and_is_of_a_readable_size() -> Result<()> {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&root())? {
        let source = std::fs::read_to_string(&path)?;
        seen += 1;
        if !source.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", path.display()));
        }
        let lines = source.lines().count();
        if lines > 500 {
            wrong.push(format!("{} has {lines} lines, more than 500", path.display()));
        }
    }
    assert!(seen > 20, "only {seen} files found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Every Rust file of the tree, whatever cargo knows of it.
fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}
