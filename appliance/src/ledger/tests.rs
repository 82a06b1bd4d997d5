//! What is accepted, refused, and still there after a restart.

use super::*;
use crate::scratch::Scratch;
use sluice_api::{SourceChange, SourceState};
use sluice_model::is_held;

pub(super) fn services(names: &[&str]) -> Vec<Service> {
    let example = include_str!("../../sluice.example.toml");
    let model = crate::config::parse(example).unwrap().services.remove(0);
    let rename = |(index, name): (usize, &&str)| Service {
        name: ServiceName((*name).to_owned()),
        port: u16::try_from(index).unwrap() + 1000,
        ..model.clone()
    };
    names.iter().enumerate().map(rename).collect()
}

/// What there is, over a kernel that carries nothing, and what became of the file.
fn open(scratch: &Scratch) -> (Ledger, Option<String>) {
    open_over(scratch, &Observed::default())
}

fn open_over(scratch: &Scratch, found: &Observed) -> (Ledger, Option<String>) {
    let mut ledger = Ledger::open(scratch.path().join("desired.json"), None);
    let config = ledger.content.config.services.iter().map(|service| service.as_ref().clone());
    let config = config.collect();
    if ledger.content.recovery.is_some() || !found.programs.is_empty() {
        ledger.begin(config, found, Expected::default());
    }
    let reason = ledger.subscribe().borrow().recovery.as_ref().map(|it| it.reason.clone());
    (ledger, reason)
}

/// What a bridge wants: services of these names, each on its own VIP.
pub(super) fn state(generation: u64, services: &[(&str, &str)]) -> SourceState {
    let wanted = |(name, vip): &(&str, &str)| sluice_api::WantedService {
        name: (*name).to_owned(),
        vips: vec![(*vip).to_owned()],
        port: 1000,
        ..Default::default()
    };
    let services = services.iter().map(wanted).collect();
    SourceState { owner: "uid".to_owned(), generation, services, ..SourceState::default() }
}

pub(super) fn put(source: &str, state: SourceState) -> Submission {
    Submission::Put { source: source.to_owned(), state: state.into() }
}

pub(super) fn forget(source: &str) -> Submission {
    Submission::Forget { source: source.to_owned() }
}

/// One more service on top of a generation.
fn add(source: &str, base: u64, name: &str, vip: &str) -> Submission {
    let SourceState { owner, services, .. } = state(0, &[(name, vip)]);
    let (generation, source) = (base + 1, source.to_owned());
    let change =
        SourceChange { owner, base, generation, upsert: services, ..SourceChange::default() };
    Submission::Patch { source, change: change.into() }
}

fn names(merged: &Merged) -> Vec<&str> {
    merged.desired.services().map(|service| service.name.0.as_str()).collect()
}

#[test]
fn sources_come_and_go_without_each_other() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    assert_eq!(ledger.submit(put("b", state(5, &[("b/1", "192.0.2.1")]))).unwrap(), Accepted::New);
    assert_eq!(
        ledger.submit(put("b", state(5, &[("b/1", "192.0.2.1")]))).unwrap(),
        Accepted::Known
    );
    let older = ledger.submit(put("b", state(4, &[])));
    assert!(matches!(older, Err(SubmitError::Refused(Refusal::Older { .. }))), "{older:?}");
    ledger.submit(put("c", state(1, &[("c/1", "192.0.2.1"), ("c/2", "192.0.2.2")]))).unwrap();
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!(names(&merged), ["b/1", "c/2"], "the first of two that clash stays");
    assert_eq!(merged.clashes.len(), 1);
    assert_eq!(ledger.submit(forget("b")).unwrap(), Accepted::New);
    assert_eq!(ledger.submit(forget("b")).unwrap(), Accepted::Known);
    assert_eq!(names(&ledger.subscribe().borrow()), ["c/1", "c/2"]);
}

#[test]
fn nobody_takes_over_what_another_source_serves() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit(put("b", state(1, &[("b/1", "192.0.2.1")]))).unwrap();
    ledger.submit(put("a", state(1, &[("a/1", "192.0.2.1"), ("a/2", "192.0.2.2")]))).unwrap();
    assert_eq!(names(&ledger.subscribe().borrow()), ["a/2", "b/1"], "first come, first served");
    drop(ledger);
    let (mut ledger, _) = open(&scratch);
    assert_eq!(names(&ledger.subscribe().borrow()), ["a/2", "b/1"], "after a restart too");
    ledger.submit(put("b", state(2, &[("b/1", "192.0.2.9")]))).unwrap();
    assert_eq!(names(&ledger.subscribe().borrow()), ["a/1", "a/2", "b/1"], "given up, it is free");
    ledger.submit(put("b", state(3, &[("b/1", "192.0.2.1")]))).unwrap();
    assert_eq!(names(&ledger.subscribe().borrow()), ["a/1", "a/2"]);
}

#[test]
fn a_restart_loses_nothing() {
    let scratch = Scratch::new();
    let before = {
        let (mut ledger, _) = open(&scratch);
        ledger.submit(Submission::Config(services(&["a", "b"]), Limits::default())).unwrap();
        let wishes = [("c", "203.0.113.10"), ("d", "192.0.2.1"), ("e", "nonsense")];
        ledger.submit(put("x", state(7, &wishes))).unwrap();
        let merged = ledger.subscribe().borrow().clone();
        let clashes: Vec<String> = merged.clashes.iter().map(ToString::to_string).collect();
        assert_eq!(clashes, ["203.0.113.10:1000/tcp belongs to service a; service c is left out"]);
        assert!(merged.bridges["x"].wishes["e"].made.is_err());
        merged
    };
    let (mut ledger, trouble) = open(&scratch);
    assert_eq!(trouble, None);
    assert_eq!(*ledger.subscribe().borrow(), before);
    // The same file again is no new generation.
    assert_eq!(
        ledger.submit(Submission::Config(services(&["a", "b"]), Limits::default())).unwrap(),
        Accepted::Known
    );
}

/// As the first version wrote it.
#[test]
fn the_first_layout_is_read() {
    let scratch = Scratch::new();
    let text = r#"{"format": 1, "revision": 3, "changed": {"a": 2}, "sources": {"config":
        {"generation": 2, "services": [{"name": "a", "vips": ["192.0.2.1"], "port": 80,
        "protocol": "tcp", "backends": [["10.0.0.1:80", 1]], "health": null,
        "no_backend": "reject", "idle_timeout_ms": 60000}]}}}"#;
    std::fs::write(scratch.path().join("desired.json"), text).unwrap();
    let (ledger, trouble) = open(&scratch);
    assert_eq!(trouble, None);
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!((names(&merged), merged.desired.generation()), (vec!["a"], Generation(3)));
    assert_eq!(merged.changed[&ServiceName("a".into())], Generation(2));
}

#[test]
fn only_what_changed_counts_as_changed() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit(Submission::Config(services(&["a", "b"]), Limits::default())).unwrap();
    let mut next = services(&["a", "b", "c"]);
    next[1].backends.clear();
    let watch = ledger.subscribe();
    ledger.submit(Submission::Config(next, Limits::default())).unwrap();
    assert!(watch.has_changed().unwrap());
    let merged = watch.borrow().clone();
    let changed: Vec<_> = merged.changed.iter().map(|(n, g)| (n.0.as_str(), g.0)).collect();
    assert_eq!(changed, [("a", 1), ("b", 2), ("c", 2)]);
}

/// What a data plane carries for these VIPs.
fn carried(vips: &[&str]) -> Observed {
    let backends =
        vec![sluice_model::Backend { address: "10.0.0.1:80".parse().unwrap(), weight: 1 }];
    let program = |vip: &&str| {
        let frontend = sluice_model::Frontend {
            vip: vip.parse().unwrap(),
            port: 1000,
            protocol: sluice_model::Protocol::Tcp,
        };
        let program = sluice_model::Program {
            backends: backends.clone(),
            no_backend: sluice_model::NoBackend::Reject,
            idle_timeout: std::time::Duration::from_secs(60),
            source_ranges: Arc::default(),
            affinity: None,
            full_nat: Arc::default(),
            multihomed: false,
        };
        (frontend, program)
    };
    Observed { programs: vips.iter().map(program).collect(), ..Observed::default() }
}

#[test]
fn a_file_that_cannot_be_read_takes_nothing_from_the_kernel() {
    let newer = r#"{"format": 99, "revision": 1, "changed": {}}"#;
    for (content, word) in [
        (&b""[..], "EOF"),
        (b"{\"format\": 5, \"rev", "EOF"),
        (b"\0\0\0\0\0\0\0\0", "expected"),
        (b"\xff\xfe", "utf-8"),
        (newer.as_bytes(), "too new"),
    ] {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("desired.json"), content).unwrap();
        let found = carried(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let (mut ledger, reason) = open_over(&scratch, &found);
        let reason = reason.unwrap();
        assert!(reason.contains(word) && reason.contains("desired.json.unreadable"), "{reason}");
        assert_eq!(std::fs::read(at("desired.json.unreadable")).unwrap(), content);
        let merged = || ledger.subscribe().borrow().clone();
        assert_eq!((merged().held(), merged().clashes.len()), (3, 0), "{word}");
        // Claimed by a source, one is held no longer; the others are.
        ledger.submit(put("b", state(1, &[("b/1", "192.0.2.1")]))).unwrap();
        let merged = ledger.subscribe().borrow().clone();
        assert_eq!((merged.held(), merged.clashes.len()), (2, 0));
        assert_eq!(merged.desired.services().filter(|s| !is_held(&s.name)).count(), 1);
        // So it is after a further start.
        drop(ledger);
        let (mut ledger, again) = open_over(&scratch, &found);
        assert_eq!(again, Some(reason));
        assert_eq!(ledger.subscribe().borrow().held(), 2);
        assert_eq!(ledger.submit(Submission::Settle).unwrap(), Accepted::New);
        assert_eq!(ledger.submit(Submission::Settle).unwrap(), Accepted::Known);
        assert_eq!(names(&ledger.subscribe().borrow()), ["b/1"]);
        drop(ledger);
        assert_eq!(open_over(&scratch, &found).1, None);
    }
}

#[test]
fn wherever_a_file_is_cut_the_one_before_it_is_taken() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit(put("b", state(1, &[("b/1", "192.0.2.1")]))).unwrap();
    ledger.submit(put("b", state(2, &[("b/1", "192.0.2.2")]))).unwrap();
    let path = scratch.path().join("desired.json");
    let whole = std::fs::read(&path).unwrap();
    let generation = || match disk::read(&path, None) {
        Found::Current(content) => ("current", content.bridges["b"].generation),
        Found::Previous(content, _) => ("previous", content.bridges["b"].generation),
        other => panic!("{other:?}"),
    };
    // The last byte ends the line, and says nothing.
    for cut in 0..whole.len() - 1 {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(generation(), ("previous", 1), "{cut}");
        std::fs::remove_file(path.with_extension("json.unreadable")).unwrap();
    }
    // What a disk makes of a block: nothing here panics, and garbage is not taken for a state.
    for at in 0..whole.len() {
        let mut spoilt = whole.clone();
        spoilt[at] = 0;
        std::fs::write(&path, &spoilt).unwrap();
        assert_eq!(generation(), ("previous", 1), "{at}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(generation(), ("current", 2));
}

#[test]
fn the_state_before_is_taken_when_the_newest_cannot_be_read() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit(put("b", state(1, &[("b/1", "192.0.2.1")]))).unwrap();
    ledger.submit(add("b", 1, "b/2", "192.0.2.2")).unwrap();
    drop(ledger);
    let path = scratch.path().join("desired.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (mut ledger, reason) = open_over(&scratch, &carried(&["192.0.2.1", "192.0.2.2"]));
    assert!(reason.unwrap().contains("before its last change"));
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!(names(&merged), ["b/1", "held/192.0.2.2:1000/tcp"]);
    let recovery = merged.recovery.clone().unwrap();
    assert!(
        recovery.awaited.contains("b") && !recovery.is_over(merged.held(), recovery::QUIET * 9)
    );
    // What it says after a lost connection is everything, under a generation of its own.
    ledger.submit(put("b", state(3, &[("b/1", "192.0.2.1"), ("b/2", "192.0.2.2")]))).unwrap();
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!(names(&merged), ["b/1", "b/2"]);
    assert!(merged.recovery.as_ref().unwrap().is_over(merged.held(), std::time::Duration::ZERO));
    // A file that is gone is one that cannot be read.
    drop(ledger);
    std::fs::remove_file(&path).unwrap();
    assert!(open(&scratch).1.unwrap().contains("gone"));
}

#[test]
fn who_wants_nothing_at_first_has_not_answered() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("desired.json"), "").unwrap();
    let (mut ledger, _) = open_over(&scratch, &carried(&["192.0.2.1"]));
    let heard = |ledger: &Ledger| ledger.subscribe().borrow().recovery.clone().unwrap().heard.len();
    ledger.submit(put("b", state(1, &[]))).unwrap();
    assert_eq!(heard(&ledger), 0);
    ledger.submit(put("b", state(2, &[("b/1", "192.0.2.1")]))).unwrap();
    assert_eq!(heard(&ledger), 1);
    // Nothing is held now, so there is nothing that an empty wish could take.
    ledger.submit(put("c", state(1, &[]))).unwrap();
    assert_eq!(heard(&ledger), 2);
}

#[test]
fn sources_that_tokens_name_are_waited_for() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("desired.json"), "garbage").unwrap();
    let expected = |names: &[&str]| Expected {
        named: names.iter().map(|name| (*name).to_owned()).collect(),
        some: true,
    };
    let mut ledger = Ledger::open(scratch.path().join("desired.json"), None);
    ledger.begin(Vec::new(), &Observed::default(), expected(&["b", "c"]));
    let awaited = |ledger: &Ledger| {
        let recovery = ledger.subscribe().borrow().recovery.clone().unwrap();
        (recovery.awaited.into_iter().collect::<Vec<_>>().join(" "), recovery.some)
    };
    assert_eq!(awaited(&ledger), ("b c".to_owned(), true));
    ledger.submit(put("b", state(1, &[]))).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(scratch.path().join("desired.json"), None);
    ledger.begin(Vec::new(), &Observed::default(), expected(&["b", "c"]));
    assert_eq!(awaited(&ledger), ("c".to_owned(), true), "one that was heard stays heard");
    assert_eq!(ledger.submit(forget("c")).unwrap(), Accepted::New);
    assert_eq!(awaited(&ledger), (String::new(), true));
    // At a first start there is nothing to lose.
    let scratch = Scratch::new();
    let mut ledger = Ledger::open(scratch.path().join("desired.json"), None);
    ledger.begin(Vec::new(), &Observed::default(), expected(&["b"]));
    assert_eq!(ledger.subscribe().borrow().recovery, None);
    // Unless something is there that somebody must have wanted.
    let scratch = Scratch::new();
    assert!(open_over(&scratch, &carried(&["192.0.2.1"])).1.unwrap().contains("no ledger"));
}

#[test]
fn what_a_newer_version_wrote_is_kept() {
    let scratch = Scratch::new();
    let path = scratch.path().join("desired.json");
    let service = r#"{"name": "b/1", "vips": ["192.0.2.1"], "port": 80, "protocol": "tcp", "backends": [], "algorithm": "least"}"#;
    let text = format!(
        r#"{{"format": {}, "revision": 3, "changed": {{}}, "sources": {{"config": {{"generation": 2, "services": "elsewhere"}}}},
        "roles": {{"group":  1}}, "bridges": {{"b": {{"owner": "uid", "generation": 7, "inside": [], "mesh": true,
        "peers": [{{"name": "p", "address": "10.0.0.1", "asn": 1, "bfd": 3}}], "services": [[5, {service}]]}}}}}}"#,
        6
    );
    std::fs::write(&path, text).unwrap();
    let (mut ledger, trouble) = open(&scratch);
    assert_eq!(trouble, None);
    assert_eq!(names(&ledger.subscribe().borrow()), ["b/1"]);
    ledger.submit(Submission::Config(services(&["a"]), Limits::default())).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&written["format"], &written["roles"]["group"]), (&5.into(), &1.into()));
    let bridge = &written["bridges"]["b"];
    assert_eq!((&bridge["beyond"]["mesh"], &bridge["peers"][0]["bfd"]), (&true.into(), &3.into()));
    assert_eq!(bridge["services"][0][1]["algorithm"], "least");
    // And again.
    let before = ledger.subscribe().borrow().bridges.clone();
    drop(ledger);
    assert_eq!(open(&scratch).0.subscribe().borrow().bridges, before);
    assert_eq!(before["b"].wishes["b/1"].sent.ignored, ["algorithm"]);
}

#[test]
fn a_start_does_without_a_disk() {
    let scratch = Scratch::new();
    let obstacle = scratch.path().join("desired.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    let mut ledger = Ledger::open(scratch.path().join("desired.json"), None);
    ledger.begin(services(&["a"]), &Observed::default(), Expected::default());
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!(names(&merged), ["a"]);
    assert!(merged.unkept.as_ref().unwrap().contains("desired.json"));
    assert!(ledger.submit(put("b", state(1, &[]))).is_err(), "nothing is promised meanwhile");
    std::fs::remove_dir(&obstacle).unwrap();
    ledger.submit(put("b", state(1, &[]))).unwrap();
    assert_eq!(ledger.subscribe().borrow().unkept, None);
}

#[test]
fn what_cannot_be_written_is_not_accepted() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    // A directory in the place of the new file: root may write anywhere, but not this.
    std::fs::create_dir(scratch.path().join("desired.json.new")).unwrap();
    let refused = ledger.submit(Submission::Config(services(&["a"]), Limits::default()));
    assert!(matches!(refused, Err(SubmitError::Write { .. })));
    let merged = ledger.subscribe().borrow().clone();
    assert!(merged.unkept.is_some());
    assert_eq!(Merged { unkept: None, ..merged.as_ref().clone() }, Merged::default());
}

#[test]
fn what_comes_together_is_written_once() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    let group = vec![
        put("b", state(1, &[])),
        add("b", 1, "b/1", "192.0.2.1"),
        add("b", 1, "b/2", "192.0.2.2"),
        add("b", 2, "b/3", "192.0.2.3"),
        forget("c"),
    ];
    let answers = ledger.commit(group);
    let base = Refusal::Base { base: 1, newest: 2 };
    assert!(matches!(&answers[2], Err(SubmitError::Refused(refusal)) if *refusal == base));
    let taken: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok()).collect();
    let (new, known) = (Some(&Accepted::New), Some(&Accepted::Known));
    assert_eq!(taken, [new, new, None, new, known]);
    let merged = ledger.subscribe().borrow().clone();
    assert_eq!((names(&merged), merged.desired.generation()), (vec!["b/1", "b/3"], Generation(1)));
    assert_eq!(*open(&scratch).0.subscribe().borrow(), merged, "and all of it is kept");
}

#[test]
fn a_write_that_fails_fails_for_all_who_waited_for_it() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit(put("b", state(1, &[]))).unwrap();
    let before = ledger.subscribe().borrow().clone();
    let obstacle = scratch.path().join("desired.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    let group = || vec![add("b", 1, "b/1", "192.0.2.1"), add("b", 1, "b/2", "192.0.2.2")];
    let answers = ledger.commit(group());
    assert!(answers.iter().all(|answer| matches!(answer, Err(SubmitError::Write { .. }))));
    let after = ledger.subscribe().borrow().clone();
    assert_eq!(Merged { unkept: None, ..after.as_ref().clone() }, *before);
    std::fs::remove_dir(&obstacle).unwrap();
    assert!(matches!(
        ledger.commit(group())[..],
        [Ok(Accepted::New), Err(SubmitError::Refused(_))]
    ));
}

#[tokio::test]
async fn everybody_in_line_is_answered_when_what_they_said_is_kept() {
    let scratch = Scratch::new();
    let shared = SharedLedger::start(open(&scratch).0).unwrap();
    let name = |number: u8| format!("s{number}");
    let wishes = (0..100).map(|number| {
        let (shared, name, vip) = (shared.clone(), name(number), format!("192.0.2.{number}"));
        let wish = put(&name, state(1, &[(name.as_str(), vip.as_str())]));
        tokio::spawn(async move { shared.submit(wish).await })
    });
    for wish in wishes.collect::<Vec<_>>() {
        assert_eq!(wish.await.unwrap().unwrap(), Accepted::New);
    }
    assert!((0..100).all(|number| shared.generation(&name(number)) == Some(1)));
    let merged = open(&scratch).0.subscribe().borrow().clone();
    assert_eq!(merged.desired.services().count(), 100);
    let writes = merged.desired.generation().0;
    assert!(writes < 100, "{writes} writes");
}

#[test]
fn what_a_source_may_not_ask_for_is_free_for_another_also_after_a_restart() {
    use crate::sources::Limit;
    let scratch = Scratch::new();
    let limits = |prefix: &str| {
        let prefixes = vec![prefix.parse().unwrap()];
        let of_sources = vec![Limit { sources: vec!["east".to_owned()], prefixes }];
        Limits { of_sources, ..Limits::default() }
    };
    let owners = |merged: &Merged| {
        let owner = |vip: &str| {
            let frontend = sluice_model::Frontend {
                vip: vip.parse().unwrap(),
                port: 1000,
                protocol: sluice_model::Protocol::Tcp,
            };
            merged.desired.owner(&frontend).map(|name| name.0.clone())
        };
        ["192.0.2.1", "198.51.100.1"].map(owner)
    };
    let some = |name: &str| Some(name.to_owned());
    {
        let (mut ledger, _) = open(&scratch);
        let wish = Submission::Config(Vec::new(), limits("192.0.2.0/24"));
        ledger.submit(wish).unwrap();
        let both = state(1, &[("e/1", "192.0.2.1"), ("e/2", "198.51.100.1")]);
        ledger.submit(put("east", both)).unwrap();
        assert_eq!(owners(&ledger.subscribe().borrow()), [some("e/1"), None]);
        ledger.submit(put("west", state(1, &[("w/1", "198.51.100.1")]))).unwrap();
        assert_eq!(owners(&ledger.subscribe().borrow()), [some("e/1"), some("w/1")]);
        assert!(ledger.subscribe().borrow().clashes.is_empty());
    }
    let (mut ledger, _) = open(&scratch);
    ledger.limit(limits("192.0.2.0/24"));
    assert_eq!(owners(&ledger.subscribe().borrow()), [some("e/1"), some("w/1")]);
    let wish = Submission::Config(Vec::new(), limits("192.0.2.0/24"));
    assert_eq!(ledger.submit(wish).unwrap(), Accepted::Known);
    let wish = Submission::Config(Vec::new(), limits("203.0.113.0/24"));
    assert_eq!(ledger.submit(wish).unwrap(), Accepted::New, "a reload of other limits acts");
    assert_eq!(owners(&ledger.subscribe().borrow()), [None, some("w/1")]);
}
