//! Every endpoint, asked over a real connection.

use super::demo_snapshot::demo_snapshot;
use super::*;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use sluice_api::{
    Backend, BgpPeer, BgpRoute, Change, ChangeKind, Drop, Health, Problem, RatePoint, Service,
    SourceReport, Status, Vip,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No answer takes this long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server on a free loopback port, and a client.
struct Server {
    address: SocketAddr,
    snapshots: watch::Sender<Arc<Snapshot>>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    client: Client<HttpConnector, Empty<Bytes>>,
    _reports: watch::Sender<Arc<crate::status::SourceReports>>,
    _scratch: crate::scratch::Scratch,
}

/// An empty ledger, and where its reports would come from.
fn sources(
    scratch: &crate::scratch::Scratch,
) -> (Sources, watch::Sender<Arc<crate::status::SourceReports>>) {
    let ledger = crate::ledger::Ledger::open(scratch.path().join("desired.json"), None);
    let report = SourceReport { source: "prod".into(), revision: 7, ..SourceReport::default() };
    let reports = BTreeMap::from([("prod".to_owned(), Arc::new(report))]);
    let reports = watch::Sender::new(Arc::new(reports));
    let ledger = crate::ledger::SharedLedger::start(ledger).unwrap();
    (Sources { ledger, reports: reports.subscribe() }, reports)
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Server {
    async fn start(snapshot: Snapshot) -> Self {
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let scratch = crate::scratch::Scratch::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (sources, reports) = sources(&scratch);
        let app = App::new(receiver, sources, shutdown.clone());
        let task = tokio::spawn(app.serve(listener));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { address, snapshots, shutdown, task, client, _reports: reports, _scratch: scratch }
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Response<Incoming> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).unwrap();
        timeout(PATIENCE, self.client.request(request)).await.unwrap().unwrap()
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        let response = self.open(method, path, headers).await;
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn problem(&self, status: StatusCode) -> Problem {
        assert_eq!(self.status, status);
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, status.as_u16());
        assert_eq!(Some(problem.title.as_str()), status.canonical_reason());
        problem
    }
}

/// Reads a stream of events piece by piece.
struct Events {
    body: Incoming,
    buffer: String,
}

impl Events {
    async fn open(server: &Server, path: &str) -> Self {
        let response = server.open(Method::GET, path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: response.into_body(), buffer: String::new() }
    }

    /// The next event's name and data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                let (name, data) = (field("event: ")?, field("data: ")?);
                self.buffer = rest.to_owned();
                return Some((name, data));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("no event came")?;
            let bytes = frame.ok()?.into_data().ok()?;
            self.buffer.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn expect<T: DeserializeOwned>(&mut self, name: &str) -> T {
        let (event, data) = self.next().await.expect("the stream ended");
        assert_eq!(event, name, "{data}");
        serde_json::from_str(&data).unwrap()
    }
}

#[tokio::test]
async fn each_part_of_the_snapshot_has_its_path() {
    let wanted = demo_snapshot(0);
    let server = Server::start(wanted.clone()).await;
    assert_eq!(server.get("/api/v1/snapshot").await.json::<Snapshot>(), wanted);
    assert_eq!(server.get("/api/v1/status").await.json::<Status>(), wanted.status);
    assert_eq!(server.get("/api/v1/services").await.json::<Vec<Service>>(), wanted.services);
    assert_eq!(server.get("/api/v1/services/dns").await.json::<Service>(), wanted.services[1]);
    assert_eq!(server.get("/api/v1/vips").await.json::<Vec<Vip>>(), wanted.vips);
    assert_eq!(server.get("/api/v1/bgp/peers").await.json::<Vec<BgpPeer>>(), wanted.peers);
    assert_eq!(server.get("/api/v1/bgp/routes").await.json::<Vec<BgpRoute>>(), wanted.routes);
    assert_eq!(server.get("/api/v1/drops").await.json::<Vec<Drop>>(), wanted.drops);
    assert_eq!(server.get("/api/v1/history").await.json::<Vec<RatePoint>>(), wanted.history);
    let backends = server.get("/api/v1/backends").await.json::<Vec<Backend>>();
    let all: Vec<_> = wanted.services.iter().flat_map(|it| it.backends.clone()).collect();
    assert_eq!(backends, all);
}

#[tokio::test]
async fn answers_follow_the_newest_snapshot() {
    let server = Server::start(demo_snapshot(0)).await;
    server.snapshots.send_replace(Arc::new(demo_snapshot(30)));
    let web: Service = server.get("/api/v1/services/web").await.json();
    assert_eq!(web.backends[1].health, Health::Down);
}

/// The description and the routes are two lists; this holds them together.
#[tokio::test]
async fn every_described_path_is_served() {
    let server = Server::start(demo_snapshot(0)).await;
    let description: serde_json::Value = server.get("/api/v1/openapi.json").await.json();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 15, "{}", paths.len());
    for path in paths.keys() {
        let path = path.replace("{name}", "web").replace("{source}", "prod");
        let response = server.open(Method::GET, &path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn health_is_about_the_process_and_readiness_about_the_rest() {
    let mut snapshot = demo_snapshot(0);
    let server = Server::start(snapshot.clone()).await;
    assert_eq!(server.get("/readyz").await.text(), "ready\n");
    snapshot.status.ready = false;
    snapshot.status.problems = vec!["a peer is down".to_owned(), "no route".to_owned()];
    server.snapshots.send_replace(Arc::new(snapshot.clone()));
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
    let problem = server.get("/readyz").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.reasons, snapshot.status.problems);
    snapshot.status.problems.clear();
    server.snapshots.send_replace(Arc::new(snapshot));
    let problem = server.get("/readyz").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.reasons.len(), 1, "never without a reason");
}

#[tokio::test]
async fn errors_are_problems() {
    let server = Server::start(demo_snapshot(0)).await;
    let problem = server.get("/api/v1/services/wbe").await.problem(StatusCode::NOT_FOUND);
    assert_eq!(problem.instance.as_deref(), Some("/api/v1/services/wbe"));
    assert!(problem.detail.unwrap().contains("\"wbe\""));
    for path in ["/nothing", "/assets/nothing.css", "/api/v1", "/api/v2/status"] {
        server.get(path).await.problem(StatusCode::NOT_FOUND);
    }
    for path in ["/", "/api/v1/status", "/metrics", "/healthz", "/assets/style.css"] {
        let answer = server.ask(Method::POST, path, &[]).await;
        answer.problem(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header(header::ALLOW), "GET,HEAD", "{path}");
    }
    for (path, accept) in [
        ("/api/v1/status", "text/html"),
        ("/", "application/json"),
        ("/api/v1/events", "application/json"),
    ] {
        let answer = server.ask(Method::GET, path, &[("accept", accept)]).await;
        answer.problem(StatusCode::NOT_ACCEPTABLE);
    }
    let rebound = server.ask(Method::GET, "/", &[("host", "rebound.example.com")]).await;
    rebound.problem(StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = Server::start(demo_snapshot(0)).await;
    for path in ["/", "/api/v1/status", "/metrics", "/assets/script.js", "/nothing"] {
        let answer = server.get(path).await;
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        assert_eq!(answer.header(header::X_FRAME_OPTIONS), "DENY", "{path}");
    }
    assert_eq!(server.get("/api/v1/status").await.header(header::CACHE_CONTROL), "no-store");
}

#[tokio::test]
async fn assets_are_asked_about_and_not_sent_twice() {
    let server = Server::start(demo_snapshot(0)).await;
    for (name, content_type) in [
        ("style.css", "text/css; charset=utf-8"),
        ("script.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let path = format!("/assets/{name}");
        let first = server.get(&path).await;
        assert_eq!(first.header(header::CONTENT_TYPE), content_type);
        assert_eq!(first.header(header::CACHE_CONTROL), "no-cache");
        let etag = first.header(header::ETAG).to_owned();
        let second = server.ask(Method::GET, &path, &[("if-none-match", &etag)]).await;
        assert_eq!((second.status, second.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
}

#[tokio::test]
async fn metrics_are_served_as_the_format_demands() {
    let server = Server::start(demo_snapshot(0)).await;
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.text().contains("\nsluice_build_info{version=\"0.1.0\"} 1\n"));
}

#[tokio::test]
async fn programs_get_the_status_then_changes_and_rates() {
    let server = Server::start(demo_snapshot(29)).await;
    let mut events = Events::open(&server, "/api/v1/events").await;
    assert_eq!(events.expect::<Status>("status").await, demo_snapshot(29).status);
    events.expect::<RatePoint>("rates").await;
    let next = demo_snapshot(30);
    server.snapshots.send_replace(Arc::new(next.clone()));
    let problem: Change = events.expect("change").await;
    assert_eq!(problem.kind, ChangeKind::Problem);
    let service: Change = events.expect("change").await;
    assert_eq!((service.subject.as_str(), service.to.as_deref()), ("web", Some("degraded")));
    let backend: Change = events.expect("change").await;
    assert_eq!(backend.subject, "web 10.1.0.12:8080");
    assert_eq!(backend.reason.as_deref(), Some("connection refused"));
    assert_eq!(Some(&events.expect::<RatePoint>("rates").await), next.history.last());
}

#[tokio::test]
async fn pages_get_all_fragments_then_only_those_that_differ() {
    let before = demo_snapshot(0);
    let server = Server::start(before.clone()).await;
    let mut events = Events::open(&server, "/page/events").await;
    assert_eq!(events.next().await.unwrap(), ("assets".to_owned(), assets::fingerprint()));
    type Parts = std::collections::BTreeMap<String, String>;
    let all: Parts = events.expect("fragments").await;
    assert!(all.len() == 9 && all["services"].contains("10.1.0.12:8080"), "{:?}", all.keys());
    let mut after = before;
    after.vips[0].announced = false;
    server.snapshots.send_replace(Arc::new(after));
    let changed: Parts = events.expect("fragments").await;
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["figures", "vips"]);
}

#[tokio::test]
async fn streams_are_bounded_and_given_back() {
    let server = Server::start(demo_snapshot(0)).await;
    let mut open = Vec::new();
    for _ in 0..MAX_EVENT_STREAMS {
        open.push(Events::open(&server, "/api/v1/events").await);
    }
    let problem = server.get("/page/events").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem.detail.unwrap().starts_with("64 event streams are open"));
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("\nsluice_http_event_streams 64\n"));
    open.pop();
    // The server notices a closed connection on its own time.
    timeout(PATIENCE, async {
        while server.open(Method::GET, "/api/v1/events", &[]).await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the permit never came back");
}

#[tokio::test]
async fn shutdown_ends_streams_and_the_server() {
    let server = Server::start(demo_snapshot(0)).await;
    let mut events = Events::open(&server, "/api/v1/events").await;
    events.expect::<Status>("status").await;
    events.expect::<RatePoint>("rates").await;
    server.shutdown.cancel();
    assert_eq!(events.next().await, None);
    timeout(PATIENCE, server.task).await.unwrap().unwrap().unwrap();
}

/// Not a test of anything: serves the made-up appliance so that a person can look at the page.
#[tokio::test]
#[ignore = "serves http://127.0.0.1:8099 until interrupted, for looking at the page"]
async fn look_at_the_demo_page() {
    let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
    let listener = TcpListener::bind("127.0.0.1:8099").await.unwrap();
    let scratch = crate::scratch::Scratch::new();
    let (sources, _reports) = sources(&scratch);
    let server =
        tokio::spawn(App::new(receiver, sources, CancellationToken::new()).serve(listener));
    // An empty appliance first.
    tokio::time::sleep(Duration::from_secs(20)).await;
    for second in 0.. {
        sender.send_replace(Arc::new(demo_snapshot(second)));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.await.unwrap().unwrap();
}
