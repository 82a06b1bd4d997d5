//! The reconciler against fake ports: a world in memory that can be told to fail.

use super::*;
use ipnet::IpNet;
use sluice_model::{Frontend, Program, RouteAttributes, Service};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What the fake ports share: the world, what was done to it, and what fails.
#[derive(Default)]
struct FakeWorld {
    state: Observed,
    calls: Vec<String>,
    broken: Option<fn(&str) -> bool>,
    prospect: Option<Prospect>,
}

/// A fake of all three ports at once.
#[derive(Clone, Default)]
struct FakePorts(Rc<RefCell<FakeWorld>>);

impl FakePorts {
    fn call(&self, name: String, effect: impl FnOnce(&mut Observed)) -> anyhow::Result<()> {
        let mut world = self.0.borrow_mut();
        let broken = world.broken.is_some_and(|broken| broken(&name));
        world.calls.push(name);
        if broken {
            anyhow::bail!("it is broken");
        }
        effect(&mut world.state);
        Ok(())
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    fn break_if(&self, broken: fn(&str) -> bool) {
        self.0.borrow_mut().broken = Some(broken);
    }
}

impl DataPlanePort for FakePorts {
    async fn read(&self) -> anyhow::Result<DataPlaneState> {
        self.call("read".to_owned(), |_| ())?;
        let state = &self.0.borrow().state;
        Ok((state.programs.clone(), state.guarded.clone(), true))
    }
    async fn put_program(&self, frontend: Frontend, program: &Program) -> anyhow::Result<()> {
        let program = program.clone();
        self.call(format!("put {frontend}"), |w| drop(w.programs.insert(frontend, program)))
    }
    async fn remove_program(&self, frontend: Frontend) -> anyhow::Result<()> {
        self.call(format!("remove {frontend}"), |w| drop(w.programs.remove(&frontend)))
    }
    async fn guard(&self, vip: IpAddr) -> anyhow::Result<()> {
        self.call(format!("guard {vip}"), |w| assert!(w.guarded.insert(vip)))
    }
    async fn unguard(&self, vip: IpAddr) -> anyhow::Result<()> {
        self.call(format!("unguard {vip}"), |w| assert!(w.guarded.remove(&vip)))
    }
    fn prospect(&self, _: &anyhow::Error) -> Prospect {
        self.0.borrow().prospect.unwrap_or(Prospect::Soon)
    }
}

impl AddressPort for FakePorts {
    async fn addresses(&self) -> anyhow::Result<AddressState> {
        let state = &self.0.borrow().state;
        Ok((state.addresses.clone(), state.host.clone()))
    }
    async fn add(&self, vip: IpAddr) -> anyhow::Result<()> {
        self.call(format!("add {vip}"), |w| assert!(w.addresses.insert(vip)))
    }
    async fn remove(&self, vip: IpAddr) -> anyhow::Result<()> {
        self.call(format!("delete {vip}"), |w| assert!(w.addresses.remove(&vip)))
    }
}

impl RoutePort for FakePorts {
    fn announced(&self) -> BTreeMap<IpNet, RouteAttributes> {
        self.0.borrow().state.announced.clone()
    }
    fn announce(&mut self, routes: &BTreeMap<IpNet, RouteAttributes>) {
        let mut world = self.0.borrow_mut();
        let prefixes: Vec<String> = routes.keys().map(ToString::to_string).collect();
        world.calls.push(format!("routes [{}]", prefixes.join(" ")));
        world.state.announced = routes.clone();
    }
}

struct Bench {
    ports: FakePorts,
    reconciler: Reconciler<FakePorts, FakePorts, FakePorts>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let ports = FakePorts::default();
        let reconciler = Reconciler::new(ports.clone(), ports.clone(), ports.clone());
        Bench { ports, reconciler, now: Instant::now() }
    }

    async fn pass(&mut self, desired: &Desired) -> Vec<String> {
        let (health, reserved) = (Health::default(), Reserved::default());
        self.reconciler.pass(desired, &health, &reserved, Look::World, self.now).await;
        self.ports.calls()
    }
}

/// Two services without checks on VIPs of their own.
fn two_services(generation: u64) -> Desired {
    let text = r#"
        data-plane = { interfaces = ["eth0"] }
        [[service]]
        name = "a"
        vips = ["203.0.113.1"]
        port = 80
        protocol = "tcp"
        backend = [{ address = "10.0.0.1", port = 80 }]
        [[service]]
        name = "b"
        vips = ["203.0.113.2"]
        port = 80
        protocol = "tcp"
        backend = [{ address = "10.0.0.1", port = 80 }]
    "#;
    Desired::new(Generation(generation), crate::config::parse(text).unwrap().services).0
}

fn only(name: &str, generation: u64) -> Desired {
    let all = two_services(generation);
    let services: Vec<Service> = all.services().filter(|s| s.name.0 == name).cloned().collect();
    Desired::new(Generation(generation), services).0
}

#[tokio::test]
async fn programs_then_announces_then_rests() {
    let mut bench = Bench::new();
    let desired = two_services(3);
    assert_eq!(
        bench.pass(&desired).await,
        [
            "read",
            "guard 203.0.113.1",
            "guard 203.0.113.2",
            "add 203.0.113.1",
            "add 203.0.113.2",
            "put 203.0.113.1:80/tcp",
            "put 203.0.113.2:80/tcp",
            "routes [203.0.113.1/32 203.0.113.2/32]",
        ]
    );
    assert_eq!(bench.pass(&desired).await, ["read"]);
    assert_eq!(bench.reconciler.programmed(), Generation(3));
    assert!(bench.reconciler.is_complete());
    assert_eq!(bench.reconciler.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn withdraws_before_it_removes() {
    let mut bench = Bench::new();
    bench.pass(&two_services(1)).await;
    assert_eq!(
        bench.pass(&only("b", 2)).await,
        [
            "read",
            "routes [203.0.113.2/32]",
            "remove 203.0.113.1:80/tcp",
            "delete 203.0.113.1",
            "unguard 203.0.113.1",
        ]
    );
    assert_eq!(bench.reconciler.programmed(), Generation(2));
}

#[tokio::test]
async fn one_bad_service_holds_up_nobody_and_is_tried_again() {
    let mut bench = Bench::new();
    let desired = two_services(1);
    bench.ports.break_if(|call| call == "put 203.0.113.1:80/tcp");
    let calls = bench.pass(&desired).await;
    assert_eq!(calls.last().unwrap(), "routes [203.0.113.2/32]");
    assert_eq!(
        bench.reconciler.problems(),
        ["service a: cannot program 203.0.113.1:80/tcp with 1 backends: it is broken"]
    );
    assert!(!bench.reconciler.is_complete());
    assert_eq!(bench.reconciler.programmed(), Generation(0));

    // Not before its time.
    assert_eq!(bench.pass(&desired).await, ["read"]);
    bench.now = bench.reconciler.retry_at().unwrap();
    assert_eq!(bench.pass(&desired).await, ["read", "put 203.0.113.1:80/tcp"]);
    assert!(bench.reconciler.problems()[0].ends_with("(tried 2 times)"));
    assert_eq!(bench.reconciler.retry_at(), Some(bench.now + Duration::from_secs(1)));

    bench.ports.break_if(|_| false);
    bench.now = bench.reconciler.retry_at().unwrap();
    let calls = bench.pass(&desired).await;
    assert_eq!(calls[1..], ["put 203.0.113.1:80/tcp", "routes [203.0.113.1/32 203.0.113.2/32]"]);
    assert_eq!(bench.reconciler.problems(), Vec::<String>::new());
    assert_eq!(bench.reconciler.programmed(), Generation(1));
}

#[tokio::test]
async fn an_address_waits_for_its_guard() {
    let mut bench = Bench::new();
    bench.ports.break_if(|call| call == "guard 203.0.113.1");
    let calls = bench.pass(&two_services(1)).await;
    assert!(!calls.contains(&"add 203.0.113.1".to_owned()), "{calls:?}");
    assert!(calls.contains(&"add 203.0.113.2".to_owned()), "{calls:?}");
    assert_eq!(bench.reconciler.problems().len(), 1);
}

#[tokio::test]
async fn an_address_that_cannot_be_had_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let desired = two_services(1);
    bench.ports.break_if(|call| call == "add 203.0.113.1");
    let calls = bench.pass(&desired).await;
    let of_it: Vec<_> = calls.iter().filter(|call| call.contains("203.0.113.1")).collect();
    assert_eq!(of_it, ["guard 203.0.113.1", "add 203.0.113.1", "unguard 203.0.113.1"]);
    assert_eq!(calls.last().unwrap(), "routes [203.0.113.2/32]");
    // It is not guarded again before it can be tried again.
    assert_eq!(bench.pass(&desired).await, ["read"]);
    bench.ports.break_if(|_| false);
    bench.now = bench.reconciler.retry_at().unwrap();
    let calls = bench.pass(&desired).await;
    assert_eq!(calls[1..4], ["guard 203.0.113.1", "add 203.0.113.1", "put 203.0.113.1:80/tcp"]);
}

#[tokio::test]
async fn what_an_older_version_took_from_the_host_is_given_back() {
    let mut bench = Bench::new();
    let desired = two_services(1);
    bench.pass(&desired).await;
    // As that version left it: guarded and programmed, and the address is the host's.
    let has =
        |net: &str| sluice_model::HostAddress { net: net.parse().unwrap(), link: "eth0".into() };
    bench.ports.0.borrow_mut().state.addresses.remove(&"203.0.113.1".parse().unwrap());
    bench.ports.0.borrow_mut().state.host = BTreeSet::from([has("203.0.113.1/24")]);
    assert_eq!(
        bench.pass(&desired).await,
        ["read", "routes [203.0.113.2/32]", "remove 203.0.113.1:80/tcp", "unguard 203.0.113.1"]
    );
    assert_eq!(bench.pass(&desired).await, ["read"]);
    assert!(bench.reconciler.is_complete(), "what is refused is not missing");
    bench.ports.0.borrow_mut().state.host.clear();
    assert_eq!(
        bench.pass(&desired).await.last().unwrap(),
        "routes [203.0.113.1/32 203.0.113.2/32]"
    );
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_no_problem_any_more() {
    let mut bench = Bench::new();
    bench.ports.break_if(|call| call == "add 203.0.113.1");
    bench.pass(&two_services(1)).await;
    assert_eq!(bench.reconciler.problems().len(), 1);
    bench.pass(&only("b", 2)).await;
    assert_eq!(bench.reconciler.problems(), Vec::<String>::new());
    assert_eq!(bench.reconciler.programmed(), Generation(2));
}

#[tokio::test]
async fn decides_nothing_blindly() {
    let mut bench = Bench::new();
    bench.pass(&two_services(1)).await;
    bench.ports.break_if(|call| call == "read");
    assert_eq!(bench.pass(&Desired::default()).await, ["read"]);
    assert_eq!(bench.reconciler.problems(), ["cannot read back what is in place: it is broken"]);
    bench.ports.break_if(|_| false);
    assert!(bench.pass(&Desired::default()).await.len() > 1);
    assert_eq!(bench.reconciler.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn repairs_what_somebody_else_took_away() {
    let mut bench = Bench::new();
    let desired = two_services(1);
    bench.pass(&desired).await;
    bench.ports.0.borrow_mut().state.addresses.clear();
    assert_eq!(
        bench.pass(&desired).await,
        [
            "read",
            "routes []",
            "add 203.0.113.1",
            "add 203.0.113.2",
            "routes [203.0.113.1/32 203.0.113.2/32]"
        ]
    );
}

#[tokio::test]
async fn memory_is_trusted_until_something_fails() {
    let mut bench = Bench::new();
    let (desired, health, reserved) = (two_services(1), Health::default(), Reserved::default());
    bench.reconciler.pass(&desired, &health, &reserved, Look::Memory, bench.now).await;
    assert_eq!(bench.ports.calls()[0], "read", "nothing was known yet");
    bench.reconciler.pass(&desired, &health, &reserved, Look::Memory, bench.now).await;
    assert_eq!(bench.ports.calls(), Vec::<String>::new());

    bench.ports.break_if(|call| call == "remove 203.0.113.1:80/tcp");
    bench.reconciler.pass(&only("b", 2), &health, &reserved, Look::Memory, bench.now).await;
    let calls = bench.ports.calls();
    assert_eq!(calls[..2], ["routes [203.0.113.2/32]", "remove 203.0.113.1:80/tcp"]);
    bench.reconciler.pass(&only("b", 2), &health, &reserved, Look::Memory, bench.now).await;
    assert_eq!(bench.ports.calls(), ["read"], "the step that failed may have done something");
}

/// So many services with one backend each.
fn many(count: u8, generation: u64) -> Desired {
    let service = |number: u8| {
        format!(
            "[[service]]\nname = \"s{number}\"\nvips = [\"203.0.113.{number}\"]\nport = 80\nprotocol = \"tcp\"\n\
             backend = [{{ address = \"10.0.0.1\", port = 80 }}]\n"
        )
    };
    let services: String = (1..=count).map(service).collect();
    let text = format!("data-plane = {{ interfaces = [\"eth0\"] }}\n{services}");
    Desired::new(Generation(generation), crate::config::parse(&text).unwrap().services).0
}

fn puts(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.starts_with("put ")).count()
}

#[tokio::test]
async fn a_limit_is_not_tried_again_until_something_is_freed() {
    let mut bench = Bench::new();
    bench.ports.0.borrow_mut().prospect = Some(Prospect::WhenFreed);
    bench.ports.break_if(|call| call.starts_with("put ") && call != "put 203.0.113.1:80/tcp");
    let desired = many(200, 1);
    assert_eq!(puts(&bench.pass(&desired).await), 200, "each is tried once");
    let problems = bench.reconciler.problems();
    assert_eq!(problems.len(), 9, "{problems:?}");
    assert_eq!(problems[8], "and 191 others: it is broken");

    bench.now += Duration::from_secs(200);
    assert_eq!(puts(&bench.pass(&desired).await), 0);
    // After minutes a few are tried, and the others have their turn later.
    bench.now += Duration::from_secs(101);
    assert_eq!(puts(&bench.pass(&desired).await), 16);
    assert_eq!(puts(&bench.pass(&desired).await), 0);
    bench.now += Duration::from_secs(30);
    assert_eq!(puts(&bench.pass(&desired).await), 16);

    // One service goes, which frees room for others.
    bench.ports.break_if(|_| false);
    let all = many(200, 2);
    let fewer = Desired::new(Generation(2), all.services().skip(1).cloned().collect::<Vec<_>>()).0;
    bench.pass(&fewer).await;
    bench.pass(&fewer).await;
    assert_eq!(bench.reconciler.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn what_can_never_work_is_tried_once() {
    let mut bench = Bench::new();
    bench.ports.0.borrow_mut().prospect = Some(Prospect::Never);
    bench.ports.break_if(|call| call.starts_with("put "));
    assert_eq!(puts(&bench.pass(&two_services(1)).await), 2);
    assert_eq!(bench.reconciler.retry_at(), None);
    bench.now += Duration::from_secs(100_000);
    assert_eq!(puts(&bench.pass(&two_services(1)).await), 0);
    assert_eq!(bench.reconciler.problems().len(), 2);
}
