//! What follows from reports.

use super::*;
use crate::push::machine::Failure;
use sluice_api::{ServiceReport, ServiceState};

fn report(generation: u64, services: &[(&str, bool, bool, ServiceState)]) -> SourceReport {
    let one = |&(name, programmed, announced, state): &(&str, bool, bool, ServiceState)| {
        let name = name.to_owned();
        ServiceReport { name, programmed, announced, state, ..ServiceReport::default() }
    };
    let services = services.iter().map(one).collect();
    SourceReport { generation, services, ..SourceReport::default() }
}

fn two() -> Reports {
    let mut reports = Reports::of(&["https://a".into(), "https://b".into()]);
    reports.set_link(0, Link::Down(Failure::Unreachable("refused".into())), 0);
    reports.set_link(1, Link::Up, 0);
    reports
}

#[test]
fn served_is_what_one_appliance_has_completely() {
    use ServiceState::{Down, Unprogrammed, Up};
    let names = ["s/1".to_owned(), "s/2".to_owned()];
    for (generation, services, reason) in [
        (5, vec![("s/1", true, true, Up), ("s/2", true, true, Up)], None),
        (4, vec![("s/1", true, true, Up), ("s/2", true, true, Up)], Some("NotProgrammed")),
        (5, vec![("s/1", true, true, Up)], Some("NotProgrammed")),
        (5, vec![("s/1", true, true, Up), ("s/2", true, false, Up)], Some("NotAnnounced")),
        (6, vec![("s/1", true, false, Down), ("s/2", true, true, Up)], None),
        (
            5,
            vec![("s/1", false, false, Unprogrammed), ("s/2", true, true, Up)],
            Some("NotProgrammed"),
        ),
    ] {
        let mut reports = two();
        reports.take(1, report(generation, &services));
        let got = match reports.judge(&names, 5) {
            Verdict::Served(_) => None,
            Verdict::Lost(why) | Verdict::Pending(why) => Some(why.reason),
        };
        assert_eq!(got, reason, "{generation} {services:?}");
    }
}

#[test]
fn without_an_appliance_the_reason_names_it() {
    let reports = {
        let mut reports = two();
        reports.set_link(1, Link::Down(Failure::Unauthorized(401)), 0);
        reports
    };
    let Verdict::Pending(why) = reports.judge(&["s/1".to_owned()], 5) else { panic!("served") };
    assert_eq!(why.reason, "NoAppliance");
    assert_eq!(
        why.message,
        "appliance https://a cannot be reached: refused; appliance https://b refuses the token or client \
         certificate (401), check --token-file and --client-certificate"
    );
}

#[test]
fn lost_is_what_no_appliance_reaches_any_longer() {
    use ServiceState::{Down, Up};
    let urls = ["https://a".to_owned(), "https://b".to_owned()];
    let names = ["s/1".to_owned(), "s/2".to_owned()];
    let no_way = || Some("no route to 10.0.0.1".to_owned());
    let report = |states: [(ServiceState, Option<String>); 2]| {
        let services = std::iter::zip(&names, states).map(|(name, (state, problem))| {
            let announced = state == Up;
            let name = name.clone();
            let report = ServiceReport { name, announced, state, ..ServiceReport::default() };
            ServiceReport { programmed: true, problem, generation: 5, ..report }
        });
        let services = services.collect();
        SourceReport { generation: 5, services, ..SourceReport::default() }
    };
    let well = || report([(Up, None), (Up, None)]);
    for (what, a, b, reason) in [
        ("one is left", [(Down, no_way()), (Up, None)], well(), None),
        ("another appliance reaches it", [(Down, no_way()), (Down, no_way())], well(), None),
        (
            "nobody reaches it",
            [(Down, no_way()), (Down, None)],
            report([(Down, no_way()), (Down, no_way())]),
            Some(
                "appliance https://a: no route to 10.0.0.1; appliance https://b: no route to 10.0.0.1",
            ),
        ),
        (
            "without endpoints",
            [(Down, None), (Down, None)],
            report([(Down, None), (Down, None)]),
            None,
        ),
    ] {
        let mut reports = Reports::of(&urls);
        for number in [0, 1] {
            reports.set_link(number, Link::Up, 0);
        }
        reports.take(0, report(a));
        reports.take(1, b);
        let got = match reports.judge(&names, 5) {
            Verdict::Served(_) => None,
            Verdict::Lost(why) | Verdict::Pending(why) => Some(why.message),
        };
        assert_eq!(got.as_deref(), reason, "{what}");
    }
    let mut reports = Reports::of(&urls);
    let lost = || report([(Down, no_way()), (Up, None)]);
    assert_eq!(reports.take(0, lost()), ["s/1"], "news");
    assert_eq!(reports.take(0, lost()), [""; 0], "no news");
    assert_eq!(reports.take(0, well()), ["s/1"], "found again");
}

/// What the holders of a service are: nobody, or who by an initial: `S`erving, `?` for silent.
fn held(reports: &Reports, first: Option<u64>, generation: u64) -> String {
    let holders = reports.holders("p/d/web/", first, generation);
    let text = |who: &[String], sign: &str| sign.repeat(who.len());
    format!("{}{}", text(&holders.serving, "S"), text(&holders.silent, "?"))
}

fn unreachable() -> Link {
    Link::Down(Failure::Unreachable("refused".into()))
}

#[test]
fn gone_is_what_every_appliance_says_it_has_not() {
    let mut reports = Reports::of(&["https://a".into(), "https://b".into()]);
    for number in [0, 1] {
        reports.set_link(number, Link::Up, 4);
    }
    let with = |generation, name| report(generation, &[(name, true, true, ServiceState::Up)]);
    reports.take(0, with(5, "p/d/other/80-tcp"));
    for (generation, name, expected) in
        [(5, "p/d/web/80-tcp", "S"), (5, "p/d/web2/80-tcp", ""), (4, "p/d/x/1-tcp", "S")]
    {
        reports.take(1, with(generation, name));
        assert_eq!(held(&reports, None, 5), expected, "{generation} {name}");
    }
    // It cannot be asked any longer: what it said last is all that counts.
    reports.take(1, with(5, "p/d/web/80-tcp"));
    reports.set_link(1, unreachable(), 5);
    assert_eq!(held(&reports, None, 5), "?", "it still announces the address");
    assert_eq!(held(&reports, Some(3), 5), "?");
    reports.take(1, with(5, "p/d/other/80-tcp"));
    assert_eq!(held(&reports, None, 5), "", "it said so itself before it was lost");
    reports.set_link(1, Link::Unknown, 5);
    assert_eq!(held(&reports, None, 5), "S", "it may still answer");
}

#[test]
fn who_was_lost_before_a_service_came_cannot_have_it() {
    let mut reports = Reports::of(&["https://a".into()]);
    // Dead from the start.
    reports.set_link(0, unreachable(), 7);
    assert_eq!(held(&reports, Some(8), 9), "");
    assert_eq!(held(&reports, None, 9), "?", "an earlier leader may have told it");
    // It answers, is told something, and dies before it says what it took.
    reports.take(0, report(2, &[]));
    assert_eq!(held(&reports, Some(12), 13), "?", "a change may be on the way to it");
    reports.set_link(0, Link::Down(Failure::Unreachable("broken".into())), 12);
    assert_eq!(held(&reports, Some(12), 13), "?", "it may have been told");
    assert_eq!(held(&reports, Some(13), 14), "");
    reports.set_link(0, Link::Down(Failure::Unreachable("refused".into())), 20);
    assert_eq!(held(&reports, Some(13), 14), "", "nothing was told in between");
    reports.set_link(0, Link::Down(Failure::OtherOwner("x".into())), 20);
    assert_eq!(held(&reports, None, 14), "", "what is there is somebody else's");
}

#[test]
fn what_is_not_as_wanted_is_said_beside_the_serving() {
    let names = ["s/1".to_owned(), "s/2".to_owned()];
    let good = || ServiceReport {
        programmed: true,
        announced: true,
        state: ServiceState::Up,
        ..ServiceReport::default()
    };
    let reported = |change: fn(&mut ServiceReport)| {
        let mut first = ServiceReport { name: "s/1".into(), ..good() };
        change(&mut first);
        let services = vec![first, ServiceReport { name: "s/2".into(), ..good() }];
        SourceReport { generation: 5, services, ..SourceReport::default() }
    };
    let well = || reported(|_| ());
    let refusal = Failure::Answer { status: 413, detail: "too large".into() };
    for (what, link, report, expected) in [
        ("both well", Link::Up, well(), None),
        (
            "one refuses it",
            Link::Up,
            reported(|s| (s.programmed, s.problem) = (false, Some("no room".into()))),
            Some((NOT_EVERYWHERE, true, "appliance b: no room")),
        ),
        (
            "one leaves an endpoint out",
            Link::Up,
            reported(|s| s.problem = Some("10.0.0.1 is its own".into())),
            Some((IN_PART, false, "appliance b: 10.0.0.1 is its own")),
        ),
        (
            "one is older",
            Link::Up,
            reported(|s| s.ignored = vec!["on_down".into()]),
            Some((IGNORED, true, "ignores on_down; update it")),
        ),
        (
            "one refuses the change",
            Link::Down(refusal.clone()),
            SourceReport { generation: 4, ..well() },
            Some((NOT_EVERYWHERE, true, "appliance b answers 413: too large")),
        ),
        ("one has it already and refuses later ones", Link::Down(refusal), well(), None),
        ("one is away", unreachable(), SourceReport { generation: 4, ..well() }, None),
    ] {
        let mut reports = Reports::of(&["a".into(), "b".into()]);
        for number in [0, 1] {
            reports.set_link(number, Link::Up, 5);
        }
        reports.take(0, well());
        reports.take(1, report);
        reports.set_link(1, link, 5);
        let Verdict::Served(why) = reports.judge(&names, 5) else { panic!("{what}") };
        match (why, expected) {
            (None, None) => {}
            (Some(why), Some((reason, is_final, message))) => {
                assert_eq!((why.reason, why.is_final), (reason, is_final), "{what}");
                assert!(why.message.contains(message), "{what}: {}", why.message);
            }
            (got, expected) => panic!("{what}: {got:?}, not {expected:?}"),
        }
    }
}

#[test]
fn what_turns_after_all_was_well_is_news() {
    let mut reports = Reports::of(&["a".into()]);
    reports.set_link(0, Link::Up, 5);
    let mut say = |programmed, problem: Option<&str>| {
        let mut report = report(5, &[("s/1", programmed, true, ServiceState::Up)]);
        report.services[0].problem = problem.map(str::to_owned);
        reports.take(0, report)
    };
    assert_eq!(say(true, None), [""; 0]);
    assert_eq!(say(true, Some("left out")), ["s/1"]);
    assert_eq!(say(true, Some("another one left out")), [""; 0]);
    assert_eq!(say(false, Some("no room")), ["s/1"]);
    assert_eq!(say(true, None), ["s/1"]);
}
