//! The task of one appliance: wait, feed the machine, do what it says.

use super::client::Appliance;
use super::machine::{Ask, Failure, Input, Link, Machine, Output, Wanted};
use super::wish::Wish;
use crate::metrics::Metrics;
use futures_util::future::BoxFuture;
use sluice_api::SourceReport;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// What an appliance has to say.
#[derive(Clone, Debug)]
pub enum News {
    /// How it is.
    Link(Link),
    /// What became of the wishes.
    Report(SourceReport),
    /// It has this generation already; ours must be above it.
    Outrank(u64),
}

type Request = BoxFuture<'static, (Ask, Instant, Result<SourceReport, Failure>)>;

/// The task's own things.
struct Task {
    appliance: Arc<Appliance>,
    machine: Machine,
    wish: watch::Receiver<Wish>,
    metrics: Arc<Metrics>,
    /// A look or a change under way.
    call: Option<Request>,
    /// A long poll under way.
    poll: Option<Request>,
}

/// Keeps the appliance told until the wish's sender is gone. `tell` takes what it has to say with the given number.
///
/// Cancel-safe: dropping it gives up what is under way, and the appliance keeps what it has.
pub async fn run(
    number: usize,
    appliance: Arc<Appliance>,
    wish: watch::Receiver<Wish>,
    tell: mpsc::Sender<(usize, News)>,
    metrics: Arc<Metrics>,
) {
    let machine = Machine::new(wish.borrow().owner().to_owned());
    let mut task = Task { appliance, machine, wish, metrics, call: None, poll: None };
    let mut input = task.wanted();
    loop {
        task.machine.handle(input, Instant::now(), fastrand::f64());
        while let Some(output) = task.machine.poll_output() {
            let news = match output {
                Output::Send(ask) => {
                    task.send(ask);
                    continue;
                }
                Output::HangUp => {
                    (task.call, task.poll) = (None, None);
                    continue;
                }
                Output::Link(link) => News::Link(link),
                Output::Report(report) => News::Report(report),
                Output::Outrank(generation) => News::Outrank(generation),
            };
            if tell.send((number, news)).await.is_err() {
                return;
            }
        }
        let Some(next) = task.wait().await else { return };
        input = next;
    }
}

// === impl Task ===

impl Task {
    fn wanted(&mut self) -> Input {
        let wish = self.wish.borrow_and_update();
        Input::Wanted(Wanted { generation: wish.generation(), is_doubtful: wish.is_doubtful() })
    }

    fn send(&mut self, ask: Ask) {
        let (appliance, wish) = (Arc::clone(&self.appliance), self.wish.clone());
        let request: Request = Box::pin(async move {
            let begun = Instant::now();
            let answer = appliance.ask(ask, &wish).await;
            (ask, begun, answer)
        });
        let slot = if matches!(ask, Ask::Poll(_)) { &mut self.poll } else { &mut self.call };
        *slot = Some(request);
    }

    /// The next input; none when there is nobody left to speak for.
    async fn wait(&mut self) -> Option<Input> {
        let deadline = self.machine.next_deadline();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Answers first: a change that is waiting goes out with the next request anyway.
            biased;
            (ask, begun, answer) = under_way(&mut self.call) => {
                self.call = None;
                Some(self.note(ask, begun, answer))
            }
            (ask, begun, answer) = under_way(&mut self.poll) => {
                self.poll = None;
                Some(self.note(ask, begun, answer))
            }
            changed = self.wish.changed() => changed.ok().map(|()| self.wanted()),
            () = timer => Some(Input::Time),
        }
    }

    fn note(&self, ask: Ask, begun: Instant, answer: Result<SourceReport, Failure>) -> Input {
        let verb = match ask {
            Ask::Look | Ask::Poll(_) => "get",
            Ask::Put => "put",
            Ask::Patch(_) => "patch",
        };
        let url = self.appliance.url();
        let result = answer.as_ref().map_or_else(Failure::reason, |_| "ok");
        self.metrics.push(url, verb, result, begun.elapsed());
        if let (Ask::Put | Ask::Patch(_), Ok(report)) = (ask, &answer) {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(
                appliance = url,
                generation = report.generation,
                verb,
                took_ms,
                "pushed"
            );
        }
        Input::Answer(ask, answer)
    }
}

/// The answer of a request, or never.
async fn under_way(slot: &mut Option<Request>) -> (Ask, Instant, Result<SourceReport, Failure>) {
    match slot {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}
