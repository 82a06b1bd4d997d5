//! The task of an appliance against a mock: what is wanted arrives, whatever happens to the appliance.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is the report of a test"
)]

mod mock;

use mock::{Inner, Mock};
use sluice_api::WantedService;
use sluice_bridge::lease::Fence;
use sluice_bridge::metrics::Metrics;
use sluice_bridge::push::client::Appliance;
use sluice_bridge::push::credentials::Files;
use sluice_bridge::push::machine::{Failure, Link};
use sluice_bridge::push::task::{News, run};
use sluice_bridge::push::wish::{Step, Wish};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Longer than anything here takes, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);

fn upsert(names: &[&str]) -> Step {
    let service =
        |name: &&str| WantedService { name: (*name).to_owned(), ..WantedService::default() };
    Step { upsert: names.iter().map(service).collect(), ..Step::default() }
}

fn remove(name: &str) -> Step {
    Step { remove: vec![name.to_owned()], ..Step::default() }
}

/// A task that talks to a URL.
struct Bench {
    wish: watch::Sender<Wish>,
    news: mpsc::Receiver<(usize, News)>,
}

impl Bench {
    fn start(url: &str, files: Files) -> Self {
        let (wish, wanted) = watch::channel(Wish::unknown("me".into()));
        let (tell, news) = mpsc::channel(64);
        let appliance = Appliance::new(url, "prod", files, Fence::open());
        tokio::spawn(run(0, Arc::new(appliance), wanted, tell, Arc::new(Metrics::default())));
        Bench { wish, news }
    }

    /// Waits until the news are as wanted; those before are dropped.
    async fn until(&mut self, what: &str, is_it: impl Fn(&News) -> bool) -> News {
        let wait = async {
            loop {
                let (_, news) = self.news.recv().await.expect("the task has ended");
                if is_it(&news) {
                    return news;
                }
            }
        };
        tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn until_has(&mut self, names: &[&str], programmed: bool) {
        let has = |news: &News| match news {
            News::Report(report) => {
                report.services.iter().map(|s| s.name.as_str()).eq(names.iter().copied())
                    && report.services.iter().all(|s| s.programmed == programmed)
            }
            News::Link(_) | News::Outrank(_) => false,
        };
        self.until(&format!("report of {names:?}"), has).await;
    }

    async fn until_down(&mut self) -> Failure {
        let is_down = |news: &News| matches!(news, News::Link(Link::Down(_)));
        match self.until("failure", is_down).await {
            News::Link(Link::Down(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn everything_first_then_changes_and_reports_without_asking() {
    let mock = Mock::start(Inner::default()).await;
    let mut bench = Bench::start(&mock.url, Files::default());
    bench.wish.send_modify(|wish| wish.begin(0, upsert(&["a", "b"])));
    bench.until_has(&["a", "b"], true).await;
    bench.wish.send_modify(|wish| wish.take(remove("a")));
    bench.until_has(&["b"], true).await;
    assert_eq!(mock.read(|m| m.log.clone()), ["put 2 of 1", "patch +0 -1"]);
    mock.change(|m| m.is_lazy = true);
    bench.until_has(&["b"], false).await;
}

#[tokio::test]
async fn an_appliance_that_lost_everything_gets_everything() {
    let mock = Mock::start(Inner::default()).await;
    let mut bench = Bench::start(&mock.url, Files::default());
    bench.wish.send_modify(|wish| wish.begin(0, upsert(&["a"])));
    bench.until_has(&["a"], true).await;
    mock.change(|m| *m = Inner::default());
    bench.until_has(&["a"], true).await;
    assert_eq!(mock.read(|m| m.services.len()), 1);
}

#[tokio::test]
async fn what_an_earlier_life_said_is_outranked() {
    let before = Inner { owner: "me".into(), generation: 9 << 32, ..Inner::default() };
    let mock = Mock::start(before).await;
    let mut bench = Bench::start(&mock.url, Files::default());
    bench.wish.send_modify(|wish| wish.begin(0, upsert(&["a"])));
    let is_outranked = |news: &News| matches!(news, News::Outrank(_));
    let News::Outrank(generation) = bench.until("rank", is_outranked).await else { panic!() };
    bench.wish.send_modify(|wish| assert!(wish.outrank(generation)));
    bench.until_has(&["a"], true).await;
    assert_eq!(mock.read(|m| m.generation), (9 << 32) + 1);
}

#[tokio::test]
async fn another_owners_source_is_not_touched() {
    let mock =
        Mock::start(Inner { owner: "other".into(), generation: 1, ..Inner::default() }).await;
    let mut bench = Bench::start(&mock.url, Files::default());
    bench.wish.send_modify(|wish| wish.begin(5, upsert(&["a"])));
    assert_eq!(bench.until_down().await, Failure::OtherOwner("other".into()));
    assert!(mock.read(|m| m.log.is_empty()));
    // An operator deletes the source.
    mock.change(|m| *m = Inner::default());
    bench.until_has(&["a"], true).await;
}

#[tokio::test]
async fn an_empty_first_set_takes_nothing_away() {
    let kept = ("old".to_owned(), (1, WantedService::default()));
    let services = [kept].into_iter().collect();
    let mock =
        Mock::start(Inner { owner: "me".into(), generation: 1, services, ..Inner::default() })
            .await;
    let mut bench = Bench::start(&mock.url, Files::default());
    bench.wish.send_modify(|wish| wish.begin(5, Step::default()));
    bench.until("doubt", |news| matches!(news, News::Link(Link::Withheld))).await;
    assert_eq!(mock.read(|m| (m.log.len(), m.services.len())), (0, 1));
    bench.wish.send_modify(|wish| wish.take(upsert(&["new"])));
    bench.until_has(&["new"], true).await;
}

#[tokio::test]
async fn a_token_is_read_again_when_it_was_replaced() {
    let dir = std::env::temp_dir().join(format!("sluice-bridge-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let token = dir.join("token");
    std::fs::write(&token, "old\n").unwrap();
    let mock = Mock::start(Inner { token: Some("new".into()), ..Inner::default() }).await;
    let mut bench =
        Bench::start(&mock.url, Files { token: Some(token.clone()), ..Files::default() });
    bench.wish.send_modify(|wish| wish.begin(0, upsert(&["a"])));
    assert_eq!(bench.until_down().await, Failure::Unauthorized(401));
    std::fs::write(&token, "new\n").unwrap();
    bench.until_has(&["a"], true).await;
    mock.change(|m| m.token = Some("newest".into()));
    bench.wish.send_modify(|wish| wish.take(upsert(&["b"])));
    assert_eq!(bench.until_down().await, Failure::Unauthorized(401));
    std::fs::remove_dir_all(dir).unwrap();
    assert!(matches!(bench.until_down_or_other().await, Failure::Credentials(_)));
}

impl Bench {
    /// The next failure of another kind than 401.
    async fn until_down_or_other(&mut self) -> Failure {
        loop {
            match self.until_down().await {
                Failure::Unauthorized(_) => {}
                other => return other,
            }
        }
    }
}

#[tokio::test]
async fn a_dead_appliance_is_found_when_it_lives() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut bench = Bench::start(&format!("http://{address}"), Files::default());
    bench.wish.send_modify(|wish| wish.begin(0, upsert(&["a"])));
    assert!(matches!(bench.until_down().await, Failure::Unreachable(_)));
    // Nobody leads any longer: not even tried.
    bench.wish.send_modify(Wish::end);
    bench.until("silence", |news| matches!(news, News::Link(Link::Unknown))).await;
}
