//! What to ask one appliance next. Sans-IO: answers, wishes and `now` go in, requests and news come out.
//!
//! On every connection the appliance is looked at first, then gets everything, then changes. Beside them one long poll
//! is open, which brings reports and notices when the appliance dies.

use sluice_api::SourceReport;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// First wait after a failure; doubles with each further one.
pub const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// Longest wait after a failure.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Between the beginnings of two polls. A report names every service, so an appliance that changes a thousand of them
/// is not asked a thousand times.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A request to an appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `GET`: what is there, and whose is it?
    Look,
    /// `PUT` everything.
    Put,
    /// `PATCH` what changed since the generation.
    Patch(u64),
    /// `GET` as soon as the report has another revision.
    Poll(u64),
}

/// Why a request failed. The display names what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, a broken one, or no answer in time.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// TLS failed.
    #[error("TLS fails, check --ca-file and the appliance's certificate: {0}")]
    Tls(String),
    /// 401 or 403.
    #[error(
        "refuses the token or client certificate ({0}), check --token-file and --client-certificate"
    )]
    Unauthorized(u16),
    /// 409.
    #[error("has another state than expected: {0}")]
    Conflict(String),
    /// The source belongs to someone else.
    #[error("the source belongs to {0:?}; choose another --source, or delete it on the appliance")]
    OtherOwner(String),
    /// Another answer than the contract allows.
    #[error("answers {status}: {detail}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// What the appliance says.
        detail: String,
    },
    /// A file for authentication cannot be used.
    #[error("{0}")]
    Credentials(String),
    /// Another replica may lead by now.
    #[error("is not told anything: this replica no longer leads")]
    Fenced,
}

// === impl Failure ===

impl Failure {
    /// One word, for metrics and reasons.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "Unreachable",
            Failure::Tls(_) => "TlsFailed",
            Failure::Unauthorized(_) => "Unauthorized",
            Failure::Conflict(_) => "Conflict",
            Failure::OtherOwner(_) => "OtherOwner",
            Failure::Answer { .. } => "UnexpectedAnswer",
            Failure::Credentials(_) => "BadCredentials",
            Failure::Fenced => "Fenced",
        }
    }

    /// Trying again does not help: something has to be mended, and until then the appliance serves what it was told
    /// before.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Failure::Unreachable(_) | Failure::Fenced => false,
            Failure::Tls(_)
            | Failure::Unauthorized(_)
            | Failure::Conflict(_)
            | Failure::OtherOwner(_)
            | Failure::Answer { .. }
            | Failure::Credentials(_) => true,
        }
    }
}

/// How an appliance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not known yet.
    #[default]
    Unknown,
    /// It has everything and takes changes.
    Up,
    /// It has services of this source while none is wanted, see [`super::wish::Wish::is_doubtful`].
    Withheld,
    /// It cannot be told anything.
    Down(Failure),
}

/// What is wanted, as far as the machine needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// None while there is nothing to push.
    pub generation: Option<u64>,
    /// [`super::wish::Wish::is_doubtful`].
    pub is_doubtful: bool,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// Something else is wanted.
    Wanted(Wanted),
    /// A request was answered.
    Answer(Ask, Result<SourceReport, Failure>),
    /// The deadline passed.
    Time,
}

/// What goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a request. At most one poll and one other are under way.
    Send(Ask),
    /// Give up every request that is under way.
    HangUp,
    /// How the appliance is has changed.
    Link(Link),
    /// What became of the wishes.
    Report(SourceReport),
    /// The wanted state needs a generation above this one.
    Outrank(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to push.
    Idle,
    Looking,
    /// Seen, but the generation is to be raised first.
    Outranked(u64),
    Withheld,
    Putting,
    /// It has this generation.
    Synced(u64),
    /// It has `from`, and is being told more.
    Patching(u64),
    Backoff(Instant),
}

/// The conversation with one appliance.
#[derive(Debug)]
pub struct Machine {
    owner: String,
    state: State,
    link: Link,
    wanted: Wanted,
    failures: u32,
    /// Revision to poll against; none before the first report of a connection.
    revision: Option<u64>,
    polling: bool,
    next_poll: Option<Instant>,
    /// The last poll told an older generation than the appliance had taken. Once may be two answers that crossed.
    behind: bool,
    outputs: VecDeque<Output>,
}

// === impl Machine ===

impl Machine {
    /// One that speaks for `owner`.
    #[must_use]
    pub fn new(owner: String) -> Self {
        Machine {
            owner,
            state: State::Idle,
            link: Link::Unknown,
            wanted: Wanted::default(),
            failures: 0,
            revision: None,
            polling: false,
            next_poll: None,
            behind: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input. `chance` is between 0 and 1, for the jitter of waits.
    pub fn handle(&mut self, input: Input, now: Instant, chance: f64) {
        match input {
            Input::Wanted(wanted) => self.wanted = wanted,
            Input::Answer(ask, Ok(report)) => self.answered(ask, report, now, chance),
            Input::Answer(ask, Err(failure)) => self.failed(ask, failure, now, chance),
            Input::Time => {}
        }
        self.proceed(now);
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Backoff(until) => Some(until),
            _ => self.next_poll.filter(|_| !self.polling),
        }
    }

    fn answered(&mut self, ask: Ask, report: SourceReport, now: Instant, chance: f64) {
        self.revision = Some(report.revision);
        match ask {
            Ask::Look => {
                if !report.owner.is_empty() && report.owner != self.owner {
                    return self.fall(Failure::OtherOwner(report.owner), now, chance);
                }
                let has_services = !report.services.is_empty();
                self.state = match self.wanted.generation {
                    Some(own) if report.owner == self.owner && report.generation >= own => {
                        self.outputs.push_back(Output::Outrank(report.generation));
                        State::Outranked(report.generation)
                    }
                    _ if self.wanted.is_doubtful && has_services => State::Withheld,
                    _ => self.send(Ask::Put, State::Putting),
                };
            }
            Ask::Put | Ask::Patch(_) => {
                self.failures = 0;
                self.behind = false;
                self.state = State::Synced(report.generation);
                self.set_link(Link::Up);
            }
            Ask::Poll(_) => {
                self.polling = false;
                if let State::Synced(base) = self.state
                    && (report.generation != base || report.owner != self.owner)
                {
                    if std::mem::replace(&mut self.behind, true) {
                        self.behind = false;
                        self.hang_up();
                        self.state = self.send(Ask::Look, State::Looking);
                    }
                    return;
                }
                self.behind = false;
            }
        }
        self.outputs.push_back(Output::Report(report));
    }

    fn failed(&mut self, ask: Ask, failure: Failure, now: Instant, chance: f64) {
        let is_change = matches!(ask, Ask::Put | Ask::Patch(_));
        if is_change && matches!(failure, Failure::Conflict(_)) && self.failures == 0 {
            // Whatever is in the way shows when it is looked at; a second time in a row is waited for.
            self.failures = 1;
            self.hang_up();
            self.state = self.send(Ask::Look, State::Looking);
            return;
        }
        self.fall(failure, now, chance);
    }

    fn fall(&mut self, failure: Failure, now: Instant, chance: f64) {
        let wait = MIN_BACKOFF.saturating_mul(1 << self.failures.min(5)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.hang_up();
        self.state = State::Backoff(now + wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0));
        self.set_link(Link::Down(failure));
    }

    /// Whatever the state allows to do next.
    fn proceed(&mut self, now: Instant) {
        if self.wanted.generation.is_none() {
            if self.state != State::Idle {
                self.hang_up();
                self.state = State::Idle;
                self.set_link(Link::Unknown);
            }
            return;
        }
        let own = self.wanted.generation.unwrap_or_default();
        self.state = match self.state.clone() {
            State::Idle => self.send(Ask::Look, State::Looking),
            State::Backoff(until) if now >= until => self.send(Ask::Look, State::Looking),
            State::Outranked(theirs) if own > theirs => {
                // Looked at again: in between a doubt may have gone, or another leader come.
                self.send(Ask::Look, State::Looking)
            }
            State::Withheld if !self.wanted.is_doubtful => self.send(Ask::Put, State::Putting),
            State::Withheld => {
                self.set_link(Link::Withheld);
                State::Withheld
            }
            State::Synced(base) if own > base => self.send(Ask::Patch(base), State::Patching(base)),
            same => same,
        };
        let is_open = matches!(self.state, State::Synced(_) | State::Patching(_) | State::Withheld);
        if let Some(revision) = self.revision.filter(|_| is_open && !self.polling)
            && self.next_poll.is_none_or(|at| now >= at)
        {
            self.polling = true;
            self.next_poll = Some(now + POLL_INTERVAL);
            self.outputs.push_back(Output::Send(Ask::Poll(revision)));
        }
    }

    fn send(&mut self, ask: Ask, then: State) -> State {
        self.outputs.push_back(Output::Send(ask));
        then
    }

    fn hang_up(&mut self) {
        self.outputs.push_back(Output::HangUp);
        self.revision = None;
        self.polling = false;
        self.next_poll = None;
    }

    fn set_link(&mut self, link: Link) {
        if self.link != link {
            self.link = link.clone();
            self.outputs.push_back(Output::Link(link));
        }
    }
}

#[cfg(test)]
mod tests;
