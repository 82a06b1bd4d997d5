//! The state machine of one target: outcomes go in, changes of verdict come out. No clock, no socket.

use sluice_model::Verdict;
use std::time::Duration;

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The target answered as it should.
    Passed,
    /// The target answered otherwise, refused, or did not answer; why.
    Failed(String),
    /// This machine could not ask: no descriptor, memory, port, route or permission. It says nothing about the target.
    NotMade(String),
}

/// What is known of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    rise: u8,
    fall: u8,
    state: State,
}

/// States carry how far the next one is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown { failures: u8 },
    Up { failures: u8 },
    Down { successes: u8 },
}

// === impl Machine ===

impl Machine {
    pub(super) fn new(rise: u8, fall: u8) -> Self {
        Machine { rise, fall, state: State::Unknown { failures: 0 } }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.state {
            State::Unknown { .. } => Verdict::Unknown,
            State::Up { .. } => Verdict::Up,
            State::Down { .. } => Verdict::Down,
        }
    }

    /// Counts one probe; returns the verdict when it has changed.
    pub(super) fn observe(&mut self, outcome: &Outcome) -> Option<Verdict> {
        let success = match outcome {
            Outcome::Passed => true,
            Outcome::Failed(_) => false,
            // Neither a success nor a failure, and no gap in a run of either.
            Outcome::NotMade(_) => return None,
        };
        let before = self.verdict();
        self.state = match (self.state, success) {
            // Nothing speaks against a target that answers the first question: it need not rise again.
            (State::Unknown { .. } | State::Up { .. }, true) => State::Up { failures: 0 },
            (State::Unknown { failures }, false) => {
                self.fallen(failures).unwrap_or_else(|failures| State::Unknown { failures })
            }
            (State::Up { failures }, false) => {
                self.fallen(failures).unwrap_or_else(|failures| State::Up { failures })
            }
            (State::Down { successes }, true) => match successes.saturating_add(1) {
                risen if risen >= self.rise => State::Up { failures: 0 },
                successes => State::Down { successes },
            },
            (State::Down { .. }, false) => State::Down { successes: 0 },
        };
        let after = self.verdict();
        (after != before).then_some(after)
    }

    /// One failure more: down, or the count that is not enough yet.
    fn fallen(&self, failures: u8) -> Result<State, u8> {
        let failures = failures.saturating_add(1);
        if failures >= self.fall { Ok(State::Down { successes: 0 }) } else { Err(failures) }
    }
}

/// The pause after the first probe: between a half and a whole interval, by the target's own number. Targets that were
/// all probed at once at the start drift apart, and no randomness is needed.
pub(super) fn first_pause(interval: Duration, number: u64) -> Duration {
    let share = u32::try_from(number % 512).unwrap_or(0) + 512;
    interval.saturating_mul(share) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Down, Unknown, Up};

    fn outcome(letter: char) -> Outcome {
        match letter {
            '+' => Outcome::Passed,
            '-' => Outcome::Failed("no".to_owned()),
            _ => Outcome::NotMade("no descriptor".to_owned()),
        }
    }

    /// Feeds `+`, `-` and `.` (not made); says the verdict after each.
    fn run(rise: u8, fall: u8, outcomes: &str) -> Vec<Verdict> {
        let mut machine = Machine::new(rise, fall);
        outcomes
            .chars()
            .map(|outcome| {
                let before = machine.verdict();
                let change = machine.observe(&self::outcome(outcome));
                assert_eq!(change.is_some(), machine.verdict() != before);
                machine.verdict()
            })
            .collect()
    }

    #[test]
    fn table() {
        let cases = [
            (2, 2, "+", vec![Up]),
            (2, 2, "-", vec![Unknown]),
            (2, 2, "--", vec![Unknown, Down]),
            (2, 2, "-+", vec![Unknown, Up]),
            (2, 2, "+-", vec![Up, Up]),
            (2, 2, "+--", vec![Up, Up, Down]),
            (2, 2, "+-+-", vec![Up, Up, Up, Up]),
            (2, 2, "--+", vec![Unknown, Down, Down]),
            (2, 2, "--++", vec![Unknown, Down, Down, Up]),
            (2, 2, "--+-+", vec![Unknown, Down, Down, Down, Down]),
            (1, 1, "-+-", vec![Down, Up, Down]),
            (3, 1, "-+++", vec![Down, Down, Down, Up]),
            (1, 3, "+---", vec![Up, Up, Up, Down]),
            (2, 2, "..", vec![Unknown, Unknown]),
            (2, 2, "+...", vec![Up, Up, Up, Up]),
            (2, 2, "+-..+-", vec![Up, Up, Up, Up, Up, Up]),
            (2, 2, "+-.-", vec![Up, Up, Up, Down]),
            (2, 2, "--..+.+", vec![Unknown, Down, Down, Down, Down, Down, Up]),
        ];
        for (rise, fall, outcomes, verdicts) in cases {
            assert_eq!(run(rise, fall, outcomes), verdicts, "rise {rise} fall {fall} {outcomes}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_verdict_needs_its_run(
            rise in 1u8..5, fall in 1u8..5, outcomes in "[+-]{1,60}",
        ) {
            let verdicts = run(rise, fall, &outcomes);
            for (end, pair) in verdicts.windows(2).enumerate() {
                let tail = |n: u8| outcomes[..end + 2].chars().rev().take(usize::from(n)).collect::<String>();
                match (pair[0], pair[1]) {
                    (Up | Unknown, Down) => proptest::prop_assert_eq!(tail(fall), "-".repeat(usize::from(fall))),
                    (Down, Up) => proptest::prop_assert_eq!(tail(rise), "+".repeat(usize::from(rise))),
                    (Up | Down, Unknown) => proptest::prop_assert!(false, "a verdict is never forgotten"),
                    _ => {}
                }
            }
        }

        #[test]
        fn probes_that_were_not_made_change_nothing(
            rise in 1u8..5, fall in 1u8..5, outcomes in "[+.-]{1,60}",
        ) {
            let made: String = outcomes.chars().filter(|letter| *letter != '.').collect();
            let last = run(rise, fall, &outcomes).last().copied();
            let without = run(rise, fall, &made).last().copied().unwrap_or(Unknown);
            proptest::prop_assert_eq!(last, Some(without));
        }

        #[test]
        fn the_first_pause_is_short(interval in 1u64..100_000, number: u64) {
            let interval = Duration::from_millis(interval);
            let pause = first_pause(interval, number);
            proptest::prop_assert!(pause >= interval / 2 && pause < interval, "{:?}", pause);
        }
    }
}
