//! The page as a whole.

use super::*;
use crate::http::demo_snapshot::demo_snapshot;

#[test]
fn the_document_is_complete_without_a_script() {
    let html = render(&demo_snapshot(30)).into_string();
    for part in [
        "<title>(2) edge-1 · Sluice</title>",
        "http-equiv=\"refresh\"",
        "10.1.0.12:8080",
        "connection refused",
        "203.0.113.10:80",
        "2001:db8:113::10/128",
        "hold timer expired (4/0)",
        "no next hop",
        "generic",
        "d=\"M0 ",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
}

/// The policy forbids all of it; a browser would drop it silently.
#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    for snapshot in [demo_snapshot(30), Snapshot::default()] {
        let html = render(&snapshot).into_string();
        for forbidden in ["style=", "<style", " onclick", "javascript:", "https://", "src=\"http"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert_eq!(html.matches("<script").count(), 1);
    }
}

#[test]
fn text_from_outside_is_escaped() {
    let mut snapshot = demo_snapshot(0);
    let evil = "<img src=x onerror=alert(1)>\"'".to_owned();
    snapshot.status.name.clone_from(&evil);
    snapshot.status.problems = vec![evil.clone()];
    snapshot.services[0].name.clone_from(&evil);
    snapshot.services[0].backends[0].reason = Some(evil.clone());
    snapshot.peers[0].last_error = Some(evil);
    let html = render(&snapshot).into_string();
    assert!(!html.contains("<img"), "markup got through");
    assert!(html.matches("&lt;img").count() >= 5);
}

#[test]
fn every_empty_section_says_what_to_do() {
    let html = render(&Snapshot::default()).into_string();
    for hint in ["[[service]]", "Add [bgp]", "[data-plane] interfaces", "Not ready"] {
        assert!(html.contains(hint), "{hint}");
    }
}

#[test]
fn no_element_has_two_classes_attributes() {
    let html = render(&demo_snapshot(30)).into_string();
    for tag in html.split('<').filter(|tag| !tag.starts_with('/')) {
        let open = tag.split('>').next().unwrap();
        assert!(open.matches(" class=").count() <= 1, "{open}");
    }
}

#[test]
fn ids_are_unique() {
    let html = render(&demo_snapshot(30)).into_string();
    let mut ids: Vec<&str> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
