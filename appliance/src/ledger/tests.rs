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
    Ledger::open(scratch.path().join("desired.json")).unwrap()
}

fn wish(generation: u64, names: &[&str]) -> Wish {
    Wish { generation: Generation(generation), services: services(names) }
}

#[test]
fn older_and_altered_wishes_are_refused() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    let from = || Source::Bridge("a".to_owned());
    assert_eq!(ledger.submit(from(), wish(5, &["a"])).unwrap(), Accepted::New(Generation(5)));
    assert_eq!(ledger.submit(from(), wish(5, &["a"])).unwrap(), Accepted::Known(Generation(5)));
    assert!(matches!(ledger.submit(from(), wish(4, &["a"])), Err(SubmitError::Older { .. })));
    assert!(matches!(ledger.submit(from(), wish(5, &["b"])), Err(SubmitError::Altered { .. })));
    let merged = ledger.subscribe().borrow().clone();
    let names: Vec<_> = merged.desired.services().map(|s| s.name.0.clone()).collect();
    assert_eq!((names, merged.desired.generation()), (vec!["a".to_owned()], Generation(1)));
}

#[test]
fn a_restart_loses_nothing() {
    let scratch = Scratch::new();
    let before = {
        let (mut ledger, _) = open(&scratch);
        ledger.submit_next(Source::ConfigFile, services(&["a", "b"])).unwrap();
        ledger.submit(Source::Bridge("a".to_owned()), wish(7, &["c", "d"])).unwrap();
        let merged = ledger.subscribe().borrow().clone();
        let clashes: Vec<String> = merged.clashes.iter().map(ToString::to_string).collect();
        assert_eq!(
            clashes,
            [
                "203.0.113.10:1000/tcp belongs to service a; service c is left out",
                "203.0.113.10:1001/tcp belongs to service b; service d is left out",
            ]
        );
        merged
    };
    let (mut ledger, trouble) = open(&scratch);
    assert_eq!(trouble, None);
    assert_eq!(*ledger.subscribe().borrow(), before);
    // The same file again is no new generation.
    let again = ledger.submit_next(Source::ConfigFile, services(&["a", "b"])).unwrap();
    assert_eq!(again, Accepted::Known(Generation(1)));
}

#[test]
fn only_what_changed_counts_as_changed() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    ledger.submit_next(Source::ConfigFile, services(&["a", "b"])).unwrap();
    let mut next = services(&["a", "b", "c"]);
    next[1].backends.clear();
    let watch = ledger.subscribe();
    ledger.submit_next(Source::ConfigFile, next).unwrap();
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
    ledger.submit_next(Source::ConfigFile, services(&["a"])).unwrap();
    assert_eq!(open(&scratch).1, None);
}

#[test]
fn what_cannot_be_written_is_not_accepted() {
    let scratch = Scratch::new();
    let (mut ledger, _) = open(&scratch);
    // A directory in the place of the new file: root may write anywhere, but not this.
    std::fs::create_dir(scratch.path().join("desired.json.new")).unwrap();
    let refused = ledger.submit_next(Source::ConfigFile, services(&["a"]));
    assert!(matches!(refused, Err(SubmitError::Write { .. })));
    assert_eq!(*ledger.subscribe().borrow(), Arc::new(Merged::default()));
}
