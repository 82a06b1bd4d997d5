//! A real browser in a namespace of the lab: headless Chromium, steered through chromedriver.
//!
//! Browser and page share the namespace's loopback, so the page is reached where an operator on the box reaches it, and
//! nothing else can be reached at all. Both processes die with the lab.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use thirtyfour::LoggingPrefsLogLevel;
use thirtyfour::prelude::*;

use crate::lab::{Lab, Netns, Proc, until};

/// Where Debian's chromium and chromium-driver are.
const CHROMIUM: &str = "/usr/bin/chromium";
const CHROMEDRIVER: &str = "/usr/bin/chromedriver";

/// Nothing but what a page needs: no sandbox as root, no traffic of the browser's own.
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
];

/// How long chromedriver may take to listen.
const START: Duration = Duration::from_secs(20);

/// A running chromedriver; sessions are opened from within the namespace.
#[derive(Debug)]
pub struct Browser {
    process: Proc,
    address: String,
    profile: String,
}

impl Browser {
    /// Starts chromedriver in a namespace, on a free port.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(lab: &Lab, namespace: &Netns) -> Result<Self> {
        for (program, package) in [(CHROMIUM, "chromium"), (CHROMEDRIVER, "chromium-driver")] {
            ensure!(
                std::path::Path::new(program).is_file(),
                "{program} is missing: apt-get install {package}"
            );
        }
        let mut command = Command::new(CHROMEDRIVER);
        command.arg("--port=0");
        let process = namespace.spawn("chromedriver", command)?;
        let (port, _) = until("chromedriver to name its port", START, || {
            if let Some(status) = process.exited()? {
                bail!("it ended with {status}: {}", process.tail(3));
            }
            let output = process.output();
            let port = output.split("started successfully on port ").nth(1);
            let port = port.and_then(|rest| rest.split('.').next()).context("no port yet")?;
            port.parse::<u16>().with_context(|| format!("{port:?} as a port"))
        })?;
        let profile = lab.dir().join("chromium").to_string_lossy().into_owned();
        Ok(Self { process, address: format!("http://127.0.0.1:{port}"), profile })
    }

    /// Opens a window; to be called within the namespace ([`Netns::block_on`]).
    ///
    /// # Errors
    /// When Chromium does not start; what chromedriver said is in the lab's logs.
    pub async fn open(&self) -> Result<Window> {
        let mut capabilities = DesiredCapabilities::chrome();
        capabilities.set_binary(CHROMIUM)?;
        for argument in ARGUMENTS {
            capabilities.add_arg(argument)?;
        }
        capabilities.add_arg(&format!("--user-data-dir={}", self.profile))?;
        capabilities.set_logging_prefs("browser", LoggingPrefsLogLevel::All)?;
        capabilities.set_logging_prefs("performance", LoggingPrefsLogLevel::All)?;
        let driver = WebDriver::new(&self.address, capabilities)
            .await
            .with_context(|| format!("starting Chromium: {}", self.process.tail(5)))?;
        Ok(Window { driver: Some(driver) })
    }
}

/// One window.
#[derive(Debug)]
pub struct Window {
    /// Absent only once closed.
    driver: Option<WebDriver>,
}

impl Drop for Window {
    fn drop(&mut self) {
        // A failing test must not wait for a browser to say goodbye: the lab ends it.
        if let Some(driver) = self.driver.take() {
            _ = driver.leak();
        }
    }
}

impl Window {
    fn driver(&self) -> Result<&WebDriver> {
        self.driver.as_ref().context("the window is closed")
    }

    /// Loads a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub async fn goto(&self, url: &str) -> Result<()> {
        self.driver()?.goto(url).await.with_context(|| format!("loading {url}"))
    }

    /// Sets the viewport, in CSS pixels, and the colour scheme the user prefers (`light` or `dark`).
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn emulate(&self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let cdp = self.driver()?.cdp();
        let phone = width < 600;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        cdp.send_raw("Emulation.setDeviceMetricsOverride", size).await?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        cdp.send_raw("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Evaluates an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let result = self.driver()?.execute(format!("return {expression}"), Vec::new()).await;
        let result = result.with_context(|| format!("evaluating {expression}"))?;
        Ok(result.json().clone())
    }

    /// Waits until an expression is true, without touching the page.
    ///
    /// # Errors
    /// When `deadline` passes: says what `shown` evaluates to instead.
    pub async fn wait(&self, condition: &str, shown: &str, deadline: Duration) -> Result<Duration> {
        let start = Instant::now();
        while self.evaluate(condition).await? != Value::Bool(true) {
            if start.elapsed() > deadline {
                let seen = self.evaluate(shown).await?;
                bail!("gave up after {deadline:.1?} waiting for {condition}; last seen: {seen}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(start.elapsed())
    }

    /// What the page wrote to the console since the last call, warnings and errors only.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.driver()?.handle().browser_log().await?;
        let loud = entries.into_iter().filter(|entry| !["DEBUG", "INFO"].contains(&&*entry.level));
        Ok(loud.map(|entry| format!("{}: {}", entry.level, entry.message)).collect())
    }

    /// Every URL that was asked for over the network since the last call.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub async fn requests(&self) -> Result<Vec<String>> {
        let entries = self.driver()?.handle().get_log("performance").await?;
        let mut urls = Vec::new();
        for entry in entries {
            let event: Value = serde_json::from_str(&entry.message)?;
            let at = |pointer| event.pointer(pointer).and_then(Value::as_str);
            if at("/message/method") == Some("Network.requestWillBeSent") {
                // chrome:// is what the browser itself is made of.
                let url = at("/message/params/request/url").filter(|url| {
                    !["chrome:", "data:", "blob:"].iter().any(|scheme| url.starts_with(scheme))
                });
                urls.extend(url.map(str::to_owned));
            }
        }
        Ok(urls)
    }

    /// Writes a picture of the whole page.
    ///
    /// # Errors
    /// When it cannot be taken or written.
    pub async fn picture(&self, file: &std::path::Path) -> Result<()> {
        Ok(self.driver()?.screenshot(file).await?)
    }

    /// Closes the window and Chromium with it.
    ///
    /// # Errors
    /// When it does not close.
    pub async fn close(mut self) -> Result<()> {
        let driver = self.driver.take().context("the window is closed")?;
        Ok(driver.quit().await?)
    }
}
