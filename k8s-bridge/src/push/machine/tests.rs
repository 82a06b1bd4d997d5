//! The conversation as tables: what comes in, what must go out.

use super::*;
use sluice_api::ServiceReport;

/// `SourceReport` of the appliance at a generation.
fn report(owner: &str, generation: u64, revision: u64, services: usize) -> SourceReport {
    let service = |n: usize| ServiceReport { name: format!("s{n}"), ..ServiceReport::default() };
    SourceReport {
        owner: owner.into(),
        generation,
        revision,
        services: (0..services).map(service).collect(),
        ..SourceReport::default()
    }
}

fn wanted(generation: u64) -> Input {
    Input::Wanted(Wanted { generation: Some(generation), is_doubtful: false })
}

fn unreachable() -> Failure {
    Failure::Unreachable("refused".into())
}

/// Drives a machine on a clock of its own and writes down what it does, reports left out.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Bench { machine: Machine::new("me".into()), now: Instant::now() }
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, self.now, 1.0);
        let outputs = std::iter::from_fn(|| self.machine.poll_output());
        outputs.filter(|o| !matches!(o, Output::Report(_))).collect()
    }

    /// Lets the time of the next deadline come.
    fn wait(&mut self) -> (Duration, Vec<Output>) {
        let at = self.machine.next_deadline().unwrap();
        let waited = at - self.now;
        self.now = at;
        (waited, self.put(Input::Time))
    }

    /// Connected and up to date with generation 5, a poll under way.
    fn synced() -> Self {
        let mut bench = Bench::new();
        assert_eq!(bench.put(wanted(5)), [Output::Send(Ask::Look)]);
        let looked = Input::Answer(Ask::Look, Ok(report("", 0, 7, 0)));
        assert_eq!(bench.put(looked), [Output::Send(Ask::Put)]);
        let up = bench.put(Input::Answer(Ask::Put, Ok(report("me", 5, 8, 1))));
        assert_eq!(up, [Output::Link(Link::Up), Output::Send(Ask::Poll(8))]);
        bench
    }
}

#[test]
fn nothing_is_asked_while_nothing_is_wanted() {
    let mut bench = Bench::new();
    assert_eq!(bench.put(Input::Wanted(Wanted::default())), []);
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn changes_during_a_request_become_one() {
    let mut bench = Bench::synced();
    assert_eq!(bench.put(wanted(6)), [Output::Send(Ask::Patch(5))]);
    assert_eq!(bench.put(wanted(7)), []);
    assert_eq!(bench.put(wanted(8)), []);
    let done = Input::Answer(Ask::Patch(5), Ok(report("me", 6, 9, 1)));
    assert_eq!(bench.put(done), [Output::Send(Ask::Patch(6))]);
    let done = Input::Answer(Ask::Patch(6), Ok(report("me", 8, 10, 1)));
    assert_eq!(bench.put(done), []);
}

#[test]
fn reports_come_by_long_poll_at_a_bounded_rate() {
    let mut bench = Bench::synced();
    assert_eq!(bench.put(Input::Answer(Ask::Poll(8), Ok(report("me", 5, 9, 1)))), []);
    assert_eq!(bench.wait(), (POLL_INTERVAL, vec![Output::Send(Ask::Poll(9))]));
}

#[test]
fn a_conflict_gives_everything_and_a_second_one_waits() {
    let mut bench = Bench::synced();
    bench.put(wanted(6));
    let conflict = || Err(Failure::Conflict("base".into()));
    let got = bench.put(Input::Answer(Ask::Patch(5), conflict()));
    assert_eq!(got, [Output::HangUp, Output::Send(Ask::Look)]);
    bench.put(Input::Answer(Ask::Look, Ok(report("me", 4, 1, 1))));
    let got = bench.put(Input::Answer(Ask::Put, conflict()));
    assert_eq!(got, [Output::HangUp, Output::Link(Link::Down(Failure::Conflict("base".into())))]);
}

#[test]
fn waits_grow_to_a_limit_and_end_with_everything() {
    let mut bench = Bench::synced();
    let mut waits = Vec::new();
    bench.put(Input::Answer(Ask::Poll(8), Err(unreachable())));
    for _ in 0..7 {
        let (waited, asked) = bench.wait();
        assert_eq!(asked, [Output::Send(Ask::Look)]);
        waits.push(waited.as_millis());
        bench.put(Input::Answer(Ask::Look, Err(unreachable())));
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
    bench.wait();
    let got = bench.put(Input::Answer(Ask::Look, Ok(report("me", 5, 1, 0))));
    assert_eq!(got, [Output::Outrank(5)], "whatever it has with our number, ours is new");
    assert_eq!(bench.put(wanted(6)), [Output::Send(Ask::Look)]);
    let got = bench.put(Input::Answer(Ask::Look, Ok(report("me", 5, 1, 0))));
    assert_eq!(got, [Output::Send(Ask::Put)]);
}

#[test]
fn the_source_of_another_owner_is_left_alone() {
    let mut bench = Bench::new();
    bench.put(wanted(5));
    let got = bench.put(Input::Answer(Ask::Look, Ok(report("other", 1, 1, 3))));
    let down = Output::Link(Link::Down(Failure::OtherOwner("other".into())));
    assert_eq!(got, [Output::HangUp, down]);
}

#[test]
fn an_empty_first_set_is_withheld_until_it_is_meant() {
    let doubtful = || Input::Wanted(Wanted { generation: Some(5), is_doubtful: true });
    for (services, there) in [(0, vec![Output::Send(Ask::Put)]), (2, vec![])] {
        let mut bench = Bench::new();
        bench.put(doubtful());
        let mut got = bench.put(Input::Answer(Ask::Look, Ok(report("me", 4, 1, services))));
        got.retain(|o| matches!(o, Output::Send(Ask::Put)));
        assert_eq!(got, there, "with {services} services on the appliance");
    }
    let mut bench = Bench::new();
    bench.put(doubtful());
    let got = bench.put(Input::Answer(Ask::Look, Ok(report("me", 4, 1, 2))));
    assert_eq!(got, [Output::Link(Link::Withheld), Output::Send(Ask::Poll(1))]);
    assert_eq!(bench.put(wanted(6)), [Output::Send(Ask::Put)]);
}

#[test]
fn a_state_that_was_replaced_is_noticed_but_crossed_answers_are_not_taken_for_it() {
    let mut bench = Bench::synced();
    assert_eq!(bench.put(Input::Answer(Ask::Poll(8), Ok(report("me", 4, 6, 1)))), []);
    let (_, asked) = bench.wait();
    assert_eq!(asked, [Output::Send(Ask::Poll(6))]);
    let got = bench.put(Input::Answer(Ask::Poll(6), Ok(report("me", 4, 6, 1))));
    assert_eq!(got, [Output::HangUp, Output::Send(Ask::Look)]);
}

#[test]
fn who_no_longer_leads_falls_silent() {
    let mut bench = Bench::synced();
    let got = bench.put(Input::Wanted(Wanted::default()));
    assert_eq!(got, [Output::HangUp, Output::Link(Link::Unknown)]);
    assert_eq!(bench.machine.next_deadline(), None);
}
