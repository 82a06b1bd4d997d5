//! The status page of the real appliance in a real browser: it shows what happens without being loaded again, asks
//! nobody else for anything, and fits a phone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_tests::browser::{Browser, Window};
use sluice_tests::lab::appliance::API;
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{Host, Topology};

/// How long the page may take to show what the appliance knows.
const SOON: Duration = Duration::from_secs(20);

/// Set by the test in the page and gone after a load.
const MARK: &str = "window.loadedOnce";

fn health(socket: &str) -> String {
    format!("document.querySelector('[data-backend=\"{socket}\"]')?.dataset.health")
}

/// Expressions over all elements of the page are used where a single one would be too narrow.
const OVERFLOW: &str = "document.documentElement.scrollWidth - window.innerWidth";
const OUTSIDE: &str = "[...document.querySelectorAll('body *')].filter((element) => { \
    const box = element.getBoundingClientRect(); \
    const clipped = getComputedStyle(element).clipPath !== 'none' || element.closest('thead'); \
    return !clipped && box.width > 0 && box.right > innerWidth + 1 && box.left >= 0; \
    }).map((element) => element.outerHTML.slice(0, 120))";

#[test]
fn the_page_lives() -> Result<()> {
    let mut lab = Topology::build("page", Kind::Frr, 2)?;
    lab.start_standard()?;
    let edge = lab.appliance.namespace().clone();
    let browser = Browser::start(&lab.lab, &edge)?;
    let host = lab.hosts.first_mut().context("a backend")?;
    edge.block_on(|| async {
        let window = browser.open().await?;
        window.emulate(1440, 900, "light").await?;
        window.goto(&format!("http://{API}/")).await?;
        shows_the_appliance(&window).await?;
        follows_a_backend(&window, host).await?;
        asks_nobody_else(&window).await?;
        ensure!(window.complaints().await?.is_empty(), "the first load was clean");
        fits_a_phone(&window).await?;
        follows_the_colour_scheme(&window).await?;
        let complaints = window.complaints().await?;
        assert!(complaints.is_empty(), "the console is silent: {complaints:?}");
        window.close().await
    })?
}

/// The page says when the appliance goes away, and recovers by itself when it is back.
#[test]
fn the_page_survives_a_restart() -> Result<()> {
    let mut lab = Topology::build("page_restart", Kind::Frr, 1)?;
    lab.start_standard()?;
    let edge = lab.appliance.namespace().clone();
    let browser = Browser::start(&lab.lab, &edge)?;
    let window = edge.block_on(|| browser.open())??;
    let appliance = &mut lab.appliance;
    edge.block_on(|| async {
        window.goto(&format!("http://{API}/")).await?;
        live(&window).await?;
        window.evaluate(&format!("{MARK} = true")).await?;
        appliance.kill()?;
        let stale = "document.documentElement.hasAttribute('data-stale')";
        window.wait(stale, "document.getElementById('live').innerText", SOON).await?;
        appliance.start()?;
        live(&window).await?;
        let adopted = "document.querySelector('.facts').innerText.includes('adopted')";
        window.wait(adopted, "document.querySelector('.facts').innerText", SOON).await?;
        assert_eq!(window.evaluate(MARK).await?, true, "it was not loaded again");
        window.close().await
    })?
}

async fn live(window: &Window) -> Result<()> {
    let state = "document.getElementById('live').dataset.state";
    window.wait(&format!("{state} === 'live'"), state, SOON).await.map(drop)
}

async fn shows_the_appliance(window: &Window) -> Result<()> {
    live(window).await?;
    assert_eq!(window.evaluate("document.querySelector('h1').innerText").await?, "edge");
    for socket in ["10.1.0.11:8080", "10.1.0.12:8080", "[2001:db8:1::11]:8080"] {
        let health = health(socket);
        window.wait(&format!("{health} === 'up'"), &health, SOON).await?;
    }
    let peers = "[...document.querySelectorAll('[data-peer]')].map((peer) => peer.dataset.state)";
    let both = format!("{peers}.join() === 'Established,Established'");
    window.wait(&both, peers, SOON).await?;
    for prefix in ["203.0.113.10/32", "2001:db8:113::10/128"] {
        let route = format!("document.querySelector('[data-route=\"{prefix}\"]') !== null");
        window.wait(&route, "document.getElementById('bgp').innerText", SOON).await?;
    }
    let xdp = "document.getElementById('links').innerText";
    window.wait(&format!("{xdp}.includes('native')"), xdp, SOON).await?;
    let line = "document.querySelector('#chart-packets path.line')?.getAttribute('d')";
    window.wait(&format!("/^M.*L/.test({line} ?? '')"), line, SOON).await?;
    let before = window.evaluate(line).await?;
    window.wait(&format!("{line} !== {before}"), line, SOON).await.context("the chart moves")?;
    Ok(())
}

/// A backend dies and comes back; the page shows both, each time as colour, shape and word, and never loads again.
async fn follows_a_backend(window: &Window, host: &mut Host) -> Result<()> {
    window.evaluate(&format!("{MARK} = true")).await?;
    let health = health("10.1.0.11:8080");
    let row = "document.querySelector('[data-backend=\"10.1.0.11:8080\"]')";
    let height = window.evaluate(&format!("{row}.offsetHeight")).await?;
    host.stop()?;
    window.wait(&format!("{health} === 'down'"), &health, SOON).await?;
    let badge = format!("{row}.querySelector('.badge')");
    assert_eq!(window.evaluate(&format!("{badge}.innerText")).await?, "down");
    assert_eq!(window.evaluate(&format!("{badge}.className")).await?, "badge bad");
    let icon = format!("{badge}.querySelector('use').getAttribute('href')");
    assert_eq!(window.evaluate(&icon).await?, "#i-cross");
    let reason = format!("{row}.querySelector('.detail').innerText");
    assert_ne!(window.evaluate(&reason).await?, "", "it says why");
    let after = window.evaluate(&format!("{row}.offsetHeight")).await?;
    assert_eq!(after, height, "the row keeps its height");
    host.start()?;
    window.wait(&format!("{health} === 'up'"), &health, SOON).await?;
    assert_eq!(window.evaluate(MARK).await?, true, "it was not loaded again");
    Ok(())
}

async fn asks_nobody_else(window: &Window) -> Result<()> {
    let requests = window.requests().await?;
    let ours = format!("http://{API}/");
    let (own, others): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|url| url.starts_with(&ours));
    assert!(own.len() >= 4, "page, style, script, events: {own:?}");
    assert!(others.is_empty(), "{others:?}");
    Ok(())
}

async fn fits_a_phone(window: &Window) -> Result<()> {
    window.emulate(390, 844, "light").await?;
    window.wait("window.innerWidth === 390", "window.innerWidth", SOON).await?;
    assert_eq!(window.evaluate(OVERFLOW).await?, 0, "no horizontal scrolling");
    let outside = window.evaluate(OUTSIDE).await?;
    assert_eq!(outside.as_array().map(Vec::len), Some(0), "beyond the edge: {outside}");
    keep(window, "phone").await
}

async fn follows_the_colour_scheme(window: &Window) -> Result<()> {
    let luminance = "getComputedStyle(document.documentElement).backgroundColor\
        .match(/\\d+/g).map(Number).reduce((sum, part) => sum + part)";
    let light = window.evaluate(luminance).await?.as_i64().context("light")?;
    window.emulate(1440, 900, "dark").await?;
    let dark = window.evaluate(luminance).await?.as_i64().context("dark")?;
    assert!(light > 600 && dark < 100, "light {light}, dark {dark} of 765");
    keep(window, "dark").await
}

/// `SLUICE_PICTURES=<directory>` keeps pictures for people.
async fn keep(window: &Window, name: &str) -> Result<()> {
    match std::env::var_os("SLUICE_PICTURES") {
        Some(dir) => window.picture(&Path::new(&dir).join(format!("{name}.png"))).await,
        None => Ok(()),
    }
}
