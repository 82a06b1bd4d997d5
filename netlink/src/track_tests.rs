//! The tracker by hand: no kernel, and time is a number.

use super::*;

const KEY: NeighKey = (2, IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)));
const MAC: Mac = [2, 0, 0, 0, 0, 9];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn links(up: bool) -> BTreeMap<u32, Link> {
    let link = Link {
        index: 2,
        name: "eth0".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        up,
        queues: 1,
        is_pair: false,
        device: None,
    };
    BTreeMap::from([(2, link)])
}

fn neigh(state: NeighbourState) -> Neigh {
    use NeighbourState::{Failed, Incomplete};
    Neigh { state, mac: (!matches!(state, Failed | Incomplete)).then_some(MAC) }
}

/// One on-link destination, with its neighbour in this state.
fn tracker(first: Option<NeighbourState>, now: Instant) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.track(&BTreeSet::from([KEY.1]));
    assert_eq!(tracker.take_dirty(), [KEY.1]);
    let neighs = first.map(|state| (KEY, neigh(state))).into_iter().collect();
    let route = Route::Via { link_index: KEY.0, gateway: KEY.1 };
    tracker.routed(vec![(KEY.1, route)], &neighs, now);
    tracker
}

fn resolution(tracker: &Tracker, up: bool) -> Resolution {
    tracker.resolution(tracker.destinations[&KEY.1].unwrap(), &links(up))
}

fn resolved() -> Resolution {
    let source_mac = [2, 0, 0, 0, 0, 1];
    Resolution::Resolved(NextHop { link_index: 2, source_mac, destination_mac: MAC })
}

fn resolving() -> Resolution {
    Resolution::Resolving { link_index: KEY.0, gateway: KEY.1 }
}

fn unreachable() -> Resolution {
    Resolution::Unreachable { link_index: KEY.0, gateway: KEY.1 }
}

#[test]
fn states_give_resolutions() {
    use NeighbourState::*;
    let now = Instant::now();
    for (what, states, wanted) in [
        ("nothing known", vec![], resolving()),
        ("being asked", vec![Incomplete], resolving()),
        ("answered", vec![Incomplete, Reachable], resolved()),
        ("aged", vec![Reachable, Stale], resolved()),
        ("being confirmed", vec![Stale, Delay, Probe], resolved()),
        ("set by hand", vec![Permanent], resolved()),
        ("without neighbour protocol", vec![Noarp], resolved()),
        ("never answered; the kernel does not announce Incomplete", vec![Failed], unreachable()),
        ("asked again", vec![Failed, Incomplete], unreachable()),
        ("answered after all", vec![Failed, Incomplete, Reachable], resolved()),
        ("no longer answers", vec![Reachable, Stale, Delay, Probe, Failed], unreachable()),
        ("deleted", vec![Reachable, Failed], resolved()),
        ("deleted, asked, no answer", vec![Reachable, Failed, None, Failed], unreachable()),
        ("forgotten", vec![Stale, None], resolved()),
    ] {
        let mut tracker = tracker(Option::None, now);
        for state in &states {
            tracker.neigh_changed(&KEY, Some(&neigh(*state)), now);
        }
        assert_eq!(resolution(&tracker, true), wanted, "{what}: {states:?}");
        assert_eq!(resolution(&tracker, false), unreachable(), "{what}, link down");
    }
}

#[test]
fn a_dead_neighbour_is_asked_at_once_and_then_ever_less() {
    let start = Instant::now();
    let mut tracker = tracker(None, start);
    let mut now = start;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let due = tracker.next_deadline().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        assert_eq!(tracker.take_due(&links(true), now), [KEY]);
        assert!(tracker.take_due(&links(true), now).is_empty(), "asked twice at once");
        // The kernel takes three seconds to give up; the pause counts from then.
        now += seconds(3);
        tracker.neigh_changed(&KEY, Some(&neigh(NeighbourState::Incomplete)), now);
        assert_eq!(tracker.next_deadline(), None, "the kernel is asking");
        tracker.neigh_changed(&KEY, Some(&neigh(NeighbourState::Failed)), now);
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30]);

    tracker.neigh_changed(&KEY, Some(&neigh(NeighbourState::Reachable)), now);
    assert_eq!(tracker.next_deadline(), None);
    tracker.neigh_changed(&KEY, None, now + seconds(100));
    assert_eq!(
        tracker.take_due(&links(true), now + seconds(100)),
        [KEY],
        "the backoff starts anew after an answer"
    );
}

#[test]
fn a_request_the_kernel_did_not_take_is_backed_off_too() {
    let start = Instant::now();
    let mut tracker = tracker(None, start);
    assert_eq!(tracker.take_due(&links(true), start), [KEY]);
    // No notification follows.
    assert_eq!(tracker.next_deadline(), Some(start + seconds(1)));
}

#[test]
fn a_stale_entry_is_confirmed_every_half_minute() {
    let start = Instant::now();
    let mut tracker = tracker(Some(NeighbourState::Reachable), start);
    assert_eq!(tracker.next_deadline(), None);
    tracker.neigh_changed(&KEY, Some(&neigh(NeighbourState::Stale)), start + seconds(20));
    assert_eq!(tracker.next_deadline(), Some(start + seconds(30)), "30 s after its last answer");
    assert_eq!(tracker.take_due(&links(true), start + seconds(30)), [KEY]);
    tracker.neigh_changed(&KEY, Some(&neigh(NeighbourState::Delay)), start + seconds(30));
    assert_eq!(tracker.next_deadline(), None);
    assert_eq!(resolution(&tracker, true), resolved());
}

#[test]
fn an_entry_found_stale_is_confirmed_at_once() {
    let start = Instant::now();
    let mut tracker = tracker(Some(NeighbourState::Stale), start);
    assert_eq!(resolution(&tracker, true), resolved());
    assert_eq!(tracker.take_due(&links(true), start), [KEY]);
}

#[test]
fn nothing_is_asked_through_a_link_that_is_down_until_it_comes_up() {
    let start = Instant::now();
    let mut tracker = tracker(None, start);
    let mut now = start;
    for _ in 0..6 {
        now = tracker.next_deadline().unwrap();
        assert!(tracker.take_due(&links(false), now).is_empty());
    }
    assert!(tracker.next_deadline().unwrap() > now + seconds(10));
    tracker.link_up(KEY.0);
    assert_eq!(tracker.take_due(&links(true), now), [KEY]);
}

#[test]
fn only_what_may_have_changed_is_asked_again() {
    let now = Instant::now();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let all = ["10.0.0.1", "10.0.1.1", "2001:db8::1"].map(ip);
    let mut tracker = Tracker::default();
    tracker.track(&BTreeSet::from(all));
    tracker.take_dirty();
    let answers = all.map(|destination| (destination, Route::None)).to_vec();
    tracker.routed(answers, &HashMap::new(), now);
    assert_eq!(tracker.take_resolutions(&links(true)).unwrap().len(), 3);
    assert_eq!(tracker.take_resolutions(&links(true)), None);

    for (prefix, wanted) in [
        ("10.0.0.0/24", &all[..1]),
        ("10.0.0.0/8", &all[..2]),
        ("0.0.0.0/0", &all[..2]),
        ("::/0", &all[2..]),
        ("192.0.2.0/24", &[]),
    ] {
        tracker.invalidate(&prefix.parse().unwrap());
        assert_eq!(tracker.take_dirty(), wanted, "{prefix}");
    }

    // An answer for one that was dropped meanwhile does not bring it back.
    tracker.invalidate_all();
    let asked = tracker.take_dirty();
    tracker.track(&BTreeSet::from([all[0]]));
    tracker.not_routed(asked.clone());
    assert_eq!(tracker.take_dirty(), &all[..1]);
    let local = asked.into_iter().map(|destination| (destination, Route::Local)).collect();
    tracker.routed(local, &HashMap::new(), now);
    let resolutions = tracker.take_resolutions(&links(true)).unwrap();
    assert_eq!(resolutions, BTreeMap::from([(all[0], Resolution::Local)]));
}
