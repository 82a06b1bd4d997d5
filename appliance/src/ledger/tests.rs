//! What is accepted, refused, and still there after a restart.

use super::*;
use crate::scratch::Scratch;

fn services(names: &[&str]) -> Vec<Service> {
    let example = include_str!("../../sluice.example.toml");
    let model = crate::config::parse(example).unwrap().services.remove(0);
    let rename = |(index, name): (usize, &&str)| Service {
        name: ServiceName((*name).to_owned()),
        port: u16::try_from(index).unwrap() + 1000,
        ..model.clone()
    };
    names.iter().enumerate().map(rename).collect()
}

fn open(scratch: &Scratch) -> (Ledger, Option<String>) {
    Ledger::open(scratch.path().join("desired.json"), None).unwrap()
}

/// What a bridge wants: services of these names, each on its own VIP.
fn state(generation: u64, services: &[(&str, &str)]) -> SourceState {
    let wanted = |(name, vip): &(&str, &str)| sluice_api::WantedService {
        name: (*name).to_owned(),
        vips: vec![(*vip).to_owned()],
        port: 1000,
        ..Default::default()
    };
    let services = services.iter().map(wanted).collect();
    SourceState { owner: "uid".to_owned(), generation, services, ..SourceState::default() }
}

fn put(source: &str, state: SourceState) -> Submission {
    Submission::Put { source: source.to_owned(), state }
}

fn forget(source: &str) -> Submission {
    Submission::Forget { source: source.to_owned() }
}

/// One more service on top of a generation.
fn add(source: &str, base: u64, name: &str, vip: &str) -> Submission {
    let SourceState { owner, services, .. } = state(0, &[(name, vip)]);
    let (generation, source) = (base + 1, source.to_owned());
    let change =
        SourceChange { owner, base, generation, upsert: services, ..SourceChange::default() };
    Submission::Patch { source, change }
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
        ledger.submit(Submission::Config(services(&["a", "b"]))).unwrap();
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
    assert_eq!(ledger.submit(Submission::Config(services(&["a", "b"]))).unwrap(), Accepted::Known);
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
    ledger.submit(Submission::Config(services(&["a", "b"]))).unwrap();
    let mut next = services(&["a", "b", "c"]);
    next[1].backends.clear();
    let watch = ledger.subscribe();
    ledger.submit(Submission::Config(next)).unwrap();
    assert!(watch.has_changed().unwrap());
    let merged = watch.borrow().clone();
    let changed: Vec<_> = merged.changed.iter().map(|(n, g)| (n.0.as_str(), g.0)).collect();
    assert_eq!(changed, [("a", 1), ("b", 2), ("c", 2)]);
}

#[test]
fn a_garbled_file_is_kept_aside() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("desired.json"), b"{\"format\": 1, \"rev").unwrap();
    let (mut ledger, trouble) = open(&scratch);
    assert!(trouble.unwrap().contains("desired.json.unreadable"));
    assert!(scratch.path().join("desired.json.unreadable").exists());
    ledger.submit(Submission::Config(services(&["a"]))).unwrap();
    assert_eq!(open(&scratch).1, None);
}

#[test]
fn what_cannot_be_written_is_not_accepted() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    // A directory in the place of the new file: root may write anywhere, but not this.
    std::fs::create_dir(scratch.path().join("desired.json.new")).unwrap();
    let refused = ledger.submit(Submission::Config(services(&["a"])));
    assert!(matches!(refused, Err(SubmitError::Write { .. })));
    assert_eq!(*ledger.subscribe().borrow(), Arc::new(Merged::default()));
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
    assert_eq!(*ledger.subscribe().borrow(), before);
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
